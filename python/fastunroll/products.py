"""Products of samples with a matrix."""

from __future__ import annotations

from torch import Tensor

from . import ops, reference
from ._precision import own_precision


def product(x: Tensor, A: Tensor, *, adjoint: bool = False, start: Tensor | None = None) -> Tensor:
    """Returns ``start`` + A x for each sample x, or ``start`` + Aᴴ x if ``adjoint``.

    It does not check its arguments.

    Args:
        x: (..., n), or (..., m) if ``adjoint``.
        A: (m, n).
        adjoint: whether to multiply with Aᴴ.
        start: a tensor of the shape of the result; zero if it is None.
    """
    if not ops.is_supported(A):
        with own_precision(A):
            return reference.product(x, A, adjoint=adjoint, start=start)
    if x.dim() == 2:
        return ops.product(x, A, adjoint, start)
    depth, columns = A.shape if adjoint else (A.shape[1], A.shape[0])
    flat = None if start is None else start.reshape(-1, columns)
    return ops.product(x.reshape(-1, depth), A, adjoint, flat).reshape(*x.shape[:-1], columns)
