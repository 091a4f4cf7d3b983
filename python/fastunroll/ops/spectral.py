"""Operators that are diagonal in Fourier space, over the last two axes: F⁻¹ diag(d) F x.

F is the two-dimensional discrete Fourier transform, and d has the order of :mod:`torch.fft`. Images are complex, and d
is (H, W); or they are real, and d is the half (H, W // 2 + 1) of a spectrum that :func:`torch.fft.rfft2` returns.

With ``dims=3`` the same holds of volumes and their last three axes, by :mod:`torch.fft`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._precision import own_precision
from .backends import is_supported_on_cpu
from .cpu import larger_grid
from .cpu import spectral as cpu
from .library import below_autograd, differentiate, operator, require, untraced
from .tensors import differentiable, is_batched, is_plain, is_tracing, real_dtype

if TYPE_CHECKING:
    from .._fastunroll import Monitor


def fourier_diagonal(x: Tensor, d: Tensor, adjoint: bool = False, dims: int = 2) -> Tensor:
    """F⁻¹ diag(d) F x, such as a circular convolution, for each image of a batch.

    Equivalent to::

        ifft2(d * fft2(x))                        # complex x
        irfft2(d * rfft2(x), s=x.shape[-2:])      # real x

    Args:
        x: images, (..., H, W), real or complex.
        d: (H, W) for complex images, (H, W // 2 + 1) for real images; real or complex. d may have leading axes, which
            broadcast with those of x: one d for each image.
        adjoint: whether conj(d) takes the place of d, which costs nothing.
        dims: 2, or 3 for volumes (..., D, H, W).

    Returns:
        (..., H, W), real where x is real.
    """
    return _filter(x, d, adjoint=adjoint) if dims == 2 else _plain(x, d.conj() if adjoint else d, None, None, dims)


def fourier_normal(x: Tensor, h: Tensor, z: Tensor | None = None, dims: int = 2) -> Tensor:
    """F⁻¹ diag(h) F x − z, the gradient Aᴴ(A x − y) of a blur or of Fourier samples, with z = Aᴴ y.

    h is |k̂|² for a circular blur with the transfer function k̂, and the squared mask for an orthonormal F.

    Equivalent to::

        fourier_diagonal(x, h) - z

    Args:
        x: images, (..., H, W), real or complex.
        h: as d of :func:`fourier_diagonal`.
        z: (..., H, W), of the dtype of x; None for zero.
        dims: 2, or 3 for volumes (..., D, H, W).

    Returns:
        (..., H, W), of the dtype of x.
    """
    return _filter(x, h, z) if dims == 2 else _plain(x, h, z, None, dims)


def coil_normal(x: Tensor, maps: Tensor, h: Tensor, z: Tensor | None = None, dims: int = 2) -> Tensor:
    """Σ_c conj(S_c) F⁻¹ diag(h) F (S_c x) − z, the gradient Aᴴ(A x − y) of Fourier samples of several coils.

    Equivalent to::

        k = fft2(maps * x.unsqueeze(-3)) * h.unsqueeze(-3)
        (maps.conj() * ifft2(k)).sum(-3) - z

    Args:
        x: images, (..., H, W), complex.
        maps: the sensitivities S_c, (C, H, W), complex. Leading axes broadcast with those of x.
        h: real, (H, W). Leading axes broadcast with those of x.
        z: (..., H, W), complex; None for zero.
        dims: 2, or 3 for volumes (..., D, H, W).

    Returns:
        (..., H, W), complex.
    """
    return _filter(x, h, z, maps=maps) if dims == 2 else _plain(x, h, z, maps, dims)


class PackedFilter:
    """F⁻¹ diag(d) F for pictures of one size, with d as the kernels read it.

    It is kept with the monitor of the tensor that it was made of.

    A call asks nothing of its tensors in Python. It returns None where they are not plain, do not fit, or require a
    gradient: then :func:`fourier_normal` says what is wrong, or computes it. It returns False where the tensor has
    changed. ``added`` + ``scale``·x takes the place of x where there are such pictures.

    Args:
        d: as :func:`fourier_diagonal` takes it, contiguous, on the CPU.
        shape: (H, W).
        is_real: whether the pictures are real.
    """

    def __init__(self, d: Tensor, shape: tuple[int, int], is_real: bool) -> None:
        self.shape, self.lead = shape, tuple(d.shape[:-2])
        of_rows, grid = d.shape[-2] == 1, shape
        if not (cpu.is_fft_length(shape[0]) and cpu.is_fft_length(shape[1])):
            d, grid = larger_grid.spectrum(d, is_real, shape), larger_grid.grid(shape, of_rows)
        self.packed = cpu.packed(d, is_real, (math.prod(self.lead), *grid), of_rows)

    def __call__(
        self, monitor: Monitor, tensor: Tensor, x: Tensor, z: Tensor | None, maps: Tensor | None, adjoint: bool,
        added: Tensor | None, scale: float, threads: int, records: bool,
    ) -> Tensor | bool | None:  # fmt: skip
        repeat = 1
        if self.lead:
            batch = x.shape[:-2]
            layout = cpu.repetition(self.lead, batch) if len(self.lead) <= len(batch) else None
            if layout is None:
                return None
            repeat = layout[1]
        found: Tensor | bool | None = self.packed.filter(
            monitor, tensor, self.shape, x, z, maps, adjoint, repeat, threads, records, added, scale
        )
        return found


def fits(x: Tensor, d: Tensor, z: Tensor | None, maps: Tensor | None = None) -> bool:
    """Whether the kernels take these images, this spectrum and these maps."""
    return _have_fft_lengths(x) and _agree(x, d, z, maps)


def _have_fft_lengths(x: Tensor) -> bool:
    return cpu.is_fft_length(x.shape[-2]) and cpu.is_fft_length(x.shape[-1])


def _agree(x: Tensor, d: Tensor, z: Tensor | None, maps: Tensor | None) -> bool:
    """Whether the shapes, types and devices of these images, this spectrum and these maps fit."""
    rows, columns = x.shape[-2:]
    width = columns if x.is_complex() else columns // 2 + 1
    return (
        x.numel() > 0
        and d.shape[-2:] in ((rows, width), (1, width))
        and (d.dim() == 2 or broadcasts(d.shape[:-2], x.shape[:-2]))
        and real_dtype(d) == real_dtype(x)
        and d.device == x.device
        and (z is None or (z.shape == x.shape and z.dtype == x.dtype and z.device == x.device))
        and (maps is None or (not d.is_complex() and _maps_agree(x, maps)))
    )


def _maps_agree(x: Tensor, maps: Tensor) -> bool:
    return (
        x.is_complex()
        and maps.dim() >= 3
        and maps.shape[-2:] == x.shape[-2:]
        and maps.shape[-3] > 0
        and (maps.dim() == 3 or broadcasts(maps.shape[:-3], x.shape[:-2]))
        and maps.dtype == x.dtype
        and maps.device == x.device
    )


def broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Whether a shape broadcasts to another one, which stays as it is."""
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(shape[::-1], to[::-1], strict=False))


def _fake(x: Tensor, *others: object) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@operator("fourier_filter(Tensor x, Tensor d, Tensor? z, bool adjoint) -> Tensor", _fake)
def _fourier_filter(x: Tensor, d: Tensor, z: Tensor | None, adjoint: bool) -> Tensor:
    require(is_supported_on_cpu(x, complex_too=True) and fits(x, d, z), "fourier_filter")
    return cpu.fourier_filter(x, d, z, adjoint)


@operator("coil_normal(Tensor x, Tensor maps, Tensor h, Tensor? z) -> Tensor", _fake)
def _coil_normal(x: Tensor, maps: Tensor, h: Tensor, z: Tensor | None) -> Tensor:
    require(is_supported_on_cpu(x, complex_too=True) and fits(x, h, z, maps), "coil_normal")
    return cpu.coil_normal(x, maps, h, z)


def _save_filter(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, d, _, ctx.adjoint = inputs
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, d)


def _filter_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, d = ctx.saved_tensors
    need_x, need_d, need_z, _ = ctx.needs_input_grad
    return (
        _filter(grad, d, adjoint=not ctx.adjoint) if need_x else None,
        _spectrum_gradient(x, grad, d, ctx.adjoint) if need_d else None,
        -grad if need_z else None,
        None,
    )


def _spectrum_gradient(x: Tensor, grad: Tensor, d: Tensor, adjoint: bool) -> Tensor:
    """The gradient of d: conj(F x) · F g / (H W), where each number of half a spectrum counts as often as it occurs."""
    if x.is_complex():
        product = torch.fft.fft2(x).conj() * torch.fft.fft2(grad)
    else:
        product = torch.fft.rfft2(x).conj() * torch.fft.rfft2(grad)
        product = torch.cat([product[..., :1], product[..., 1:] * _occurrences(x)], -1)
    product = (product.conj() if adjoint else product) / (x.shape[-2] * x.shape[-1])
    return (product if d.is_complex() else product.real).sum_to_size(d.shape)


def _occurrences(x: Tensor) -> Tensor:
    """Two for each column 1, 2, ... of half a spectrum, but one for the last where the number of columns is even."""
    columns = x.shape[-1]
    return torch.where(2 * torch.arange(1, columns // 2 + 1, device=x.device) == columns, 1.0, 2.0).to(x.dtype)


def _save_coils(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, maps, h, _ = inputs
    ctx.save_for_backward(x if any(ctx.needs_input_grad[1:3]) else None, maps, h)


def _coils_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, maps, h = ctx.saved_tensors
    need_x, need_maps, need_h, need_z = ctx.needs_input_grad
    return (
        _filter(grad, h, maps=maps) if need_x else None,
        _maps_gradient(x, maps, h, grad) if need_maps else None,
        _coil_spectrum_gradient(x, maps, h, grad) if need_h else None,
        -grad if need_z else None,
    )


def _maps_gradient(x: Tensor, maps: Tensor, h: Tensor, grad: Tensor) -> Tensor:
    """The gradient of S: conj(x) P S g + conj(g) P S x with P = F⁻¹ diag(h) F."""
    x, grad, h = x.unsqueeze(-3), grad.unsqueeze(-3), h.unsqueeze(-3)
    found = x.conj() * _filter(maps * grad, h) + grad.conj() * _filter(maps * x, h)
    return found.sum_to_size(maps.shape)


def _coil_spectrum_gradient(x: Tensor, maps: Tensor, h: Tensor, grad: Tensor) -> Tensor:
    """The gradient of h: the real part of Σ_c conj(F S_c x) · F S_c g / (H W)."""
    product = torch.fft.fft2(maps * x.unsqueeze(-3)).conj() * torch.fft.fft2(maps * grad.unsqueeze(-3))
    return (product.real.sum(-3) / (x.shape[-2] * x.shape[-1])).sum_to_size(h.shape)


differentiate(_fourier_filter, _filter_backward, _save_filter)
differentiate(_coil_normal, _coils_backward, _save_coils)

_untraced_filter = untraced(_fourier_filter, _save_filter, _filter_backward)
_untraced_coils = untraced(_coil_normal, _save_coils, _coils_backward)


def _filter(x: Tensor, d: Tensor, z: Tensor | None = None, adjoint: bool = False, maps: Tensor | None = None) -> Tensor:
    """Σ_c conj(S_c) F⁻¹ diag(d) F (S_c x) − z, or F⁻¹ diag(d) F x − z without maps; conj(d) for d if ``adjoint``."""
    supported = not is_batched(x, d, z, maps) and is_supported_on_cpu(x, complex_too=True) and _agree(x, d, z, maps)
    if supported and _have_fft_lengths(x):
        if maps is None:
            return _call(_fourier_filter, _untraced_filter, cpu.fourier_filter, x, d, z, adjoint)
        return _call(_coil_normal, _untraced_coils, cpu.coil_normal, x, maps, d, z)
    if not supported or not larger_grid.can_be_kept(*(t for t in (maps, d) if t is not None)):
        return _plain(x, d.conj() if adjoint else d, z, maps)
    shape = x.shape[-2], x.shape[-1]
    to, d = larger_grid.grid(shape, d.shape[-2] == 1), larger_grid.spectrum(d, not x.is_complex(), shape)
    maps = None if maps is None else larger_grid.padded_maps(maps, to)
    is_shared = d.dim() == 2 and (maps is None or maps.dim() == 3)
    return _on_larger_grid(lambda v: _filter(v, d, None, adjoint, maps), x, z, to, is_shared)


def _on_larger_grid(
    product: Callable[[Tensor], Tensor], x: Tensor, z: Tensor | None, to: tuple[int, int], is_shared: bool
) -> Tensor:
    """The product of images with zeros after them, minus z. is_shared: whether all images have the same spectrum."""
    with own_precision(x):
        if is_shared and not differentiable(x, z):
            return larger_grid.image_by_image(product, x, z, to)
        y = product(larger_grid.padded(x, to))[..., : x.shape[-2], : x.shape[-1]]
        return y.contiguous() if z is None else y - z


def _call(overload: Any, recorded: Any, compute: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """The operator, on the shortest way that keeps what torch traces or differentiates."""
    tensors = [t for t in arguments if isinstance(t, Tensor)]
    out: Tensor
    if is_tracing():
        out = overload(*arguments)
    elif differentiable(*tensors):
        out = recorded(*arguments)
    elif all(map(is_plain, tensors)):
        out = compute(*arguments)  # without the dispatcher, which takes longer than a small image
    else:
        with below_autograd():
            out = overload(*arguments)
    return out


def _plain(x: Tensor, d: Tensor, z: Tensor | None, maps: Tensor | None, dims: int = 2) -> Tensor:
    """The same by :mod:`torch.fft`, over the last ``dims`` axes, which d has."""
    with own_precision(x):
        if 0 in x.shape[:-dims]:
            y = _of_empty_batch(x, d) if maps is None else _of_empty_batch(x, maps, d)
        elif dims == 2 or x.dim() == dims or is_tracing():
            y = _transformed(x, d, maps, dims)
        else:
            y = _volume_by_volume(x, d, maps)
        return y if z is None else y - z


def _volume_by_volume(x: Tensor, d: Tensor, maps: Tensor | None) -> Tensor:
    """Each volume alone, since the last bits of a real one that :mod:`torch.fft` returns depend on its batch."""
    lead = x.shape[:-3]

    def of_each(t: Tensor | None, dims: int) -> Iterable[Any]:
        if t is None or t.dim() == dims:
            return repeat(t)
        return t.expand(*lead, *t.shape[-dims:]).flatten(0, -dims - 1).unbind()

    volumes = zip(x.flatten(0, -4).unbind(), of_each(d, 3), of_each(maps, 4), strict=False)
    return torch.stack([_transformed(v, d, maps, 3) for v, d, maps in volumes]).reshape(x.shape)


def _transformed(x: Tensor, d: Tensor, maps: Tensor | None, dims: int) -> Tensor:
    """F⁻¹ diag(d) F x, or its sum over coils, over the last ``dims`` axes."""
    axes, coils = tuple(range(-dims, 0)), -dims - 1
    if maps is not None:
        k = torch.fft.fftn(maps * x.unsqueeze(coils), dim=axes) * d.unsqueeze(coils)
        return (maps.conj() * torch.fft.ifftn(k, dim=axes)).sum(coils)
    if x.is_complex():
        return torch.fft.ifftn(d * torch.fft.fftn(x, dim=axes), dim=axes)
    return torch.fft.irfftn(d * torch.fft.rfftn(x, dim=axes), s=x.shape[-dims:], dim=axes)


def _of_empty_batch(x: Tensor, *others: Tensor) -> Tensor:
    """What :mod:`torch.fft` refuses to compute: no image, with gradients of zero for all arguments."""
    return x * sum(t.abs().sum() for t in others)
