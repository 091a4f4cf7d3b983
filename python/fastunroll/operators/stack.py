"""Several measurements of the same picture."""

from __future__ import annotations

from functools import reduce
from operator import add

import torch
from torch import Tensor

from .. import _checks
from .composition import Several
from .linear_operator import LinearOperator
from .pictures import PictureOperator


class Stack(Several, differentiable=True):
    """Several operators on the same x, whose results are stacked: y = (A x, B x, …).

    Aᴴ y = Aᴴ y₁ + Bᴴ y₂ + …, AᴴA is the sum of those of the operators, and ‖(A, B, …)‖² ≤ ‖A‖² + ‖B‖² + …. Several
    blurred exposures of a scene are one example.

    The new dimension comes before the dimensions of one result: before (H, W) for pictures. Where no operator says how
    many these are, as operators of your own without ``shape_out``, it is the second dimension of y, (B, 2, ...).

    Args:
        operators: A, B, …, with results of the same shape and type.

    Raises:
        TypeError: one is no :class:`LinearOperator`.
        ValueError: there is none, or their shapes differ.

    Example::

        exposures = fu.operators.Stack(fu.operators.Blur(first), fu.operators.Blur(second))
        y = exposures(x)                               # (..., H, W) to (..., 2, H, W)

    Equivalent to::

        torch.stack([A(x), B(x)], dim=-3)              # for pictures
    """

    takes_apart = False

    def __init__(self, *operators: LinearOperator) -> None:
        super().__init__(*operators)
        self._require_one_shape("stacked operators")
        self.dims = _dims(self.parts)

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
        return next((op.dims_out + 1 for op in self.parts if op.dims_out is not None), None)

    @property
    def axis(self) -> int:
        """The dimension of y along which results are stacked."""
        return 1 if self.dims is None else -self.dims - 1

    @property
    def collapsed(self) -> bool:  # type: ignore[override]
        """Whether all operators have an AᴴA that costs less than two products."""
        return all(op.collapsed for op in self.parts)

    def forward(self, x: Tensor) -> Tensor:
        """(A x, B x, …): (..., number of operators, *shape of a result)."""
        results = [op(x) for op in self.parts]
        shapes = list(dict.fromkeys(_checks.shape_text(result.shape) for result in results))
        if len(shapes) > 1 or results[0].dim() < (self.dims or 1):
            raise ValueError(
                f"stacked operators must return results of one shape, with a batch before it where no shape_out is "
                f"stated, got {' and '.join(shapes)}"
            )
        return torch.stack(results, self.axis)

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ y₁ + Bᴴ y₂ + …."""
        _checks.tensor("y", y)
        if y.dim() <= (self.dims or 1) or y.shape[self.axis] != len(self.operators):
            where = "second dimension" if self.dims is None else f"dimension before the last {self.dims}"
            raise ValueError(
                f"y must hold {len(self.operators)} stacked results, in the {where}, got {_checks.shape_text(y.shape)}"
            )
        return reduce(add, (op.adjoint(part) for op, part in zip(self.parts, y.unbind(self.axis), strict=True)))

    def normal(self, x: Tensor) -> Tensor:
        """AᴴA x + BᴴB x + …."""
        return reduce(add, (op.normal(x) for op in self.parts))

    def stated_norm(self) -> float | None:
        """√(‖A‖² + ‖B‖² + …), if a formula gives each."""
        norms = self._norms()
        return None if norms is None else sum(norm**2 for norm in norms) ** 0.5


def _dims(parts: list[LinearOperator]) -> int | None:
    """The number of dimensions of one result, as shapes state it, or else as results are pictures; None if unknown."""
    stated = {len(op.shape_out) for op in parts if op.shape_out is not None}
    pictures = {op.picture_dims + op.channel_dims[1] for op in parts if isinstance(op, PictureOperator)}
    known = {op.dims_out for op in parts if op.dims_out is not None and not isinstance(op, PictureOperator)}
    found = stated or known | pictures
    if len(found) > 1 or (found and max(found) < max(pictures | known, default=0)):
        raise ValueError(
            "stacked operators must have results of one number of dimensions, got "
            f"{' and '.join(map(str, sorted(found | pictures | known)))}"
        )
    return next(iter(found), None)
