"""Fourier transforms of pictures, and the spectra of kernels, which are kept until the kernel changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from .. import ops
from ..norms import squared_modulus
from ..ops.tensors import has_tangents
from .pictures import single
from .solve import rho_beside


def axes_of(dims: int) -> tuple[int, ...]:
    """The last axes, of which pictures have 2 and volumes 3."""
    return (-2, -1) if dims == 2 else tuple(range(-dims, 0))


def fourier(x: Tensor, centered: bool, dims: int = 2) -> Tensor:
    """F x, orthonormal, over the last axes; ``centered`` puts the frequency zero and the origin at (H//2, W//2)."""
    if x.numel() == 0:
        return x.to(x.dtype.to_complex())
    axes = axes_of(dims)
    if not centered:
        return torch.fft.fftn(x, dim=axes, norm="ortho")
    return torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(x, axes), dim=axes, norm="ortho"), axes)


def inverse_fourier(y: Tensor, centered: bool, dims: int = 2) -> Tensor:
    """Fᴴ y, the inverse of :func:`fourier`."""
    if y.numel() == 0:
        return y.to(y.dtype.to_complex())
    axes = axes_of(dims)
    if not centered:
        return torch.fft.ifftn(y, dim=axes, norm="ortho")
    return torch.fft.fftshift(torch.fft.ifftn(torch.fft.ifftshift(y, axes), dim=axes, norm="ortho"), axes)


def spectrum(kernel: Tensor, grid: Sequence[int], half: bool) -> Tensor:
    """k̂, the spectrum of kernels (..., h, w) with their centre (h//2, w//2) at the origin of a grid (H, W).

    The same of kernels (..., d, h, w) on a grid (D, H, W). half: of the frequencies that ``torch.fft.rfftn`` has.
    """
    axes, sides = axes_of(len(grid)), kernel.shape[-len(grid) :]
    behind = [n for axis in reversed(axes) for n in (0, grid[axis] - sides[axis])]
    padded = torch.roll(torch.nn.functional.pad(kernel, behind), [-(n // 2) for n in sides], axes)
    return torch.fft.rfftn(padded, dim=axes) if half else torch.fft.fftn(padded, dim=axes)


def mirrored(h: Tensor, dims: int) -> Tensor:
    """h(−k) for each frequency k of (..., H, W), or of (..., D, H, W)."""
    axes = axes_of(dims)
    return torch.roll(h.flip(axes), (1,) * dims, axes)


def kept(kind: Hashable, source: Tensor, shape: Sequence[int], half: bool, make: Callable[[], Tensor]) -> Tensor:
    """What ``make`` makes of ``source`` for pictures of a shape: kept until ``source`` changes, for the latest shape.

    It is made anew where its gradient or its tangent is recorded, or where PyTorch traces the call.
    """
    recorded = (source.requires_grad and torch.is_grad_enabled()) or has_tangents()
    if recorded or ops.is_tracing() or torch.is_inference_mode_enabled() or not source.is_contiguous():
        return make()
    return ops.cached(kind, [source], make, version=(*shape, half))


def shifted_power(source: Tensor, rho: Tensor | float, b: Tensor) -> Tensor:
    """|m|² + ρ of weights m, for ρ > 0 beside b."""

    def make(rho: Tensor) -> Tensor:
        h = squared_modulus(single(source))
        return h + rho.to(h.dtype)

    return _of_rho("shifted power", source, rho, b, make)


def inverse_power(h: Tensor, rho: Tensor | float, b: Tensor) -> Tensor:
    """1/(h + ρ), for ρ > 0 beside b."""
    return _of_rho("inverse power", h, rho, b, lambda rho: 1 / (h + rho.to(h.dtype)))


def _of_rho(kind: str, source: Tensor, rho: Tensor | float, b: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``make`` makes of ρ and ``source``: kept until that changes, for the latest ρ, as all iterations of ADMM
    have the same.

    A number ρ is checked where it is another one than before.
    """
    number = rho if type(rho) is float else None
    if number is None:
        rho = rho_beside(rho, b)

    def made() -> Tensor:
        return make(rho_beside(rho, b))

    learned = source.requires_grad or (isinstance(rho, Tensor) and rho.requires_grad)
    recorded = (learned and torch.is_grad_enabled()) or has_tangents()
    if recorded or ops.is_tracing() or torch.is_inference_mode_enabled() or not source.is_contiguous():
        return made()
    if number is None:
        assert isinstance(rho, Tensor)
        if rho.device.type != "cpu":
            return made()
        number = float(rho.detach())
    return ops.cached(kind, [source], made, version=number)


def largest_modulus(kernel: Tensor, dims: int) -> Tensor:
    """An upper bound of |k̂| over all frequencies, for kernels (..., h, w) or (..., d, h, w): exact for kernels ≥ 0.

    Else it is within 1 %, and within 6 % where kernels are volumes, which have fewer points.

    A trigonometric polynomial of degree n is at most its largest value on N > 2n equidistant points over cos(πn/N).

    Reference: Ehlich and Zeller, *Schwankung von Polynomen zwischen Gitterpunkten*, 1964.
    """
    kernel = kernel.detach().to(torch.complex128 if kernel.is_complex() else torch.float64)
    axes = axes_of(dims)
    total = kernel.abs().sum(axes)
    if not kernel.is_complex() and bool((kernel >= 0).all()):
        return total
    sides, finer = kernel.shape[-dims:], 16 if dims == 2 else 8
    grid = torch.fft.fftn(kernel, s=[finer * n for n in sides], dim=axes).abs().amax(axes)
    slack = math.prod(math.cos(math.pi * (n - 1) / (2 * finer * n)) for n in sides)
    return torch.minimum(total, grid / slack)
