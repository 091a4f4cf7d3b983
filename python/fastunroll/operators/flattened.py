"""An operator of pictures as an operator of vectors."""

from __future__ import annotations

import math

from torch import Tensor

from .derived import Derived
from .linear_operator import LinearOperator


class Flattened(Derived, differentiable=True):
    """An operator on flat vectors: x (..., n) and y (..., m) in place of (..., *shape_in) and (..., *shape_out).

    Args:
        op: A.
        shape_in: the shape of one sample that A takes.
        shape_out: the shape of one sample that A returns.
    """

    def __init__(self, op: LinearOperator, shape_in: tuple[int, ...], shape_out: tuple[int, ...]) -> None:
        super().__init__(op)
        self.shapes = tuple(shape_in), tuple(shape_out)
        self.shape_in, self.shape_out = (math.prod(shape_in),), (math.prod(shape_out),)

    def forward(self, x: Tensor) -> Tensor:
        """A x as a flat vector."""
        lead = x.shape[:-1]
        return self.operator(x.reshape(*lead, *self.shapes[0])).flatten(len(lead))

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ y as a flat vector."""
        lead = y.shape[:-1]
        return self.operator.adjoint(y.reshape(*lead, *self.shapes[1])).flatten(len(lead))

    def norm(self) -> float:
        """That of A, or an estimate by Lanczos' method."""
        stated = self.stated_norm()
        return LinearOperator.norm(self) if stated is None else stated

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """That of A."""
        return self.operator.solve(b.reshape(*b.shape[:-1], *self.shapes[0]), rho).reshape(b.shape)

    def adjoint_solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """That of A."""
        return self.operator.adjoint_solve(b.reshape(*b.shape[:-1], *self.shapes[1]), rho).reshape(b.shape)
