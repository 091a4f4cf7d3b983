"""Measures of a reconstruction: KKT residual and objective of the Lasso, and NMSE against the ground truth."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _checks
from .arrays import takes_arrays
from .functional import arguments, ista_step
from .norms import decibels, norm, squared_modulus
from .operators.convert import OperatorLike
from .operators.products import Products
from .products import product


def _flat(t: Tensor, dims: int) -> Tensor:
    """Samples of ``dims`` dimensions as vectors."""
    return t if dims == 1 else t.flatten(-dims)


@takes_arrays("x")
def kkt_residual(x: Tensor, y: Tensor, A: OperatorLike, lam: Tensor | float) -> Tensor:
    """The relative KKT residual of min ½‖A x − y‖² + λ‖x‖₁ for each sample. It is zero exactly at a solution.

    r(x) = ‖x − S_λ(x − Aᵀ(A x − y))‖ / ‖Aᵀy‖

    A solution is a fixed point of the proximal gradient step with step size 1, so r needs no ground truth. Its mean is
    a loss that trains a network without ground truth. The scale ‖Aᵀy‖ makes r relative: r(0) is at most 1. If Aᵀy = 0,
    the scale is 1. The residual is differentiable in ``x``, ``y``, ``A`` and ``lam``.

    Args:
        x: (..., n); for an operator (..., *A.shape_in).
        y: (..., m), with the leading shape of ``x``; for an operator (..., *A.shape_out).
        A: (m, n), or one for every sample (B, m, n), or any operator (:func:`fastunroll.operators.as_operator`).
        lam: a number ≥ 0, or a tensor that broadcasts with ``x``, such as (..., 1) for one a sample.

    Returns:
        (...), one value a sample; an array where ``x`` is one.

    Raises:
        TypeError: not floating point, dtypes differ, or A is neither a matrix nor an operator.
        ValueError: shapes do not fit, devices differ, or ``lam`` is a negative number.

    Equivalent to::

        z = x - (x @ A.mT - y) @ A.conj()
        r = (x - torch.sgn(z) * torch.relu(z.abs() - lam)).norm(dim=-1) / (y @ A.conj()).norm(dim=-1)

    Reference: Parikh and Boyd, *Proximal algorithms*, 2014, section 4.2.
    """
    x, y, A, dims = arguments(x, y, A)
    lam = _checks.threshold("lam", lam, x)
    _checks.broadcasts("lam", lam, x)
    moved = x - ista_step(x, y, A, 1.0, lam)
    At_y = product(y, A, adjoint=True) if isinstance(A, Tensor) else Products(A, y, like=("x", x)).adjoint(y)
    scale = norm(_flat(At_y, dims))
    return norm(_flat(moved, dims)) / torch.where(scale > 0, scale, torch.ones_like(scale))


@takes_arrays("x")
def lasso_objective(x: Tensor, y: Tensor, A: OperatorLike, lam: Tensor | float) -> Tensor:
    """The Lasso objective ½‖A x − y‖² + λ‖x‖₁ of each sample.

    Args:
        x: (..., n); for an operator (..., *A.shape_in).
        y: (..., m), with the leading shape of ``x``; for an operator (..., *A.shape_out).
        A: (m, n), or one for every sample (B, m, n), or any operator (:func:`fastunroll.operators.as_operator`).
        lam: a number ≥ 0, or a tensor that broadcasts with ``x``, such as (..., 1) for one a sample.

    Returns:
        (...), one value a sample; an array where ``x`` is one.

    Raises:
        TypeError: not floating point, dtypes differ, or A is neither a matrix nor an operator.
        ValueError: shapes do not fit, devices differ, or ``lam`` is a negative number.

    Equivalent to::

        (x @ A.mT - y).abs().square().sum(-1) / 2 + (lam * x.abs()).sum(-1)
    """
    x, y, A, dims = arguments(x, y, A)
    lam = _checks.threshold("lam", lam, x)
    _checks.broadcasts("lam", lam, x)
    residual = product(x, A, start=-y) if isinstance(A, Tensor) else Products(A, y).forward(x) - y
    square, penalty = squared_modulus(residual), lam * x.abs()
    return _flat(square, dims).sum(-1) / 2 + _flat(penalty, dims).sum(-1)


@takes_arrays("x")
def nmse_db(x: Tensor, x_true: Tensor, pooled: bool = True) -> Tensor:
    """The normalised mean square error (NMSE) in dB over all samples.

    If ``pooled``, it is 10·log₁₀(Σ‖x̂ − x‖² / Σ‖x‖²) with sums over samples. Otherwise it is the mean of
    10·log₁₀(‖x̂ − x‖² / ‖x‖²) over samples. Both definitions are in use, and they differ by several dB on the same
    output, so state the definition with the number. The mean is infinite if the truth of any sample is zero.

    Args:
        x: the reconstruction (..., n).
        x_true: the ground truth (..., n).
        pooled: whether to pool the samples.

    Returns:
        A scalar, in dB.

    Raises:
        TypeError: not floating point, or ``pooled`` is neither True nor False.
        ValueError: shapes or devices differ.
    """
    pooled = _checks.flag("pooled", pooled)
    _checks.same_device("x_true", _checks.tensor("x_true", x_true), _checks.tensor("x", x))
    if x.shape != x_true.shape:
        raise ValueError(
            f"x and x_true must have one shape, got {_checks.shape_text(x.shape)} and "
            f"{_checks.shape_text(x_true.shape)}"
        )
    n = 1 if pooled or not x.dim() else x.shape[-1]
    error, power = (decibels(t.reshape((1, -1) if pooled else (-1, n))) for t in (x - x_true, x_true))
    return (error - power).mean()
