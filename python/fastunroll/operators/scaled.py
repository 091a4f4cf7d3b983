"""Multiples of an operator, and the identity."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from .. import _checks
from ..arrays import as_tensor
from ..norms import squared_modulus
from ..ops.tensors import is_tracing
from .derived import Derived
from .linear_operator import LinearOperator
from .solve import rho_beside
from .stated import require_stated


class Scaled(Derived, differentiable=True):
    """c·A of an operator A and a number c, which ``c * A`` returns.

    Args:
        op: A.
        factor: c, real or complex; a tensor of one value, to which gradients go; or a parameter, which learns.

    Raises:
        TypeError: ``op`` is no :class:`LinearOperator`, or ``factor`` no number.
        ValueError: ``factor`` is a tensor of several values.
    """

    def __init__(self, op: LinearOperator, factor: complex | Tensor) -> None:
        if isinstance(op, Scaled) and not isinstance(op.factor, Tensor) and not isinstance(factor, Tensor):
            op, factor = op.operator, op.factor * factor
        super().__init__(op)
        factor = factor.item() if isinstance(factor, np.generic) else as_tensor(factor, "the factor")
        if isinstance(factor, Tensor):
            if factor.numel() != 1:
                raise ValueError(
                    f"the factor of an operator must be one number, got shape {_checks.shape_text(factor.shape)}: use "
                    "op(x) for the product with x"
                )
        elif isinstance(factor, (bool, np.bool_)) or not isinstance(factor, (int, float, complex)):
            raise TypeError(f"the factor of an operator must be a number, got {_checks.shown(factor)}")
        self.factor: Any
        if isinstance(factor, Tensor) and not isinstance(factor, nn.Parameter):
            self.register_buffer("factor", factor)
        else:
            self.factor = factor

    @property
    def shape_in(self) -> tuple[int, ...] | None:  # type: ignore[override]
        return self.operator.shape_in

    @property
    def shape_out(self) -> tuple[int, ...] | None:  # type: ignore[override]
        return self.operator.shape_out

    @property
    def dims_in(self) -> int | None:
        return self.operator.dims_in

    @property
    def dims_out(self) -> int | None:
        return self.operator.dims_out

    @property
    def collapsed(self) -> bool:  # type: ignore[override]
        """Whether that of A costs less than two products."""
        return self.operator.collapsed

    @property
    def matrix(self) -> Tensor | None:  # type: ignore[override]
        A = self.operator.matrix
        return None if A is None else self._times(A)

    def _times(self, value: Tensor, conjugate: bool = False) -> Tensor:
        factor = self.factor
        if isinstance(factor, Tensor):
            return (factor.conj() if conjugate else factor).reshape(()) * value
        return (factor.conjugate() if conjugate else factor) * value

    def forward(self, x: Tensor) -> Tensor:
        """c·A x."""
        return self._times(self.operator(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ(c̄ y), which is real where A takes real x, as of :class:`Fourier` with ``real=True``."""
        if y.is_complex():
            return self.operator.adjoint(self._times(y, conjugate=True))
        return self._times(self.operator.adjoint(y), conjugate=True)

    def normal(self, x: Tensor) -> Tensor:
        """|c|²·AᴴA x."""
        return self._square * self.operator.normal(x)

    @property
    def _square(self) -> Any:
        """|c|²."""
        factor = self.factor
        return squared_modulus(factor).reshape(()) if isinstance(factor, Tensor) else abs(factor) ** 2

    def stated_norm(self) -> float | None:
        """|c|·‖A‖, if a formula gives it."""
        norm = self.operator.stated_norm()
        return None if norm is None else abs(complex(self.factor)) * norm

    def norm(self) -> float:
        """|c|·‖A‖."""
        return abs(complex(self.factor)) * self.operator.norm()

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(|c|²AᴴA + ρI)⁻¹ b = (AᴴA + ρ/|c|² I)⁻¹ b/|c|², where A has a solve; of c = 0 it is b/ρ."""
        square = self._square
        if not self.operator.solves or _is_zero(square):
            return super().solve(b, rho)
        return self.operator.solve(b, rho / square) / square

    def adjoint_solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(|c|²A Aᴴ + ρI)⁻¹ b = c(A Aᴴ + ρ/|c|² I)⁻¹(c̄ b)/|c|⁴ likewise."""
        square = self._square
        if not self.operator.solves or _is_zero(square):
            return super().adjoint_solve(b, rho)
        if b.is_complex():
            found = self._times(self.operator.adjoint_solve(self._times(b, conjugate=True), rho / square))
            return found / square / square
        return self.operator.adjoint_solve(b, rho / square) / square

    def extra_repr(self) -> str:
        return f"factor={complex(self.factor) if isinstance(self.factor, Tensor) else self.factor:.6g}"


def _is_zero(square: Any) -> bool:
    """Whether a number is known to be zero. Where PyTorch traces a call or maps it over a batch, no value is known."""
    if not isinstance(square, Tensor):
        return not square
    return not (square.is_meta or is_tracing()) and not float(square.detach())


class Identity(LinearOperator, differentiable=True):
    """The identity x ↦ x, for samples of any shape.

    Args:
        shape: of one sample, if it is to be stated.

    Raises:
        ValueError: ``shape`` is no shape.
    """

    def __init__(self, shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.shape_in = self.shape_out = None if shape is None else _checks.shape("shape", shape)

    @property
    def H(self) -> LinearOperator:
        """The identity."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        """X itself."""
        require_stated(self, "x", _checks.tensor("x", x))
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Y itself."""
        require_stated(self, "y", _checks.tensor("y", y))
        return y

    def norm(self) -> float:
        """1."""
        return 1.0

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """b/(1 + ρ)."""
        b = self(b)
        return b / (1 + rho_beside(rho, b))

    def adjoint_solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """The same."""
        return self.solve(b, rho)
