"""Products of solvers with an operator, with checks of the batch dimensions and of the shapes of results."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, cast

import torch
from torch import Tensor

from .. import _checks
from .._checks import shape_text
from .gradients import bare
from .linear_operator import LinearOperator

Product = Callable[[Tensor], Any]


def batch_shape(op: LinearOperator, y: Tensor) -> tuple[int, ...]:
    """The dimensions of y that count samples: all before those of one sample, or the first where these are unknown."""
    event, dims = op.shape_out, op.dims_out
    if event is None and dims is not None:
        if y.dim() < dims:
            raise ValueError(
                f"y must have {dims} dimensions for a sample of {type(op).__name__}, and any before them, got "
                f"{shape_text(y.shape)}"
            )
        return tuple(y.shape[: y.dim() - dims])
    if event is None:
        if y.dim() < 2:
            raise ValueError(
                f"y must be a batch of signals, (B, ...), where A is an operator, got shape {shape_text(y.shape)}: use "
                "y[None] for one"
            )
        return tuple(y.shape[:1])
    lead = max(0, y.dim() - len(event))
    if y.shape[lead:] != event:
        raise ValueError(
            f"y must have the shape {shape_text(('...', *event))} of A.shape_out, got {shape_text(y.shape)}"
        )
    return tuple(y.shape[:lead])


class Products:
    """A x and Aᴴ y of an operator, for batches of the size of y, (B, ...): one sentence where they do not fit."""

    def __init__(self, op: LinearOperator, y: Tensor) -> None:
        self.op, self.y = op, y
        self.apply: Product = op
        self.apply_adjoint: Product = op.adjoint
        self.codes: Tensor | None = None  # what A.adjoint(y) was: x has its shape and type

    def without_gradients(self) -> Products:
        """The same products of plain tensors that require no gradient, which do less at each call."""
        found = copy(self)
        found.apply, found.apply_adjoint = bare(self.op, "forward"), bare(self.op, "adjoint")
        return found

    def forward(self, x: Tensor) -> Tensor:
        """A x, of the shape of y."""
        found = called("A", self.apply, x)
        if _fits(found, self.y, self.y):
            return cast(Tensor, found)
        if not isinstance(found, Tensor) or found.shape != self.y.shape:
            raise ValueError(f"A(x) must be a tensor of the shape of y, {shape_text(self.y.shape)}, got {_got(found)}")
        return _alike("A(x)", found, self.y, self.y.dtype)

    def adjoint(self, r: Tensor) -> Tensor:
        """Aᴴ r, of the same shape in every call."""
        found = called("A.adjoint", self.apply_adjoint, r)
        if self.codes is not None and _fits(found, self.codes, self.y):
            return cast(Tensor, found)
        if self.codes is None:
            self.codes = self._first(found)
        if not isinstance(found, Tensor) or found.shape != self.codes.shape:
            raise ValueError(
                f"A.adjoint(y) must be a tensor of the same shape in each call, {shape_text(self.codes.shape)} as in "
                f"the first, got {_got(found)}"
            )
        return _alike("A.adjoint(y)", found, self.y, self.codes.dtype)

    def normal(self, x: Tensor) -> Tensor:
        """AᴴA x, of the shape of x."""
        found = called("A.normal", self.op.normal, x)
        if _fits(found, x, self.y):
            return cast(Tensor, found)
        if not isinstance(found, Tensor) or found.shape != x.shape:
            raise ValueError(
                f"A.normal(x) must be a tensor of the shape of x, {shape_text(x.shape)}, got {_got(found)}"
            )
        return _alike("A.normal(x)", found, self.y, x.dtype)

    def collapsed_gradient(self, x: Tensor, At_y: Tensor) -> Tensor:
        """AᴴA x − Aᴴy, of the shape of x."""
        found = called("A.collapsed_gradient", self.op.collapsed_gradient, x, At_y)
        if _fits(found, x, self.y):
            return cast(Tensor, found)
        if not isinstance(found, Tensor) or found.shape != x.shape:
            raise ValueError(
                f"A.collapsed_gradient(x, At_y) must be a tensor of the shape of x, {shape_text(x.shape)}, got "
                f"{_got(found)}"
            )
        return _alike("A.collapsed_gradient(x, At_y)", found, self.y, x.dtype)

    def _first(self, found: object) -> Tensor:
        count = self.y.shape[0]
        if not isinstance(found, Tensor) or found.dim() < 2 or found.shape[0] != count:
            raise ValueError(
                f"A.adjoint(y) must be a tensor with the {count} samples of y in its first dimension, got {_got(found)}"
            )
        event = self.op.shape_in
        if event is not None and found.shape[1:] != event:
            raise ValueError(
                f"A.adjoint(y) must have the shape {shape_text((count, *event))}, {count} samples of A.shape_in, got "
                f"{shape_text(found.shape)}"
            )
        own = self.y.dtype
        return _alike("A.adjoint(y)", found, self.y, own.to_complex() if found.is_complex() else own.to_real())


def called(name: str, product: Callable[..., Any], value: Tensor, *more: Tensor) -> Any:
    """``product(value, *more)``: one sentence where PyTorch refuses it."""
    try:
        return product(value, *more)
    except RuntimeError as error:
        if type(error) is not RuntimeError:  # out of memory, say
            raise
        raise ValueError(
            f"{name} must take a tensor of shape {shape_text(value.shape)} and type {value.dtype}, but it raised: "
            f"{str(error).splitlines()[0]}"
        ) from error


def sample_shape(op: LinearOperator, x: Tensor, y: Tensor) -> tuple[int, ...]:
    """The dimensions that count samples, the same of x and y."""
    lead = batch_shape(op, y)
    takes = op.shape_in
    fits = x.shape[: len(lead)] == lead and x.dim() > len(lead) - (takes == ())
    if not fits or (takes is not None and x.shape[len(lead) :] != takes):
        wanted = ("...",) if takes is None else takes
        raise ValueError(
            f"x must have the shape {shape_text((*lead, *wanted))}, the samples of y and A.shape_in, got "
            f"{shape_text(x.shape)}"
        )
    return lead


def gradient(op: LinearOperator, x: Tensor, y: Tensor) -> Tensor:
    """Aᴴ(A x − y), of the shape and type of x."""
    found = called("A.gradient", op.gradient, x, y)
    if not isinstance(found, Tensor) or found.shape != x.shape:
        raise ValueError(f"A.gradient(x, y) must have the shape of x, {shape_text(x.shape)}, got {_got(found)}")
    return _alike("A.gradient(x, y)", found, x, x.dtype)


def _fits(found: Any, wanted: Tensor, y: Tensor) -> bool:
    """Whether nothing is wrong with a product: quickly, since it is asked in every iteration."""
    return (
        type(found) is Tensor
        and found.shape == wanted.shape
        and found.dtype == wanted.dtype
        and found.device == y.device
    )


def _got(found: object) -> str:
    return shape_text(found.shape) if isinstance(found, Tensor) else type(found).__name__


def _alike(name: str, found: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
    _checks.same_device(name, found, y)
    if found.dtype != dtype:
        raise TypeError(f"{name} must be {dtype} where y is {y.dtype}, got {found.dtype}: convert it with .to()")
    return found
