"""Operators made of several operators: products, sums and adjoints."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from functools import reduce
from itertools import pairwise

import torch
from torch import Tensor, nn

from .. import _checks
from .dense import Dense
from .derived import Derived, require_operator
from .linear_operator import LinearOperator


class Adjoint(Derived, differentiable=True):
    """Aᴴ of an operator A, which ``A.H`` returns: forward and adjoint change places.

    Args:
        op: A.

    Raises:
        TypeError: ``op`` is no :class:`LinearOperator`.
    """

    @property
    def shape_in(self) -> tuple[int, ...] | None:  # type: ignore[override]
        return self.operator.shape_out

    @property
    def shape_out(self) -> tuple[int, ...] | None:  # type: ignore[override]
        return self.operator.shape_in

    @property
    def dims_in(self) -> int | None:
        return self.operator.dims_out

    @property
    def dims_out(self) -> int | None:
        return self.operator.dims_in

    @property
    def matrix(self) -> Tensor | None:  # type: ignore[override]
        A = self.operator.matrix
        return None if A is None else A.mH

    @property
    def H(self) -> LinearOperator:
        """A."""
        return self.operator

    def forward(self, x: Tensor) -> Tensor:
        """Aᴴ x."""
        return self.operator.adjoint(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A y."""
        return self.operator(y)

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(A Aᴴ + ρI)⁻¹ b."""
        return self.operator.adjoint_solve(b, rho)

    def adjoint_solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(AᴴA + ρI)⁻¹ b."""
        return self.operator.solve(b, rho)


class Several(LinearOperator, differentiable=True):
    """What operators share that consist of several operators.

    takes_apart: whether an operator of the same kind is replaced by its parts.
    """

    takes_apart = True

    def __init__(self, *operators: LinearOperator) -> None:
        super().__init__()
        if not operators:
            raise ValueError(f"{type(self).__name__} must have at least one operator, got none")
        found: list[LinearOperator] = []
        for op in operators:
            same_kind = self.takes_apart and isinstance(op, Several) and type(op) is type(self)
            found += op.parts if same_kind else [require_operator(op)]
        self.operators = nn.ModuleList(found)

    @property
    def parts(self) -> list[LinearOperator]:
        """The operators, in the order in which they were given."""
        return [op for op in self.operators if isinstance(op, LinearOperator)]

    @property
    def own_batch(self) -> tuple[int, ...]:
        return tuple(torch.broadcast_shapes(*(op.own_batch for op in self.parts)))

    def _require_one_shape(self, rule: str) -> None:
        """Refuses operators that state several shapes of x or y."""
        for name in ("shape_in", "shape_out"):
            stated = {shape for op in self.parts if (shape := getattr(op, name)) is not None}
            if len(stated) > 1:
                shapes = " and ".join(_checks.shape_text(shape) for shape in sorted(stated))
                raise ValueError(f"{rule} must have one {name}, got {shapes}")

    def _matrices(self) -> list[Tensor] | None:
        matrices = [A for op in self.parts if (A := op.matrix) is not None]
        return matrices if len(matrices) == len(self.operators) else None

    def _norms(self) -> list[float] | None:
        norms = [norm for op in self.parts if (norm := op.stated_norm()) is not None]
        return norms if len(norms) == len(self.operators) else None

    def norm(self) -> float:
        """An upper bound of the norm: from those of the operators where formulas give them, else by Lanczos' method."""
        stated = self.stated_norm()
        return super().norm() if stated is None else stated

    @property
    def solves(self) -> bool:
        return self.matrix is not None

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """By a factorisation where all are matrices, else by conjugate gradients."""
        A = self.matrix
        return super().solve(b, rho) if A is None else Dense.of(A).solve(b, rho)


class Composed(Several, differentiable=True):
    """A B ⋯ C of operators, which ``A @ B`` returns: x goes through the last one first.

    Args:
        operators: A, B, …, C, each of which takes what the next one returns.

    Raises:
        TypeError: one is no :class:`LinearOperator`.
        ValueError: there is none, or stated shapes do not fit.
    """

    def __init__(self, *operators: LinearOperator) -> None:
        super().__init__(*operators)
        for outer, inner in pairwise(self.parts):
            takes, returned = outer.shape_in, inner.shape_out
            if takes is not None and returned is not None and takes != returned:
                raise ValueError(
                    f"in A @ B, A must take what B returns, but A takes {_checks.shape_text(takes)} and B returns "
                    f"{_checks.shape_text(returned)}"
                )

    @property
    def shape_in(self) -> tuple[int, ...] | None:  # type: ignore[override]
        return self.parts[-1].shape_in

    @property
    def shape_out(self) -> tuple[int, ...] | None:  # type: ignore[override]
        return self.parts[0].shape_out

    @property
    def dims_in(self) -> int | None:
        return self.parts[-1].dims_in

    @property
    def dims_out(self) -> int | None:
        return self.parts[0].dims_out

    @property
    def collapsed(self) -> bool:  # type: ignore[override]
        """Whether A has an AᴴA that costs less than two products."""
        return self.parts[0].collapsed

    @property
    def matrix(self) -> Tensor | None:  # type: ignore[override]
        matrices = self._matrices()
        return None if matrices is None else reduce(operator.matmul, matrices)

    @property
    def H(self) -> LinearOperator:
        """Cᴴ ⋯ BᴴAᴴ."""
        return Composed(*(op.H for op in reversed(self.parts)))

    def forward(self, x: Tensor) -> Tensor:
        """A B ⋯ C x."""
        return reduce(lambda value, op: op(value), reversed(self.parts), x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Cᴴ ⋯ BᴴAᴴ y."""
        return reduce(lambda value, op: op.adjoint(value), self.parts, y)

    def normal(self, x: Tensor) -> Tensor:
        """Cᴴ ⋯ Bᴴ AᴴA B ⋯ C x."""
        first, *others = self.parts
        inner = reduce(lambda value, op: op(value), reversed(others), x)
        return reduce(lambda value, op: op.adjoint(value), others, first.normal(inner))

    def stated_norm(self) -> float | None:
        """‖A‖ ‖B‖ ⋯ ‖C‖ ≥ ‖A B ⋯ C‖, if a formula gives each."""
        norms = self._norms()
        return None if norms is None else math.prod(norms)


class Sum(Several, differentiable=True):
    """A + B + ⋯ of operators, which ``A + B`` returns.

    Args:
        operators: A, B, …, all of which take and return the same shapes.

    Raises:
        TypeError: one is no :class:`LinearOperator`.
        ValueError: there is none, or stated shapes differ.
    """

    def __init__(self, *operators: LinearOperator) -> None:
        super().__init__(*operators)
        self._require_one_shape("in A + B both")

    @property
    def shape_in(self) -> tuple[int, ...] | None:  # type: ignore[override]
        return next((op.shape_in for op in self.parts if op.shape_in is not None), None)

    @property
    def shape_out(self) -> tuple[int, ...] | None:  # type: ignore[override]
        return next((op.shape_out for op in self.parts if op.shape_out is not None), None)

    @property
    def dims_in(self) -> int | None:
        return _common(op.dims_in for op in self.parts) if self.shape_in is None else len(self.shape_in)

    @property
    def dims_out(self) -> int | None:
        return _common(op.dims_out for op in self.parts) if self.shape_out is None else len(self.shape_out)

    @property
    def matrix(self) -> Tensor | None:  # type: ignore[override]
        matrices = self._matrices()
        return None if matrices is None else reduce(operator.add, matrices)

    @property
    def H(self) -> LinearOperator:
        """Aᴴ + Bᴴ + ⋯."""
        return Sum(*(op.H for op in self.parts))

    def forward(self, x: Tensor) -> Tensor:
        """A x + B x + ⋯."""
        return reduce(operator.add, (op(x) for op in self.parts))

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ y + Bᴴ y + ⋯."""
        return reduce(operator.add, (op.adjoint(y) for op in self.parts))

    def stated_norm(self) -> float | None:
        """‖A‖ + ‖B‖ + ⋯ ≥ ‖A + B + ⋯‖, if a formula gives each."""
        norms = self._norms()
        return None if norms is None else sum(norms)


def _common(dims: Iterable[int | None]) -> int | None:
    """The number of dimensions that all operators state; None where one of them states none."""
    found = set(dims)
    return found.pop() if len(found) == 1 else None
