"""Training losses: functions of a reconstruction x̂, the measurements y and, if it is known, the ground truth x."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from .. import _checks
from ..losses import kkt_residual, lasso_objective
from ..metrics import ssim
from ..norms import squared_modulus
from ..operators.convert import OperatorLike, matrix_or_operator
from .arguments import loss_value, require_callable, require_truth

# A loss maps x̂ (batch, n), y (batch, m) and x (batch, n) to a scalar; x is None if there is no ground truth.
Loss: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def supervised(x_hat: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
    """The logarithm of the normalised mean square error, log(Σ‖x̂ − x‖²/Σ‖x‖²). The sums run over the batch.

    10/log(10) times this loss is the NMSE in dB. The gradient is relative to the error, so a network learns the last
    decibels as fast as the first.

    Args:
        x_hat: x̂, of the shape of x.
        y: the measurements, which the loss does not use.
        x: the ground truth (B, ...).

    Returns:
        One number.

    Raises:
        ValueError: there is no ground truth, or its shape is another one.

    Equivalent to ``torch.log((x_hat - x).abs().square().sum() / x.abs().square().sum())``.
    """
    x = require_truth(x_hat, x)
    tiny = torch.finfo(x.real.dtype).tiny
    return torch.log((squared_modulus(x_hat - x).sum() + tiny) / (squared_modulus(x).sum() + tiny))


def mean_square(x_hat: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
    """The mean of ‖x̂ − x‖² over samples (B, ...).

    Args:
        x_hat: x̂, of the shape of x.
        y: the measurements, which the loss does not use.
        x: the ground truth (B, ...).

    Returns:
        One number.

    Raises:
        ValueError: there is no ground truth, or its shape is another one.

    Equivalent to ``(x_hat - x).abs().square().flatten(1).sum(1).mean()``.
    """
    return squared_modulus(x_hat - require_truth(x_hat, x)).flatten(1).sum(1).mean()


def absolute_error(x_hat: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
    """The mean of |x̂ − x| over all numbers, the ℓ₁ loss. Its gradient does not fade with the error of a pixel.

    Args:
        x_hat: x̂, of the shape of x.
        y: the measurements, which the loss does not use.
        x: the ground truth (B, ...).

    Returns:
        One number.

    Raises:
        ValueError: there is no ground truth, or its shape is another one.

    Equivalent to ``(x_hat - x).abs().mean()``.

    Reference: Zhao, Gallo, Frosio and Kautz, *Loss functions for image restoration with neural networks*, 2017.
    """
    return (x_hat - require_truth(x_hat, x)).abs().mean()


def structural_similarity(data_range: float = 1.0) -> Loss:
    """Returns a loss, one minus the mean SSIM of the pictures x̂ and x (..., H, W). Zero where x̂ = x.

    The windows are those of the paper, 11×11 pixels with Gaussian weights. See :func:`fastunroll.metrics.ssim`.

    Args:
        data_range: the difference between the largest and the smallest possible pixel value, > 0.

    Raises:
        ValueError: ``data_range`` ≤ 0, or pictures are smaller than 11×11 pixels.

    Equivalent to ``1 - fu.metrics.ssim(x_hat, x, data_range, gaussian=True).mean()``.

    References: Wang, Bovik, Sheikh and Simoncelli, *Image quality assessment: from error visibility to structural
    similarity*, 2004; Zhao, Gallo, Frosio and Kautz, *Loss functions for image restoration with neural networks*, 2017.
    """
    data_range = _checks.positive("data_range", data_range)

    def loss(x_hat: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
        return 1 - ssim(x_hat, require_truth(x_hat, x), data_range, gaussian=True).mean()

    return loss


def kkt(A: OperatorLike, lam: float) -> Loss:
    """Returns a loss, the mean KKT residual of min ½‖A x − y‖² + λ‖x‖₁, which needs no ground truth.

    Args:
        A: the matrix (m, n), one for every sample, or any operator (:func:`fastunroll.operators.as_operator`).
        lam: the weight λ ≥ 0.

    Raises:
        TypeError: A is neither a matrix nor an operator.
        ValueError: A is not finite, or λ < 0.

    Equivalent to ``fu.losses.kkt_residual(x_hat, y, A, lam).mean()``.
    """
    return _mean_of(kkt_residual, A, lam)


def lasso(A: OperatorLike, lam: float) -> Loss:
    """Returns a loss, the mean of ½‖A x − y‖² + λ‖x‖₁ over samples, which needs no ground truth.

    Args:
        A: the matrix (m, n), one for every sample, or any operator (:func:`fastunroll.operators.as_operator`).
        lam: the weight λ ≥ 0.

    Raises:
        TypeError: A is neither a matrix nor an operator.
        ValueError: A is not finite, or λ < 0.

    Equivalent to ``fu.losses.lasso_objective(x_hat, y, A, lam).mean()``.
    """
    return _mean_of(lasso_objective, A, lam)


def _mean_of(measure: Callable[..., Tensor], A: OperatorLike, lam: float) -> Loss:
    A, lam = matrix_or_operator(A), _checks.not_negative("lam", lam)
    if isinstance(A, Tensor):
        _checks.finite_matrix("A", A)

    def loss(x_hat: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
        return measure(x_hat, y, A, lam).mean()

    return loss


def total(*weighted: tuple[float, Loss]) -> Loss:
    """Returns the weighted sum of losses, for example ``total((1, supervised), (0.1, kkt(A, 0.1)))``.

    Args:
        weighted: pairs of a weight, which is a finite number, and a loss, a function of x̂, y and x.

    Raises:
        TypeError: one is no such pair.
        ValueError: there is no pair, or a weight is not finite.

    Equivalent to ``sum(weight * loss(x_hat, y, x) for weight, loss in weighted)``.
    """
    if not weighted:
        raise ValueError("total needs at least one pair (weight, loss)")
    for pair in weighted:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"total needs pairs (weight, loss), got {_checks.shown(pair)}")
        _checks.finite("the weight of a loss", pair[0])
        require_callable("the loss of a pair", pair[1])

    def loss(x_hat: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
        return torch.stack([weight * loss_value(part(x_hat, y, x)) for weight, part in weighted]).sum()

    return loss
