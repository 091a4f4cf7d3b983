"""The duality gap, which bounds the distance of an objective from its minimum."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .. import _checks
from .._precision import own_precision
from ..arrays import takes_arrays
from ..operators.convert import OperatorLike
from ..prox import Proximal
from ..samples import column, inner, norm, safe_divisor
from .problem import LASSO_NONNEGATIVE, NONNEGATIVE_WITH_PROX, Problem, problem, require_precision, require_real


def objective(p: Problem, x: Tensor, residual: Tensor) -> Tensor:
    """½‖A x − y‖² + λ·R(x), (B,), of x with A x − y."""
    return inner(residual, residual) / 2 + p.prior.weighted(x, p.lam)


def relative_gap(p: Problem, x: Tensor, residual: Tensor, gradient: Tensor) -> Tensor:
    """The gap, (B,), of x with A x − y and Aᴴ(A x − y); infinite for an x with negative values where x ≥ 0 is required.

    These are squares of y: in units in which they neither overflow nor vanish (:meth:`Problem.in_units`).
    """
    square = inner(residual, residual)
    s = torch.where(square > 0, -inner(residual, p.y) / square, torch.ones_like(square))
    least, largest = p.prior.dual_range(-gradient, p.lam)
    s = torch.maximum(torch.minimum(s, largest), least)
    gap = (1 - s).square() * square / 2 + p.prior.fenchel_gap(x, -column(s, x) * gradient, p.lam)
    return gap / safe_divisor(inner(p.y, p.y) / 2)


def kkt(p: Problem, x: Tensor, gradient: Tensor) -> Tensor:
    """‖x − prox_λ(x − Aᴴ(A x − y))‖/‖Aᴴy‖, (B,): zero at a solution."""
    return norm(x - p.prox(x - gradient, p.lam)) / p.correlation


def distance(p: Problem, x: Tensor, residual: Tensor, gradient: Tensor) -> Tensor:
    """What ``tol`` is compared with, (B,): the relative gap where R has one, else the KKT residual."""
    return relative_gap(p, x, residual, gradient) if p.prior.has_duality_gap else kkt(p, x, gradient)


def measures(p: Problem, x: Tensor) -> dict[str, Tensor]:
    """Objective, in the user's units, relative gap and KKT residual, (B,) each."""
    residual = p.residual(x)
    gradient = p.adjoint(residual)
    found = {"kkt": kkt(p, x, gradient)}
    if p.prior.has_duality_gap:
        found["gap"] = relative_gap(p, x, residual, gradient)
    if p.prior.has_value:
        found["objective"] = p.in_users_units(objective(p, x, residual), 2)
    return found


@takes_arrays("y")
def duality_gap(
    x: Tensor,
    y: Tensor,
    A: OperatorLike,
    lam: Tensor | float,
    *,
    nonnegative: bool = False,
    prox: Proximal | None = None,
) -> Tensor:
    r"""The relative duality gap of min ½‖A x − y‖² + λ‖x‖₁ at x, for each sample.

    The objective P(x) is at most gap·½‖y‖² above its minimum: a certificate that needs no solution. With R = y − A x
    and the dual point sR, where s = ⟨R, y⟩/‖R‖² brought into ±min λ_i/|AᴴR|_i so that |s AᴴR| ≤ λ,

        gap = (P(x) − D(sR)) / ½‖y‖²,    P − D = ½(1 − s)²‖R‖² + Σ (λ_i|x_i| − s·x_i·(AᴴR)_i)

    a sum of terms ≥ 0, so that it is exact to rounding however small it is. Where y = 0 it is not divided. A coordinate
    with λ_i = 0 makes s = 0 and the gap useless, unless (AᴴR)_i = 0. Over x ≥ 0 it is enough that s(AᵀR)_i ≤ λ_i.

    Args:
        x: (..., n); for an operator (B, ...).
        y: (..., m), with the leading shape of ``x``; for an operator (B, ...), or (..., *A.shape_out) where A
            states the shape of one sample.
        A: (m, n), or a matrix for every sample (B, m, n), or any operator
            (:func:`fastunroll.operators.as_operator`).
        lam: λ ≥ 0: a number, one a coordinate (n,), or one a sample (..., 1).
        nonnegative: the gap of the problem over x ≥ 0: infinite where an x is negative.
        prox: of another R in the place of ‖x‖₁: :class:`fastunroll.prox.GroupL1`, whose dual norm is known.

    Returns:
        (...), one value a sample; an array if ``y`` is one. Right for y of any scale, 1e-30 and 1e30 in single
        precision.

    Raises:
        TypeError: not floating point, half precision, dtypes differ, A is neither a matrix nor an operator, or x is
            complex with ``nonnegative``.
        ValueError: shapes do not fit, devices differ, λ < 0, infinite or NaN, or an operator mixes samples.

    Warns:
        AdjointWarning: ``A.adjoint`` is not the adjoint of A.

    Equivalent to::

        R = y - x @ A.mT
        g, square = R @ A.conj(), R.abs().square().sum(-1)
        bound = (lam / g.abs()).amin(-1)  # with nonnegative: of what is positive in g; below, of what is in -g
        s = ((R.conj() * y).real.sum(-1) / square).clamp(-bound, bound)
        primal = square / 2 + (lam * x.abs()).sum(-1)
        dual = (y.abs().square().sum(-1) - (y - s[..., None] * R).abs().square().sum(-1)) / 2
        (primal - dual) / (y.abs().square().sum(-1) / 2)

    Reference: Kim, Koh, Lustig, Boyd and Gorinevsky, *An interior-point method for large-scale ℓ1-regularized least
    squares*, 2007.
    """
    nonnegative = _checks.flag("nonnegative", nonnegative)
    p = problem(A, y, lam, _checks.tensor("x", x), "x", prox=prox)
    require_precision(p.y)
    if nonnegative:
        if prox is not None:
            raise ValueError(NONNEGATIVE_WITH_PROX)
        require_real(p)
        p = replace(p, prior=LASSO_NONNEGATIVE)
    if not p.prior.has_duality_gap:
        raise ValueError(
            f"a duality gap needs the dual norm of R, which {type(p.prior).__name__} lacks: use L1, NonNegativeL1 or "
            "GroupL1"
        )
    p = p.in_units()
    assert p.x0 is not None
    with own_precision(p.y):
        residual = p.residual(p.x0)
        gap = relative_gap(p, p.x0, residual, p.adjoint(residual))
    return gap.reshape(p.batch_shape)
