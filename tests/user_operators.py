"""Operators as users write them: a blur, samples of the Fourier transform, a wavelet, sums by NumPy; and composed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

lin = fu.operators
H, W, M, N = 6, 10, 7, 11  # even, as the wavelet needs


class Blur(lin.LinearOperator):
    """A circular blur."""

    def __init__(self, kernel: Tensor, learn: bool = False) -> None:
        super().__init__()
        self.kernel = nn.Parameter(kernel, requires_grad=learn)
        self.shape_in = self.shape_out = tuple(kernel.shape)

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x) * torch.fft.rfft2(self.kernel), s=self.shape_in)

    def adjoint(self, y: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(y) * torch.fft.rfft2(self.kernel).conj(), s=self.shape_in)


class FourierMask(lin.LinearOperator):
    """Samples of the Fourier transform of complex pictures: a scanner."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.shape_in = self.shape_out = tuple(mask.shape[-2:])

    def forward(self, x: Tensor) -> Tensor:
        return self.mask * torch.fft.fft2(x, norm="ortho")

    def adjoint(self, y: Tensor) -> Tensor:
        return torch.fft.ifft2(self.mask * y, norm="ortho")

    def norm(self) -> float:
        return float(self.mask.abs().max())

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        return torch.fft.ifft2(torch.fft.fft2(b) / (self.mask.square() + rho))


class Haar(lin.LinearOperator):
    """One level of the orthonormal Haar wavelet of pictures."""

    def forward(self, x: Tensor) -> Tensor:
        for dim in (-1, -2):
            even, odd = x.unflatten(dim, (-1, 2)).unbind(dim)
            x = torch.cat([even + odd, even - odd], dim) / 2**0.5
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        for dim in (-2, -1):
            low, high = y.chunk(2, dim)
            y = torch.stack([low + high, low - high], dim).flatten(dim - 1, dim) / 2**0.5
        return y


class Sums(lin.LinearOperator):
    """Sums of all before, by NumPy, which PyTorch cannot differentiate."""

    shape_in = shape_out = (N,)

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.cumsum(x.numpy(), -1))

    def adjoint(self, y: Tensor) -> Tensor:
        return torch.from_numpy(np.cumsum(y.numpy()[..., ::-1], -1)[..., ::-1].copy())


def kernel(dtype: torch.dtype) -> Tensor:
    k = torch.zeros(H, W, dtype=dtype.to_real())
    k[:2, :3] = torch.tensor([[0.3, 0.2, 0.1], [0.2, 0.15, 0.05]])
    return k


def matrix(dtype: torch.dtype, *lead: int) -> Tensor:
    return torch.randn(*lead, M, N, dtype=dtype, generator=torch.Generator().manual_seed(1)) / 3


def mask(dtype: torch.dtype, *lead: int) -> Tensor:
    return (torch.rand(*lead, H, W, generator=torch.Generator().manual_seed(2)) < 0.6).to(dtype.to_real())


def synthesis(dtype: torch.dtype) -> lin.LinearOperator:
    return Blur(kernel(dtype)) @ Haar().H


# What makes an operator for a dtype of x, and whether x is real, complex or either.
OPERATORS: dict[str, tuple[Callable[[torch.dtype], Any], str]] = {
    "blur": (lambda dtype: Blur(kernel(dtype)), "real"),
    "learned blur": (lambda dtype: Blur(kernel(dtype), learn=True), "real"),
    "Fourier": (lambda dtype: FourierMask(mask(dtype)), "complex"),
    "Fourier, a mask for each sample": (lambda dtype: FourierMask(mask(dtype, 3)), "complex"),
    "wavelet": (lambda dtype: Haar(), "either"),
    "NumPy": (lambda dtype: Sums(), "either"),
    "Dense": (lambda dtype: lin.Dense(matrix(dtype)), "either"),
    "Dense that learns": (lambda dtype: lin.Dense(matrix(dtype), learn=True), "either"),
    "Dense for each sample": (lambda dtype: lin.Dense(matrix(dtype, 3)), "either"),
    "identity": (lambda dtype: lin.Identity((H, W)), "either"),
    "adjoint": (lambda dtype: lin.Dense(matrix(dtype)).H, "either"),
    "composed": (synthesis, "real"),
    "composed adjoint": (lambda dtype: synthesis(dtype).H, "real"),
    "composed matrices": (lambda dtype: lin.Dense(matrix(dtype)).H @ lin.Dense(matrix(dtype)), "either"),
    "sum": (lambda dtype: Blur(kernel(dtype)) + 0.3 * lin.Identity((H, W)) - Haar(), "real"),
    "scaled": (lambda dtype: -FourierMask(mask(dtype)) * (2 + 1j) / 3, "complex"),
    "sparse": (lambda dtype: lin.as_operator(matrix(dtype).to_sparse_csr()), "either"),
}
CASES = [
    (name, dtype)
    for name, (_, kind) in OPERATORS.items()
    for dtype in (torch.float32, torch.float64, torch.complex64, torch.complex128)
    if kind == "either" or dtype.is_complex == (kind == "complex")
]


def shape_of(name: str) -> tuple[int, ...]:
    """Of one sample of x."""
    if name == "NumPy" or "matri" in name or name.startswith(("Dense", "sparse")):
        return (N,)
    return (M,) if name == "adjoint" else (H, W)


def batches(name: str) -> list[tuple[int, ...]]:
    """Leading shapes that an operator takes."""
    if "each sample" in name:
        return [(3,), (2, 3)] if "Fourier" in name else [(3,), (2, 3), (0, 3)]
    # PyTorch has no Fourier transform of an empty batch.
    return [(), (1,), (3,), (2, 3), *([] if shape_of(name) == (H, W) else [(0,)])]


def dense(op: lin.LinearOperator, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The matrix of an operator that holds nothing for each sample, from its products."""
    eye = torch.eye(int(np.prod(shape)), dtype=dtype).reshape(-1, *shape)
    with torch.no_grad():
        return op(eye).flatten(1).mT


def check_gradients(
    op: nn.Module, call: Callable[..., Any], given: tuple[Tensor, ...], *, second: bool = True, **options: float
) -> None:
    """First and second derivatives of a method of an operator, in its arguments and in what learns."""
    names = [n for n, p in op.named_parameters() if p.requires_grad]
    parameters = [p.detach().clone().requires_grad_() for p in op.parameters() if p.requires_grad]

    def function(*values: Tensor) -> Any:
        if not names:
            return call(*values)
        with nn.utils.stateless._reparametrize_module(op, dict(zip(names, values[len(given) :], strict=True))):  # type: ignore[attr-defined]
            return call(*values[: len(given)])

    assert gradcheck(function, (*given, *parameters), fast_mode=True, **options)
    assert not second or gradgradcheck(function, (*given, *parameters), fast_mode=True, **options)
