"""Operators of other libraries of which this package has a faster one with the same AᴴA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .linear_operator import LinearOperator


class Recognised(LinearOperator, differentiable=True):
    """An operator of another library, with AᴴA, its gradient, its solve and its norm by an operator of this package.

    Args:
        op: A, as its library computes it.
        make: makes the operator of this package that has the same AᴴA, of the precision, device and size of x.
        collapsed: as that operator has it.
        solves: as that operator has it.
        has_products: whether that operator has the same A and Aᴴ too, and computes them: of a ``NumpyOperator``.
        axis: an axis of size 1 of x that the operator of this package does not have.
    """

    def __init__(
        self,
        op: LinearOperator,
        make: Callable[[Tensor], LinearOperator],
        *,
        collapsed: bool,
        solves: bool,
        has_products: bool = False,
        axis: int | None = None,
    ) -> None:
        super().__init__()
        self.operator: Any = op
        self.make, self.collapsed, self._solves = make, collapsed, solves
        self.has_products, self.axis = has_products, axis
        self.shape_in, self.shape_out = op.shape_in, op.shape_out
        self._made: dict[Any, LinearOperator] = {}

    @property
    def source(self) -> Any:
        return self.operator.source

    @property
    def solves(self) -> bool:
        return self._solves

    def product_name(self, method: str) -> str:
        return self.operator.product_name(method)

    def _like(self, x: Tensor) -> LinearOperator:
        """The operator of this package for x, which is made once."""
        key = x.dtype.to_real(), x.device, x.shape[-2:]
        if key not in self._made:
            self._made[key] = self.make(x)
        return self._made[key]

    def _inner(self, x: Tensor) -> Tensor:
        return x if self.axis is None else x.squeeze(self.axis)

    def _outer(self, x: Tensor) -> Tensor:
        return x if self.axis is None else x.unsqueeze(self.axis)

    def forward(self, x: Tensor) -> Tensor:
        """A x."""
        if not self.has_products:
            return self.operator(x)
        self.operator.require_sample("x", x)
        return self._like(x)(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ y."""
        if not self.has_products:
            return self.operator.adjoint(y)
        self.operator.require_sample("y", y)
        return self._like(y).adjoint(y)

    def normal(self, x: Tensor) -> Tensor:
        """AᴴA x."""
        return self._outer(self._like(x).normal(self._inner(x)))

    def collapsed_gradient(self, x: Tensor, At_y: Tensor) -> Tensor:
        """AᴴA x − Aᴴy."""
        return self._outer(self._like(x).collapsed_gradient(self._inner(x), self._inner(At_y)))

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(AᴴA + ρI)⁻¹ b, in closed form where the operator of this package has one."""
        return self._outer(self._like(b).solve(self._inner(b), rho))

    @torch.no_grad()
    def norm(self) -> float:
        """‖A‖ or the upper bound of it that the operator of this package states."""
        return self._like(torch.empty(self.shape_in or (1, 1), dtype=torch.float64)).norm()

    def extra_repr(self) -> str:
        return "" if not self._made else f"as {type(next(iter(self._made.values()))).__name__}"


def shared(op: LinearOperator, **tensors: Tensor) -> LinearOperator:
    """The operator with the tensors themselves: what is kept of them is found again in the next call."""
    for name, tensor in tensors.items():
        op._buffers[name] = tensor
    return op
