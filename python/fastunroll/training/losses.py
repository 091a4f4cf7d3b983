"""What networks are trained on: functions of a reconstruction, the measurements, and the truth where it is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ..losses import kkt_residual, lasso_objective

# From x̂ (batch, n), y (batch, m) and x (batch, n), or None, to one number.
Loss: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def _truth(x: Tensor | None) -> Tensor:
    if x is None:
        raise ValueError("a supervised loss needs the truth x, but the samples have none: train on kkt or lasso")
    return x


def supervised(found: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
    """log(Σ‖x̂ − x‖²/Σ‖x‖²), the logarithm of the normalised mean square error: 10/log(10) times it is in dB.

    Its gradient is relative to the error, so that the last decibels are learned as fast as the first.
    """
    x = _truth(x)
    tiny = torch.finfo(x.real.dtype).tiny
    return torch.log(((found - x).abs().square().sum() + tiny) / (x.abs().square().sum() + tiny))


def mean_square(found: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
    """The mean over samples of ‖x̂ − x‖²."""
    return (found - _truth(x)).abs().square().sum(-1).mean()


def kkt(A: Tensor, lam: float) -> Loss:
    """The mean KKT residual of min ½‖A x − y‖² + λ‖x‖₁: :func:`fastunroll.losses.kkt_residual`. Needs no truth."""

    def loss(found: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
        return kkt_residual(found, y, A, lam).mean()

    return loss


def lasso(A: Tensor, lam: float) -> Loss:
    """The mean of ½‖A x − y‖² + λ‖x‖₁: :func:`fastunroll.losses.lasso_objective`. Needs no truth."""

    def loss(found: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
        return lasso_objective(found, y, A, lam).mean()

    return loss


def total(*weighted: tuple[float, Loss]) -> Loss:
    """The sum of losses, each times its weight: ``total((1, supervised), (0.1, kkt(A, 0.1)))``."""
    if not weighted:
        raise ValueError("total needs at least one pair (weight, loss)")

    def loss(found: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
        return torch.stack([weight * part(found, y, x) for weight, part in weighted]).sum()

    return loss
