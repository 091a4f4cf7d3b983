"""How far at most an objective is from its minimum: the duality gap of the Lasso."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from .._precision import own_precision
from ..arrays import takes_arrays
from ..operators.convert import OperatorLike
from ..samples import column, inner, norm, or_one, total
from .penalty import dual_range
from .problem import Problem, problem, require_precision, require_real


def objective(x: Tensor, residual: Tensor, lam: Tensor) -> Tensor:
    """½‖A x − y‖² + λ‖x‖₁, (B,), of x with A x − y."""
    return inner(residual, residual) / 2 + total(lam * x.abs())


def relative_gap(x: Tensor, residual: Tensor, gradient: Tensor, y: Tensor, lam: Tensor, nonnegative: bool) -> Tensor:
    """The gap, (B,), of x with A x − y and Aᴴ(A x − y); infinite for what has to be ≥ 0 and is not.

    These are squares of y: in units in which they neither overflow nor vanish (:meth:`Problem.in_units`).
    """
    square = inner(residual, residual)
    s = torch.where(square > 0, -inner(residual, y) / square, torch.ones_like(square))
    least, largest = dual_range(-gradient, lam, nonnegative)
    s = torch.maximum(torch.minimum(s, largest), least)
    along = (x.conj() * gradient).real if x.is_complex() else x * gradient
    gap = (1 - s).square() * square / 2 + total(lam * x.abs() + column(s, x) * along)
    if nonnegative:
        gap = torch.where((x < 0).flatten(1).any(1), torch.inf, gap)
    return gap / or_one(inner(y, y) / 2)


def measures(p: Problem, x: Tensor) -> dict[str, Tensor]:
    """Objective, in the user's units, relative gap and KKT residual, (B,) each."""
    residual = p.residual(x)
    gradient = p.adjoint(residual)
    gap = relative_gap(x, residual, gradient, p.y, p.lam, p.nonnegative)
    moved = norm(x - p.prox(x - gradient, p.lam))
    value = p.in_users_units(objective(x, residual, p.lam), 2)
    return {"objective": value, "gap": gap, "kkt": moved / p.correlation}


@takes_arrays("y")
def duality_gap(x: Tensor, y: Tensor, A: OperatorLike, lam: Tensor | float, *, nonnegative: bool = False) -> Tensor:
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
    p = problem(A, y, lam, _checks.tensor("x", x), "x")
    require_precision(p.y)
    if nonnegative:
        require_real(p)
    p = p.in_units()
    assert p.x0 is not None
    with own_precision(p.y):
        residual = p.residual(p.x0)
        gap = relative_gap(p.x0, residual, p.adjoint(residual), p.y, p.lam, nonnegative)
    return gap.reshape(p.lead)
