"""Products that are diagonal in Fourier space: circular blurs, masks of the Fourier transform, coils.

Each is one call for a batch of pictures (..., H, W). Diagonals are in the order of ``torch.fft``, (H, W), or
(H, W//2 + 1) as ``torch.fft.rfft2`` has it where x is real, with the leading axes of x or none.
"""

from __future__ import annotations

import torch
from torch import Tensor


def fourier_diagonal(x: Tensor, d: Tensor) -> Tensor:
    """F⁻¹ diag(d) F x. For real x, d has the symmetry of a spectrum of real numbers, and the result is real."""
    if x.numel() == 0:
        return x * 0
    if x.is_complex():
        return torch.fft.ifft2(d * torch.fft.fft2(x))
    return torch.fft.irfft2(d * torch.fft.rfft2(x), s=x.shape[-2:])


def fourier_normal(x: Tensor, h: Tensor, z: Tensor | None = None) -> Tensor:
    """Fᴴ diag(h) F x − z, with an h that is real."""
    product = fourier_diagonal(x, h)
    return product if z is None else product - z


def coil_normal(x: Tensor, maps: Tensor, h: Tensor, z: Tensor | None = None) -> Tensor:
    """Σ_c conj(S_c) Fᴴ diag(h) F (S_c x) − z, with maps S (C, H, W), or (..., C, H, W) with the leading axes of x."""
    h = h if h.dim() == 2 else h.unsqueeze(-3)
    product = (maps.conj() * fourier_diagonal(maps * x.unsqueeze(-3), h)).sum(-3)
    return product if z is None else product - z
