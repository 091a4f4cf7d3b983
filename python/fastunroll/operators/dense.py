"""A matrix as an operator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import _checks, ops, reference


def spectral_norm(A: Tensor) -> float:
    """‖A‖, the largest singular value, computed in double precision."""
    A = A.detach().to(torch.complex128 if A.is_complex() else torch.float64)
    gram = A @ A.mH if A.shape[0] <= A.shape[1] else A.mH @ A
    return float(torch.linalg.eigvalsh(gram)[-1].clamp_min(0).sqrt())


class Dense(nn.Module):
    """The linear operator x ↦ A x of a matrix, applied to batches of samples.

    A is a buffer: it moves and is saved with the module, and is not trained.

    Args:
        A: (m, n), real or complex, finite.

    Raises:
        TypeError: A is not floating point.
        ValueError: A is not a matrix, or holds NaN or infinity.

    Example::

        op = fu.operators.Dense(A)
        y = op(x)                   # (..., n) -> (..., m)
        g = op.gradient(x, y)       # Aᵀ(A x − y)
        step = 1 / op.norm() ** 2
    """

    A: Tensor

    def __init__(self, A: Tensor) -> None:
        super().__init__()
        self.register_buffer("A", _checks.finite_matrix("A", A).detach())
        self._norm: tuple[int, int, float] | None = None

    def _apply_matrix(self, name: str, x: Tensor, adjoint: bool, start: Tensor | None = None) -> Tensor:
        depth, columns = self.A.shape if adjoint else (self.A.shape[1], self.A.shape[0])
        _checks.columns(name, _checks.tensor(name, x), depth, self.A.shape)
        A, x, start = _checks.alike(**{"A": self.A, name: x, "start": start})
        if not ops.serves(A):
            return reference.product(x, A, adjoint=adjoint, start=start)
        flat = None if start is None else start.reshape(-1, columns)
        return ops.product(x.reshape(-1, depth), A, adjoint, flat).reshape(*x.shape[:-1], columns)

    def forward(self, x: Tensor) -> Tensor:
        """A x for each sample: (..., n) to (..., m). Equivalent to ``x @ A.mT``."""
        return self._apply_matrix("x", x, adjoint=False)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ y for each sample: (..., m) to (..., n). Equivalent to ``y @ A.conj()``."""
        return self._apply_matrix("y", y, adjoint=True)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Aᴴ(A x − y), the gradient of ½‖A x − y‖²: (..., n). ``y`` has the leading shape of ``x``."""
        _checks.columns("y", _checks.tensor("y", y), self.A.shape[0], self.A.shape)
        _checks.columns("x", _checks.tensor("x", x), self.A.shape[1], self.A.shape)
        _checks.same_batch("x", x, "y", y)
        return self.adjoint(self._apply_matrix("x", x, adjoint=False, start=-y))

    def norm(self) -> float:
        """‖A‖, the largest singular value; computed once for each value of A."""
        key = (self.A.data_ptr(), self.A._version)
        if self._norm is None or self._norm[:2] != key:
            self._norm = (*key, spectral_norm(self.A))
        return self._norm[2]

    def extra_repr(self) -> str:
        m, n = self.A.shape
        return f"m={m}, n={n}, dtype={self.A.dtype}"
