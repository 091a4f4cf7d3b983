"""A matrix as an operator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import _checks
from ..iterations import step_arguments
from ..products import product


def spectral_norm(A: Tensor) -> float:
    """‖A‖, the largest singular value, computed in double precision; 1 for a matrix without values."""
    if A.is_meta:
        return 1.0
    A = A.detach().to(torch.complex128 if A.is_complex() else torch.float64)
    gram = A @ A.mH if A.shape[0] <= A.shape[1] else A.mH @ A
    return float(torch.linalg.eigvalsh(gram)[-1].clamp_min(0).sqrt())


class Dense(nn.Module):
    """The linear operator x ↦ A x of a matrix, applied to batches of samples.

    The module keeps its own copy of A, as a buffer: it moves and is saved with the module, and is not trained.

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
        self.register_buffer("A", _checks.finite_matrix("A", A).detach().clone())

    def _arguments(self, name: str, x: Tensor, depth: int) -> list[Tensor]:
        _checks.columns(name, _checks.tensor(name, x), depth, self.A.shape)
        return _checks.require_same_dtype_and_device(**{"A": self.A, name: x})

    def forward(self, x: Tensor) -> Tensor:
        """A x for each sample: (..., n) to (..., m). Equivalent to ``x @ A.mT``."""
        A, x = self._arguments("x", x, self.A.shape[1])
        return product(x, A)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ y for each sample: (..., m) to (..., n). Equivalent to ``y @ A.conj()``."""
        A, y = self._arguments("y", y, self.A.shape[0])
        return product(y, A, adjoint=True)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Aᴴ(A x − y), the gradient of ½‖A x − y‖²: (..., n). ``y`` has the leading shape of ``x``."""
        x, y, A = step_arguments(x, y, self.A)
        return product(product(x, A, start=-y), A, adjoint=True)

    def norm(self) -> float:
        """‖A‖, the largest singular value: an eigenvalue decomposition a call."""
        return spectral_norm(self.A)

    def extra_repr(self) -> str:
        m, n = self.A.shape
        return f"m={m}, n={n}, dtype={self.A.dtype}"
