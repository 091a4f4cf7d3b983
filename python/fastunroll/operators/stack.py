"""Several measurements of the same picture."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from .. import _checks
from .linear_operator import LinearOperator
from .scaled import require_operator


class Stack(LinearOperator, differentiable=True):
    """Several operators on the same x, whose results are stacked: y = (A x, B x, …).

    Aᴴ y = Aᴴ y₁ + Bᴴ y₂ + …, AᴴA is the sum of those of the operators, and ‖(A, B, …)‖² ≤ ‖A‖² + ‖B‖² + …. Several
    blurred exposures of a scene are one example.

    Args:
        operators: A, B, …, with results of the same shape and type.

    Raises:
        TypeError: one is no :class:`LinearOperator`.
        ValueError: there is none, the number of dimensions of their results is unknown, or stated shapes differ.

    Example::

        exposures = fu.operators.Stack(fu.operators.Blur(first), fu.operators.Blur(second))
        y = exposures(x)                               # (..., H, W) to (..., 2, H, W)

    Equivalent to::

        torch.stack([A(x), B(x)], dim=-3)              # for pictures
    """

    def __init__(self, *operators: LinearOperator) -> None:
        super().__init__()
        if not operators:
            raise ValueError("Stack must have at least one operator, got none")
        self.operators = nn.ModuleList(require_operator(op) for op in operators)
        for name in ("shape_in", "shape_out"):
            stated = {shape for op in self.parts if (shape := getattr(op, name)) is not None}
            if len(stated) > 1:
                shapes = " and ".join(_checks.shape_text(shape) for shape in sorted(stated))
                raise ValueError(f"stacked operators must have one {name}, got {shapes}")
        self.dims = _dims(op.dims_out for op in self.parts)

    @property
    def parts(self) -> list[LinearOperator]:
        """The operators, in the order in which they were given."""
        return [op for op in self.operators if isinstance(op, LinearOperator)]

    @property
    def shape_in(self) -> tuple[int, ...] | None:  # type: ignore[override]
        return next((op.shape_in for op in self.parts if op.shape_in is not None), None)

    @property
    def shape_out(self) -> tuple[int, ...] | None:  # type: ignore[override]
        found = next((op.shape_out for op in self.parts if op.shape_out is not None), None)
        return None if found is None else (len(self.operators), *found)

    @property
    def dims_in(self) -> int | None:
        return next((op.dims_in for op in self.parts if op.dims_in is not None), None)

    @property
    def dims_out(self) -> int | None:
        return self.dims + 1

    @property
    def own_batch(self) -> tuple[int, ...]:
        return tuple(torch.broadcast_shapes(*(op.own_batch for op in self.parts)))

    @property
    def collapsed(self) -> bool:  # type: ignore[override]
        """Whether all operators have an AᴴA that costs less than two products."""
        return all(op.collapsed for op in self.parts)

    def forward(self, x: Tensor) -> Tensor:
        """(A x, B x, …): (..., number of operators, *shape of a result)."""
        return torch.stack([op(x) for op in self.parts], -self.dims - 1)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ y₁ + Bᴴ y₂ + …."""
        _checks.tensor("y", y)
        if y.dim() <= self.dims or y.shape[-self.dims - 1] != len(self.operators):
            raise ValueError(
                f"y must hold {len(self.operators)} stacked results, in the dimension before the last {self.dims}, got "
                f"{_checks.shape_text(y.shape)}"
            )
        return reduce(add, (op.adjoint(part) for op, part in zip(self.parts, y.unbind(-self.dims - 1), strict=True)))

    def normal(self, x: Tensor) -> Tensor:
        """AᴴA x + BᴴB x + …."""
        return reduce(add, (op.normal(x) for op in self.parts))

    def stated_norm(self) -> float | None:
        """√(‖A‖² + ‖B‖² + …), if a formula gives each."""
        norms = [op.stated_norm() for op in self.parts]
        return None if None in norms else sum(norm**2 for norm in norms if norm is not None) ** 0.5

    def norm(self) -> float:
        """√(‖A‖² + ‖B‖² + …), an upper bound, or else one by Lanczos' method."""
        stated = self.stated_norm()
        return super().norm() if stated is None else stated


def _dims(found: Iterable[int | None]) -> int:
    dims = set(found)
    if len(dims) != 1 or None in dims:
        raise ValueError(
            "stacked operators must have results of one known number of dimensions: state their shapes, as in "
            "fu.operators.Blur(kernel, shape=(H, W))"
        )
    (one,) = dims
    assert one is not None
    return one
