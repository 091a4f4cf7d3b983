"""Operators that are diagonal in Fourier space, over the last two axes: F⁻¹ diag(d) F x.

F is the two-dimensional discrete Fourier transform, and d has the order of :mod:`torch.fft`. Images are complex, and d
is (H, W); or they are real, and d is the half (H, W // 2 + 1) of a spectrum that :func:`torch.fft.rfft2` returns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._precision import own_precision


def fourier_diagonal(x: Tensor, d: Tensor) -> Tensor:
    """F⁻¹ diag(d) F x, such as a circular convolution, for each image of a batch.

    Equivalent to::

        ifft2(d * fft2(x))                        # complex x
        irfft2(d * rfft2(x), s=x.shape[-2:])      # real x

    Args:
        x: images, (..., H, W), real or complex.
        d: (H, W) for complex images, (H, W // 2 + 1) for real images; real or complex. d may have leading axes, which
            broadcast with those of x: one d for each image.

    Returns:
        (..., H, W), real where x is real.
    """
    return _plain_filter(x, d, None)


def fourier_normal(x: Tensor, h: Tensor, z: Tensor | None = None) -> Tensor:
    """F⁻¹ diag(h) F x − z, the gradient Aᴴ(A x − y) of a blur or of Fourier samples, with z = Aᴴ y.

    h is |k̂|² for a circular blur with the transfer function k̂, and the squared mask for an orthonormal F.

    Equivalent to::

        fourier_diagonal(x, h) - z

    Args:
        x: images, (..., H, W), real or complex.
        h: as d of :func:`fourier_diagonal`.
        z: (..., H, W), of the dtype of x; None for zero.

    Returns:
        (..., H, W), of the dtype of x.
    """
    return _plain_filter(x, h, z)


def coil_normal(x: Tensor, maps: Tensor, h: Tensor, z: Tensor | None = None) -> Tensor:
    """Σ_c conj(S_c) F⁻¹ diag(h) F (S_c x) − z, the gradient Aᴴ(A x − y) of Fourier samples of several coils.

    Equivalent to::

        k = fft2(maps * x.unsqueeze(-3)) * h.unsqueeze(-3)
        (maps.conj() * ifft2(k)).sum(-3) - z

    Args:
        x: images, (..., H, W), complex.
        maps: the sensitivities S_c, (C, H, W), complex. Leading axes broadcast with those of x.
        h: real, (H, W). Leading axes broadcast with those of x.
        z: (..., H, W), complex; None for zero.

    Returns:
        (..., H, W), complex.
    """
    return _plain_coils(x, maps, h, z)


def _plain_filter(x: Tensor, d: Tensor, z: Tensor | None) -> Tensor:
    with own_precision(x):
        if x.is_complex():
            y = torch.fft.ifft2(d * torch.fft.fft2(x))
        else:
            y = torch.fft.irfft2(d * torch.fft.rfft2(x), s=x.shape[-2:])
        return y if z is None else y - z


def _plain_coils(x: Tensor, maps: Tensor, h: Tensor, z: Tensor | None) -> Tensor:
    with own_precision(x):
        k = torch.fft.fft2(maps * x.unsqueeze(-3)) * h.unsqueeze(-3)
        y = (maps.conj() * torch.fft.ifft2(k)).sum(-3)
        return y if z is None else y - z
