"""A matrix, or a matrix for every sample, as an operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks
from .._precision import own_precision
from ..arrays import as_tensor
from ..computed_weights import compute_weights
from ..ops.tensors import is_tracing
from ..products import product
from .linear_operator import LinearOperator
from .norm import spectral_norm as spectral_norm
from .solve import Factorised, rho_beside


class Dense(LinearOperator, differentiable=True):
    """The linear operator x ↦ A x of a matrix A (m, n), or of a matrix for every sample (B, m, n).

    The module keeps its own copy of A, which moves and is saved with it. Gradients reach x, y, and A where it learns.

    Args:
        A: (m, n), or (B, m, n) for batches x (..., B, n) and y (..., B, m). Real or complex, finite.
        learn: make A a parameter.

    Raises:
        TypeError: A is not floating point.
        ValueError: A is not a matrix, or holds NaN or infinity; B differs from that of x or y.

    Example::

        op = fu.operators.Dense(A)
        y = op(x)                   # (..., n) -> (..., m)
        g = op.gradient(x, y)       # Aᴴ(A x − y)
        step = 1 / op.norm() ** 2
    """

    A: Tensor
    same_dtype = True
    tensors = ("A",)  # what the native calls of networks read

    def __init__(self, A: Tensor, *, learn: bool = False) -> None:
        super().__init__()
        A = _checks.finite_matrices("A", as_tensor(A, "A")).detach().clone()
        if _checks.flag("learn", learn):
            self.A = nn.Parameter(A)
        else:
            self.register_buffer("A", A)
        self._factor: _Factor | None = None

    @classmethod
    def of(cls, A: Tensor) -> Dense:
        """The operator of A itself: no copy is made and no value is looked at, and gradients reach A."""
        op = cls.__new__(cls)
        nn.Module.__init__(op)
        op._buffers["A"] = A
        op._factor = None
        return op

    @property
    def matrix(self) -> Tensor | None:  # type: ignore[override]
        compute_weights(self)
        return self.A

    @property
    def _matrix(self) -> Tensor:
        """A, also where a subclass has other products, which are not those of A alone."""
        A = self.matrix
        return self.A if A is None else A

    @property
    def shape_in(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self._matrix.shape[-1],)

    @property
    def shape_out(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self._matrix.shape[-2],)

    @property
    def own_batch(self) -> tuple[int, ...]:
        return tuple(self._matrix.shape[:-2])

    def arguments(self, **values: Tensor) -> list[Tensor]:
        """The matrix and the batches, if they fit."""
        A = self._matrix
        for name, value in values.items():
            depth = A.shape[-2] if name == "y" else A.shape[-1]
            _checks.columns(name, _checks.tensor(name, value), depth, A.shape)
            _checks.matrices_fit(A.shape, name, value)
        return _checks.require_same_dtype_and_device(A=A, **values)

    def forward(self, x: Tensor) -> Tensor:
        """A x for each sample: (..., n) to (..., m). Equivalent to ``x @ A.mT``, or ``(A @ x[..., None])[..., 0]``."""
        A, x = self.arguments(x=x)
        return products(x, A)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ y for each sample: (..., m) to (..., n).

        Equivalent to ``y @ A.conj()``, or ``(A.mH @ y[..., None])[..., 0]``.
        """
        A, y = self.arguments(y=y)
        return products(y, A, adjoint=True)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Aᴴ(A x − y), the gradient of ½‖A x − y‖²: (..., n). ``y`` has the leading shape of ``x``."""
        A, x, y = self.arguments(x=x, y=y)
        _checks.same_batch("x", x, "y", y)
        return products(products(x, A, start=-y), A, adjoint=True)

    def normal(self, x: Tensor) -> Tensor:
        """AᴴA x for each sample: (..., n)."""
        A, x = self.arguments(x=x)
        return products(products(x, A), A, adjoint=True)

    def norm(self) -> float:
        """‖A‖, the largest singular value (of all samples): an eigenvalue decomposition a call."""
        return spectral_norm(self._matrix)

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(AᴴA + ρI)⁻¹ b for each sample: (..., n).

        The Cholesky factor of the smaller Gram matrix is kept for the next call, for as long as A and ρ hold the same
        numbers. Differentiable in b, ρ and A.

        Raises:
            ValueError: shapes do not fit, ρ ≤ 0, or ρ is too small for double precision.
        """
        A, b = self.arguments(b=b)
        rho = rho_beside(rho, b).double()
        with own_precision(b):
            if is_tracing() or A.is_meta or (torch.is_grad_enabled() and (A.requires_grad or rho.requires_grad)):
                factorised = Factorised(A)
                L = factorised.cholesky(rho)
            else:
                factor = self._factor  # read once: another thread may put its own there
                if factor is None or not factor.holds(A, rho):
                    factor = self._factor = _Factor(A, rho)
                factorised, L = factor.factorised, factor.L
            wide = b.to(factorised.wide.dtype)
            if A.dim() > 2:
                x = factorised.solve(wide.unsqueeze(-1), L, rho).squeeze(-1)
            else:
                x = factorised.solve(wide.reshape(-1, b.shape[-1]).mT, L, rho).mT.reshape(b.shape)
            return x.to(b.dtype)

    def adjoint_solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(A Aᴴ + ρI)⁻¹ b for each sample: (..., m)."""
        return Dense.of(self._matrix.mH).solve(b, rho)

    def __getstate__(self) -> dict[str, Any]:
        """The factor is not copied or saved: it is made anew."""
        return {**self.__dict__, "_factor": None}

    def extra_repr(self) -> str:
        A = self._matrix
        each = f"samples={_checks.shape_text(A.shape[:-2])}, " if A.dim() > 2 else ""
        return f"{each}m={A.shape[-2]}, n={A.shape[-1]}, dtype={A.dtype}"


def products(x: Tensor, A: Tensor, *, adjoint: bool = False, start: Tensor | None = None) -> Tensor:
    """``start`` + A x for each sample, or + Aᴴ x, of one matrix or of a matrix for every sample."""
    if A.dim() == 2:
        return product(x, A, adjoint=adjoint, start=start)
    with own_precision(A):
        found = torch.matmul(A.mH if adjoint else A, x.unsqueeze(-1)).squeeze(-1)
        return found if start is None else start + found


class _Factor:
    """A factorisation, with the numbers it was made of."""

    def __init__(self, A: Tensor, rho: Tensor) -> None:
        self.A, self.rho = A.detach().clone(), rho.detach().clone()
        self.factorised = Factorised(self.A)
        with torch.no_grad():
            self.L = self.factorised.cholesky(self.rho)

    def holds(self, A: Tensor, rho: Tensor) -> bool:
        same = self.A.device == A.device and self.A.dtype == A.dtype and self.A.shape == A.shape
        return same and bool(self.rho == rho) and torch.equal(self.A, A)
