"""ISTA: the iteration that LISTA unrolls."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .. import _checks, iterations
from ..operators.dense import spectral_norm


def solve(
    A: Tensor,
    y: Tensor,
    lam: Tensor | float,
    step: Tensor | float | None,
    x0: Tensor | None,
    momentum: Sequence[float] | None,
    count: int,
    return_iterates: bool,
) -> Tensor:
    """Checks arguments and runs proximal gradient iterations with the given momentum."""
    A = _checks.nonzero_matrix("A", A) if step is None else _checks.matrix("A", A)
    _checks.columns("y", _checks.tensor("y", y), A.shape[0], A.shape)
    if x0 is not None:
        _checks.columns("x0", _checks.tensor("x0", x0), A.shape[1], A.shape)
        _checks.same_batch("x0", x0, "y", y)
    A, y, x0 = _checks.alike(A=A, y=y, x0=x0)
    lam = _checks.threshold("lam", lam, A)
    if lam.numel() != 1 and lam.shape != A.shape[1:]:
        raise ValueError(
            f"lam must be one number or one a coordinate, shape {_checks.shape_text(A.shape[1:])}, got "
            f"{_checks.shape_text(lam.shape)}"
        )
    step = _checks.scalar("step", 1 / spectral_norm(A) ** 2 if step is None else step, A)
    return iterations.ista(y, A, x0, step, lam * step, momentum, count, return_iterates)


def ista(
    A: Tensor,
    y: Tensor,
    lam: Tensor | float,
    *,
    iterations: int = 100,
    step: Tensor | float | None = None,
    x0: Tensor | None = None,
    return_iterates: bool = False,
) -> Tensor:
    """Iterations of ISTA on min ½‖A x − y‖² + λ‖x‖₁, for all samples in one native call.

    x⁺ = S_{λt}(x − t·Aᵀ(A x − y)); the objective decreases by each iteration, as O(1/k), if t ≤ 1/‖A‖².

    Args:
        A: (m, n), not zero.
        y: (..., m).
        lam: λ ≥ 0, a number or one a coordinate (n,).
        iterations: how many, ≥ 1. None is left out: there is no early stop.
        step: t; 1/‖A‖² by default, which costs an eigenvalue decomposition a call.
        x0: where to start, (..., n); zero by default.
        return_iterates: return every iterate.

    Returns:
        (..., n), or (iterations, ..., n) with ``return_iterates``; differentiable in every argument.

    Raises:
        TypeError: not floating point, or dtypes differ.
        ValueError: shapes do not fit, devices differ, a number λ < 0, or ``iterations`` < 1.

    Reference: Daubechies, Defrise and De Mol 2004.
    """
    return solve(A, y, lam, step, x0, None, _checks.count("iterations", iterations), return_iterates)
