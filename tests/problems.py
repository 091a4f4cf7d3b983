"""Sparse problems for the classical solvers, and what they are judged by, in double precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import fastunroll as fu
import torch
from torch import Tensor


def sparse_problem(
    m: int, n: int, batch: int, dtype: torch.dtype = torch.float64, share: float = 0.1
) -> tuple[Tensor, Tensor, Tensor]:
    """A, y and λ, (batch, 1): a tenth of the one that makes x zero."""
    A = torch.randn(m, n, dtype=dtype) / m**0.5
    x = torch.randn(batch, n, dtype=dtype) * (torch.rand(batch, n) < share)
    y = x @ A.mT + 0.01 * torch.randn(batch, m, dtype=dtype)
    return A, y, 0.1 * (y @ A.conj()).abs().amax(-1, keepdim=True)


def gap(x: Tensor, y: Tensor, A: Tensor, lam: Tensor | float) -> Tensor:
    """Primal minus dual over ½‖y‖², by the definition."""
    wide = torch.complex128 if y.is_complex() else torch.float64
    x, y, A = x.to(wide), y.to(wide), A.to(wide)
    lam = torch.as_tensor(lam).double()
    R = y - x @ A.mT
    square = R.abs().square().sum(-1)
    bound = (lam / (R @ A.conj()).abs()).amin(-1)
    s = ((R.conj() * y).real.sum(-1) / square).clamp(-bound, bound)
    primal = square / 2 + (lam * x.abs()).sum(-1)
    dual = (y.abs().square().sum(-1) - (y - s[..., None] * R).abs().square().sum(-1)) / 2
    return (primal - dual) / (y.abs().square().sum(-1) / 2)


class Blur:
    """A circular blur of (B, h, w) images by a kernel, with its adjoint: no matrix, no norm."""

    def __init__(self, h: int, w: int, dtype: torch.dtype = torch.float64) -> None:
        kernel = torch.zeros(h, w, dtype=dtype)
        kernel[:3, :2] = torch.tensor([[0.4, 0.2], [0.2, 0.1], [0.05, 0.05]], dtype=dtype)
        self.transfer = torch.fft.rfft2(kernel)
        self.shape = (h, w)

    def _filter(self, x: Tensor, transfer: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x) * transfer, s=self.shape)

    def __call__(self, x: Tensor) -> Tensor:
        return self._filter(x, self.transfer)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._filter(y, self.transfer.conj())

    def solve(self, b: Tensor, rho: Tensor) -> Tensor:
        """(AᵀA + ρI)⁻¹b, as ADMM asks for."""
        return self._filter(b, 1 / (self.transfer.abs().square() + rho))

    def matrix(self) -> Tensor:
        """(h·w, h·w)."""
        h, w = self.shape
        eye = torch.eye(h * w, dtype=self.transfer.real.dtype)
        return self(eye.reshape(-1, h, w)).reshape(h * w, h * w).mT


class Opaque:
    """A matrix of which nothing is known but its products."""

    def __init__(self, A: Tensor) -> None:
        self.A = A

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.A.mT

    def adjoint(self, y: Tensor) -> Tensor:
        return y @ self.A.conj()


class Counted(Opaque):
    """Counts its products, and states its norm."""

    def __init__(self, A: Tensor) -> None:
        super().__init__(A)
        self.forwards = self.adjoints = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.forwards += 1
        return super().__call__(x)

    def adjoint(self, y: Tensor) -> Tensor:
        self.adjoints += 1
        return super().adjoint(y)

    def norm(self) -> float:
        return float(torch.linalg.matrix_norm(self.A, 2))


@dataclass
class Pair:
    """Two functions as an operator. It is neither hashable nor compared by identity."""

    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        return self.forward(x)


def objective(x: Tensor, y: Tensor, A: Tensor, lam: Tensor | float) -> Tensor:
    return fu.losses.lasso_objective(x, y, A, lam)
