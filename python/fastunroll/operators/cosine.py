"""The discrete cosine transform of pictures, by Fourier transforms."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..reference_wavelets import on_real_and_imaginary
from .pictures import Orthonormal, dims_of


class DCT(Orthonormal):
    """The orthonormal discrete cosine transform of type II of pictures, C x: what JPEG and many priors use.

    Aᴴ is the inverse transform, of type III, AᴴA = I and ‖A‖ = 1. One Fourier transform of the same size a call.

    Args:
        dims: 2 for pictures (..., H, W), or 3 for volumes (..., D, H, W).
        shape: the shape of one sample of x, if it is to be stated.

    Raises:
        ValueError: ``dims`` is neither 2 nor 3, or x has fewer dimensions.

    Example::

        A = blur @ fu.operators.DCT().H                # from cosine coefficients to the blurred picture

    Equivalent to::

        scipy.fft.dctn(x, axes=(-2, -1), norm="ortho")

    Reference: Makhoul, *A fast cosine transform in one and two dimensions*, 1980.
    """

    def __init__(self, dims: int = 2, *, shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.picture_dims = dims_of(dims)
        if shape is not None:
            self.shape_in = self.shape_out = self.state(shape)

    def forward(self, x: Tensor) -> Tensor:
        """The cosine coefficients of pictures: (..., H, W)."""
        return cosine_transform(self.pictures("x", x), self.picture_dims)

    def adjoint(self, y: Tensor) -> Tensor:
        """The pictures of cosine coefficients: (..., H, W)."""
        return inverse_cosine_transform(self.pictures("y", y), self.picture_dims)

    def extra_repr(self) -> str:
        return f"dims={self.picture_dims}"


def cosine_matrix(n: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> Tensor:
    """The orthonormal cosine transform of n numbers as a matrix (n, n)."""
    k = torch.arange(n, dtype=torch.float64, device=device)
    matrix = torch.cos(math.pi / (2 * n) * k[:, None] * (2 * k + 1)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix.to(dtype)


def cosine_transform(x: Tensor, dims: int) -> Tensor:
    """The orthonormal transform of type II over the last ``dims`` axes, of real or complex x."""

    def real(x: Tensor) -> Tensor:
        for axis in range(-dims, 0):
            x = _forward(x.movedim(axis, -1)).movedim(-1, axis)
        return x

    return on_real_and_imaginary(real, x) if x.numel() else x * 1


def inverse_cosine_transform(c: Tensor, dims: int) -> Tensor:
    """The orthonormal transform of type III over the last ``dims`` axes, the inverse of :func:`cosine_transform`."""

    def real(c: Tensor) -> Tensor:
        for axis in range(-dims, 0):
            c = _inverse(c.movedim(axis, -1)).movedim(-1, axis)
        return c

    return on_real_and_imaginary(real, c) if c.numel() else c * 1


def _phases(n: int, like: Tensor) -> Tensor:
    """w_k = √(2/n)·exp(−iπk/2n), and w₀ = √(1/n), for the frequencies 0 … n//2 of ``torch.fft.rfft``."""
    k = torch.arange(n // 2 + 1, dtype=torch.float64, device=like.device)
    w = torch.polar(torch.full_like(k, math.sqrt(2 / n)), -math.pi / (2 * n) * k)
    w[0] /= math.sqrt(2)
    return w.to(like.dtype.to_complex())


def _forward(x: Tensor) -> Tensor:
    """Along the last axis. The coefficients k and n − k are the real part and minus the imaginary part of w_k V_k,
    where V is the Fourier transform of the even entries of x followed by the odd ones backwards.
    """
    n = int(x.shape[-1])  # torch.jit.trace makes tensors of sizes
    v = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)
    products = _phases(n, x) * torch.fft.rfft(v)
    return torch.cat([products.real, -products.imag[..., 1 : (n + 1) // 2].flip(-1)], -1)


def _inverse(c: Tensor) -> Tensor:
    """Along the last axis."""
    n = int(c.shape[-1])
    real = c[..., : n // 2 + 1]
    imaginary = torch.cat([torch.zeros_like(c[..., :1]), -c[..., n - n // 2 :].flip(-1)], -1)
    w = _phases(n, c)
    v = torch.fft.irfft(torch.complex(real, imaginary) / w, n)
    x = torch.empty_like(v)
    x[..., ::2], x[..., 1::2] = v[..., : (n + 1) // 2], v[..., (n + 1) // 2 :].flip(-1)
    return x
