"""Fourier transforms of pictures, and the spectra of kernels, which are kept until the kernel changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from .. import ops
from ..norms import squared_modulus
from ..ops.tensors import has_tangents
from .pictures import single
from .solve import rho_beside


def fourier(x: Tensor, centered: bool) -> Tensor:
    """F x, orthonormal, over the last two axes; ``centered`` puts the frequency zero and the origin at (H//2, W//2)."""
    if x.numel() == 0:
        return x.to(x.dtype.to_complex())
    if not centered:
        return torch.fft.fft2(x, norm="ortho")
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x, (-2, -1)), norm="ortho"), (-2, -1))


def inverse_fourier(y: Tensor, centered: bool) -> Tensor:
    """Fᴴ y, the inverse of :func:`fourier`."""
    if y.numel() == 0:
        return y.to(y.dtype.to_complex())
    if not centered:
        return torch.fft.ifft2(y, norm="ortho")
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(y, (-2, -1)), norm="ortho"), (-2, -1))


def spectrum(kernel: Tensor, grid: tuple[int, int], half: bool) -> Tensor:
    """k̂, the spectrum of kernels (..., h, w) with their centre (h//2, w//2) at the origin of a grid (H, W).

    half: of the frequencies that ``torch.fft.rfft2`` has.
    """
    h, w = kernel.shape[-2:]
    padded = torch.nn.functional.pad(kernel, (0, grid[1] - w, 0, grid[0] - h))
    padded = torch.roll(padded, (-(h // 2), -(w // 2)), (-2, -1))
    return torch.fft.rfft2(padded) if half else torch.fft.fft2(padded)


def mirrored(h: Tensor) -> Tensor:
    """h(−k) for each frequency k of (..., H, W)."""
    return torch.roll(h.flip((-2, -1)), (1, 1), (-2, -1))


def kept(kind: Hashable, source: Tensor, shape: tuple[int, int], half: bool, make: Callable[[], Tensor]) -> Tensor:
    """What ``make`` makes of ``source`` for pictures of a shape: kept until ``source`` changes, for the latest shape.

    It is made anew where its gradient or its tangent is recorded, or where PyTorch traces the call.
    """
    recorded = (source.requires_grad and torch.is_grad_enabled()) or has_tangents()
    if recorded or ops.is_tracing() or torch.is_inference_mode_enabled() or not source.is_contiguous():
        return make()
    return ops.cached(kind, [source], make, version=shape[0] << 33 | shape[1] << 1 | half)


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


def largest_modulus(kernel: Tensor) -> Tensor:
    """An upper bound of |k̂| over all frequencies, for kernels (..., h, w): exact for kernels ≥ 0, else within 1 %.

    A trigonometric polynomial of degree n is at most its largest value on N > 2n equidistant points over cos(πn/N).

    Reference: Ehlich and Zeller, *Schwankung von Polynomen zwischen Gitterpunkten*, 1964.
    """
    kernel = kernel.detach().to(torch.complex128 if kernel.is_complex() else torch.float64)
    total = kernel.abs().sum((-2, -1))
    if not kernel.is_complex() and bool((kernel >= 0).all()):
        return total
    h, w = kernel.shape[-2:]
    grid = torch.fft.fft2(kernel, s=(16 * h, 16 * w)).abs().amax((-2, -1))
    slack = math.cos(math.pi * (h - 1) / (32 * h)) * math.cos(math.pi * (w - 1) / (32 * w))
    return torch.minimum(total, grid / slack)
