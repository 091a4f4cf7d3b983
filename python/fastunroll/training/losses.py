"""What networks are trained on: functions of a reconstruction, the measurements, and the truth where it is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from .. import _checks
from ..losses import kkt_residual, lasso_objective
from ..operators.convert import OperatorLike, matrix_or_operator
from ..operators.linear_operator import LinearOperator
from .arguments import function, loss_value, truth

# From x̂ (batch, n), y (batch, m) and x (batch, n), or None, to one number.
Loss: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def supervised(found: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
    """log(Σ‖x̂ − x‖²/Σ‖x‖²), the logarithm of the normalised mean square error: 10/log(10) times it is in dB.

    Its gradient is relative to the error, so that the last decibels are learned as fast as the first.
    """
    x = truth(found, x)
    tiny = torch.finfo(x.real.dtype).tiny
    return torch.log(((found - x).abs().square().sum() + tiny) / (x.abs().square().sum() + tiny))


def mean_square(found: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
    """The mean over samples of ‖x̂ − x‖²."""
    return (found - truth(found, x)).abs().square().sum(-1).mean()


def kkt(A: OperatorLike, lam: float) -> Loss:
    """The mean KKT residual of min ½‖A x − y‖² + λ‖x‖₁: :func:`fastunroll.losses.kkt_residual`. Needs no truth."""
    A, lam = _finite(A), _checks.not_negative("lam", lam)

    def loss(found: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
        return kkt_residual(found, y, A, lam).mean()

    return loss


def lasso(A: OperatorLike, lam: float) -> Loss:
    """The mean of ½‖A x − y‖² + λ‖x‖₁: :func:`fastunroll.losses.lasso_objective`. Needs no truth."""
    A, lam = _finite(A), _checks.not_negative("lam", lam)

    def loss(found: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
        return lasso_objective(found, y, A, lam).mean()

    return loss


def _finite(A: OperatorLike) -> Tensor | LinearOperator:
    """A, a matrix or an operator; the entries of a matrix are finite."""
    found = matrix_or_operator(A)
    return _checks.finite_matrix("A", found) if isinstance(found, Tensor) else found


def total(*weighted: tuple[float, Loss]) -> Loss:
    """The sum of losses, each times its weight: ``total((1, supervised), (0.1, kkt(A, 0.1)))``."""
    if not weighted:
        raise ValueError("total needs at least one pair (weight, loss)")
    for pair in weighted:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"total needs pairs (weight, loss), got {_checks.shown(pair)}")
        _checks.finite("the weight of a loss", pair[0])
        function("the loss of a pair", pair[1])

    def loss(found: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
        return torch.stack([weight * loss_value(part(found, y, x)) for weight, part in weighted]).sum()

    return loss
