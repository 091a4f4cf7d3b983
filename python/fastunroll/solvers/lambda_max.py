"""The smallest λ for which zero is the solution."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import _checks
from ..arrays import takes_arrays
from ..operators.convert import OperatorLike
from .problem import problem, require_values


@takes_arrays("Y")
def lambda_max(A: OperatorLike, Y: Tensor, *, nonnegative: bool = False) -> Any:
    """The smallest λ for which x = 0 solves min ½‖A x − y‖² + λ‖x‖₁, for each sample: maxᵢ |Aᴴy|ᵢ.

    A λ for :func:`fista` and its like is a share of it, such as a tenth. For those it needs the dimensions of x:
    ``0.1 * lambda_max(A, Y)[..., None]`` for a matrix, ``[..., None, None]`` for pictures.

    Args:
        A: (m, n), finite, dense or sparse, or a matrix for every sample (B, m, n); or any operator
            (:func:`fastunroll.operators.as_operator`) for batches (B, ...). Real or complex.
        Y: (..., m); for an operator (B, ...), or (..., *A.shape_out) where A states the shape of one sample. An array
            of another library gives a result of its kind.
        nonnegative: of the problem over x ≥ 0, where it is max(0, maxᵢ (Aᵀy)ᵢ).

    Returns:
        (...), real: one value a sample; zero where x has no elements. Differentiable in Y and A.

    Raises:
        TypeError: not floating point, dtypes differ, A is neither a matrix nor an operator, or x is complex with
            ``nonnegative``.
        ValueError: shapes do not fit, devices differ, A is a matrix that is not finite, or an operator mixes samples.

    Warns:
        AdjointWarning: ``A.adjoint`` is not the adjoint of A.

    Equivalent to::

        (Y @ A.conj()).abs().amax(-1)  # nonnegative: (Y @ A).amax(-1).clamp_min(0)

    Reference: Osborne, Presnell and Turlach, *On the LASSO and its dual*, 2000.
    """
    p = problem(A, Y, 0.0, None, nonnegative=nonnegative)
    if p.A is None:
        require_values(p)
    else:
        _checks.finite_matrix("A", p.A)
    size = p.At_y if p.nonnegative else p.At_y.abs()
    size = size.flatten(1)
    largest = size.amax(1) if size.shape[1] else size.new_zeros(p.batch)
    return largest.clamp_min(0).reshape(p.batch_shape)
