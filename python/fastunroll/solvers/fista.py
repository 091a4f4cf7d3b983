"""FISTA: ISTA with Nesterov's momentum."""

from __future__ import annotations

from torch import Tensor

from .. import _checks
from .ista import solve


def beck_teboulle(iterations: int) -> list[float]:
    """The momentum of each iteration, (t_{k−1} − 1)/t_k with t₀ = 1 and t_k = (1 + √(1 + 4 t_{k−1}²))/2; first 0."""
    momentum, t = [0.0], 1.0
    for _ in range(iterations - 1):
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        momentum.append((t - 1) / following)
        t = following
    return momentum


def fista(
    A: Tensor,
    y: Tensor,
    lam: Tensor | float,
    *,
    iterations: int = 100,
    step: Tensor | float | None = None,
    x0: Tensor | None = None,
    return_iterates: bool = False,
) -> Tensor:
    """Iterations of FISTA on min ½‖A x − y‖² + λ‖x‖₁, for all samples in one native call.

    x⁺ = S_{λt}(v − t·Aᵀ(A v − y)) at v = x + β_k (x − x_before); the objective converges as O(1/k²) if t ≤ 1/‖A‖².

    Args:
        A: (m, n), not zero.
        y: (..., m).
        lam: λ ≥ 0, a number or one a coordinate (n,).
        iterations: how many, ≥ 1. There is no early stop.
        step: t; 1/‖A‖² by default, which costs an eigenvalue decomposition a call.
        x0: where to start, (..., n); zero by default.
        return_iterates: return every iterate.

    Returns:
        (..., n), or (iterations, ..., n) with ``return_iterates``; differentiable in every argument.

    Raises:
        TypeError: not floating point, or dtypes differ.
        ValueError: shapes do not fit, devices differ, a number λ < 0, or ``iterations`` < 1.

    Reference: Beck and Teboulle, *A fast iterative shrinkage-thresholding algorithm for linear inverse problems*, 2009.
    """
    momentum = beck_teboulle(_checks.count("iterations", iterations))
    return solve(A, y, lam, step, x0, momentum, iterations, return_iterates)
