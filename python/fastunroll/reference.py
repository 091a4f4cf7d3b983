"""Every operation in plain PyTorch: the specification, the oracle of the tests, and what runs where no kernel does.

Samples come first: ``y`` is (..., m), ``x`` is (..., n), ``A`` is (m, n).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def soft_threshold(x: Tensor, theta: Tensor) -> Tensor:
    """S_θ(x) = sign(x)·max(|x| − θ, 0), with sign(x) = x/|x| for complex x."""
    return torch.sgn(x) * torch.relu(x.abs() - theta)


def product(x: Tensor, A: Tensor, *, adjoint: bool = False, start: Tensor | None = None) -> Tensor:
    """A x for each sample, or Aᴴ x, added to ``start``."""
    out = x @ (A.conj() if adjoint else A.mT)
    return out if start is None else start + out


def outer(g: Tensor, x: Tensor) -> Tensor:
    """The sum over samples of g xᵀ."""
    return g.mT @ x


def gradient_step(x: Tensor, y: Tensor, A: Tensor, step: Tensor) -> Tensor:
    """x − step·Aᴴ(A x − y)."""
    return x - step * product(product(x, A, start=-y), A, adjoint=True)


def ista_step(x: Tensor, y: Tensor, A: Tensor, step: Tensor, theta: Tensor) -> Tensor:
    """S_θ(x − step·Aᴴ(A x − y))."""
    return soft_threshold(gradient_step(x, y, A, step), theta)


def ista(y: Tensor, A: Tensor, x0: Tensor, step: Tensor, theta: Tensor, momentum: Sequence[float]) -> Tensor:
    """All iterates of x⁺ = S_θ(v − step·Aᴴ(A v − y)), v = x + β(x − x_before): (iterations, ..., n)."""
    x = before = x0
    iterates = []
    for beta in momentum:
        x, before = ista_step(x + beta * (x - before), y, A, step, theta), x
        iterates.append(x)
    return torch.stack(iterates)


def lista(
    y: Tensor, w1: Sequence[Tensor], w2: Sequence[Tensor], theta: Sequence[Tensor], x0: Tensor, layers: int
) -> Tensor:
    """All layers of x⁺ = S_θ(W₁ y + W₂ x): (layers, ..., n). A list of one matrix is shared by all layers."""
    x = x0
    iterates = []
    for k in range(layers):
        a, b, t = (p[min(k, len(p) - 1)] for p in (w1, w2, theta))
        x = soft_threshold(y @ a.mT + x @ b.mT, t)
        iterates.append(x)
    return torch.stack(iterates)
