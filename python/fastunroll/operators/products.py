"""Products of solvers, networks and losses with an operator, whose shapes and types are checked."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from .. import _checks
from .._checks import shape_text
from ..ops.tensors import has_tangents, real_dtype
from .direct import FULL
from .gradients import bare
from .linear_operator import LinearOperator
from .stated import as_stated

Product = Callable[[Tensor], Any]
_HALF = (torch.float16, torch.bfloat16)


def batch_shape(op: LinearOperator, y: Tensor) -> tuple[int, ...]:
    """The dimensions of y that count samples: all before those of one sample, or the first where these are unknown."""
    event, dims = as_stated("shape_out", op.shape_out), op.dims_out
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


def has_shape_in(op: LinearOperator, x: Tensor, lead: int) -> bool:
    """Whether samples x have the shape that A states, after ``lead`` dimensions of the batch.

    Where each sample has something of its own, more dimensions of the batch may follow.
    """
    event = as_stated("shape_in", op.shape_in)
    return event is None or x.shape[x.dim() - len(event) if op.own_batch else lead :] == event


def has_data_step(op: LinearOperator) -> bool:
    """Whether an operator has a data step of its own, and not the base class's."""
    return type(op).data_step is not LinearOperator.data_step or "data_step" in op.__dict__


class Products:
    """A x, Aᴴ y and others of an operator, for batches like y: one sentence where they do not fit.

    like: a batch whose shape and type x has, and what messages call it; by default that is the first A.adjoint(y).
    widens: whether products with batches of half precision may be of single precision, in which operators of pictures
    compute.
    """

    def __init__(
        self, op: LinearOperator, y: Tensor, *, like: tuple[str, Tensor] | None = None, widens: bool = False
    ) -> None:
        self.op, self.y, self.widens = op, y, widens
        self.apply: Product = op
        self.apply_adjoint: Product = op.adjoint
        self.named = "the first one" if like is None else like[0]
        self.codes: Tensor | None = None if like is None else like[1]

    def without_gradients(self) -> Products:
        """The same products of plain tensors that require no gradient, which do less at each call."""
        found = copy(self)
        found.apply, found.apply_adjoint = bare(self.op, "forward"), bare(self.op, "adjoint")
        return found

    def of_samples(self, some: slice) -> Products:
        """The same products of some samples of the batch."""
        found = copy(self)
        found.y, found.codes = self.y[some], None if self.codes is None else self.codes[some]
        return found

    def forward(self, x: Tensor) -> Tensor:
        """A x, of the shape of y."""
        return self.as_forward(called("A", self.apply, x))

    def as_forward(self, found: Any) -> Tensor:
        """What A has returned, if it is as A x."""
        return self._like("A(x)", found, self.y, "y")

    def adjoint(self, r: Tensor) -> Tensor:
        """Aᴴ r, of the same shape in every call."""
        return self.as_adjoint(called("A.adjoint", self.apply_adjoint, r))

    def as_adjoint(self, found: Any) -> Tensor:
        """What A.adjoint has returned, if it is as Aᴴ r."""
        if self.codes is None:
            self.codes = self._first(found)
        return self._like("A.adjoint(y)", found, self.codes, self.named)

    def normal(self, x: Tensor) -> Tensor:
        """AᴴA x, of the shape of x."""
        return self._like("A.normal(x)", called("A.normal", self.op.normal, x), x, "x")

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Aᴴ(A x − y), of the shape of x."""
        found = self._gradient_of_plain(x, y)
        if found is not None:
            return found
        return self._like("A.gradient(x, y)", called("A.gradient", self.op.gradient, x, y), x, "x")

    def collapsed_gradient(self, x: Tensor, At_y: Tensor) -> Tensor:
        """AᴴA x − Aᴴy, of the shape of x."""
        found = called("A.collapsed_gradient", self.op.collapsed_gradient, x, At_y)
        return self._like("A.collapsed_gradient(x, At_y)", found, x, "x")

    def solve(self, b: Tensor, rho: Tensor) -> Tensor:
        """(AᴴA + ρI)⁻¹ b, of the shape of b."""
        return self._like("A.solve(b, rho)", called("A.solve", self.op.solve, b, rho), b, "b")

    def data_step(self, v: Tensor, At_y: Tensor, rho: Tensor) -> Tensor:
        """(AᴴA + ρI)⁻¹(Aᴴy + ρ v), of the shape of Aᴴy."""
        if not has_data_step(self.op):
            return self.solve(At_y + rho * v, rho)
        found = called("A.data_step", self.op.data_step, v, At_y, rho)
        return self._like("A.data_step(v, At_y, rho)", found, At_y, "At_y")

    def _gradient_of_plain(self, x: Tensor, y: Tensor) -> Tensor | None:
        """The gradient by products that record none for x: quickly, since every layer comes here.

        None where the operator has a gradient of its own, or where a product is not as usual: what is wrong with it is
        found by the longer way.
        """
        if torch.compiler.is_compiling() or (x.requires_grad and torch.is_grad_enabled()) or has_tangents():
            return None
        if self._of_gradient is None:
            return None
        apply, apply_adjoint = self._of_gradient
        try:
            found = apply(x)
            found = found - y if _fits(found, y, y) else None  # the next product takes the memory of this one
            found = None if found is None else apply_adjoint(found)
        except RuntimeError:
            found = None
        if not _fits(found, x, y):
            self._of_gradient = found = None
        return cast("Tensor | None", found)

    @cached_property
    def _of_gradient(self) -> tuple[Product, Product] | None:
        """A and Aᴴ as their class has written them, of which the gradient consists; None where it is another one."""
        op = self.op
        if op.collapsed or "gradient" in vars(op) or type(op).gradient is not LinearOperator.gradient:
            return None
        return bare(op, "forward"), bare(op, "adjoint")

    def _first(self, found: object) -> Tensor:
        lead = batch_shape(self.op, self.y)
        if not isinstance(found, Tensor) or found.dim() <= len(lead) or found.shape[: len(lead)] != lead:
            count = f"{lead[0]} samples" if len(lead) == 1 else f"samples {shape_text(lead)}"
            places = "dimension" if len(lead) == 1 else "dimensions"
            raise ValueError(
                f"A.adjoint(y) must be a tensor with the {count} of y in its first {places}, got {_got(found)}"
            )
        if not has_shape_in(self.op, found, len(lead)):
            event = self.op.shape_in or ()
            raise ValueError(
                f"A.adjoint(y) must have the shape {shape_text((*lead, *event))}, the samples of y and A.shape_in, got "
                f"{shape_text(found.shape)}"
            )
        if real_dtype(found) != real_dtype(self.y):
            own = self.y.dtype
            dtype = own.to_complex() if found.is_complex() else own.to_real()
            self._require_type("A.adjoint(y)", found, dtype, "y", own)
        return found

    def _like(self, name: str, found: Any, wanted: Tensor, of: str) -> Tensor:
        """A product, if it has the shape and type of ``wanted``, which messages call ``of``."""
        if _fits(found, wanted, self.y):
            return cast(Tensor, found)
        if not isinstance(found, Tensor) or found.shape != wanted.shape:
            raise ValueError(
                f"{name} must be a tensor of the shape of {of}, {shape_text(wanted.shape)}, got {_got(found)}"
            )
        self._require_type(name, found, wanted.dtype, of, wanted.dtype)
        return found

    def _require_type(self, name: str, found: Tensor, dtype: torch.dtype, of: str, own: torch.dtype) -> None:
        _checks.same_device(name, found, self.y)
        single = self.widens and dtype in _HALF and real_dtype(found) == torch.float32
        if found.is_complex() and not dtype.is_complex:
            fix = f"give a complex {of}, or let A return the real part" if of in ("x", "y", "b") else "return one type"
            raise TypeError(f"{name} is complex where {of} is real: {fix}")
        if found.layout != torch.strided:
            raise TypeError(f"{name} must be a dense tensor, got one of layout {found.layout}: use .to_dense()")
        if found.dtype != dtype and not single:
            if own in _HALF and real_dtype(found) in FULL:
                raise TypeError(
                    f"{of} needs single or double precision, in which {name} is computed, got {own}: use {of}.float()"
                )
            raise TypeError(f"{name} must be {dtype} where {of} is {own}, got {found.dtype}: convert one with .to()")


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


def leaving(name: str, product: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    """``product(value)``, if that has not written to ``value``, as far as PyTorch counts."""
    version = None if value.is_inference() else value._version
    found = product(value)
    if version is not None and value._version != version:
        raise ValueError(f"{name} must leave its argument as it is, but it writes to it: copy it first")
    return found


def sample_shape(op: LinearOperator, x: Tensor, y: Tensor) -> tuple[int, ...]:
    """The dimensions that count samples, the same of x and y."""
    lead = batch_shape(op, y)
    takes = op.shape_in
    fits = x.shape[: len(lead)] == lead and x.dim() > len(lead) - (takes == ())
    if not fits or not has_shape_in(op, x, len(lead)):
        wanted = ("...",) if takes is None else takes
        raise ValueError(
            f"x must have the shape {shape_text((*lead, *wanted))}, the samples of y and A.shape_in, got "
            f"{shape_text(x.shape)}"
        )
    return lead


def gradient(op: LinearOperator, x: Tensor, y: Tensor) -> Tensor:
    """Aᴴ(A x − y), of the shape and type of x."""
    return Products(op, y).gradient(x, y)


def _fits(found: Any, wanted: Tensor, y: Tensor) -> bool:
    """Whether nothing is wrong with a product: quickly, since it is asked in every iteration."""
    return (
        isinstance(found, Tensor)
        and found.shape == wanted.shape
        and found.dtype == wanted.dtype
        and found.device == y.device
        and found.layout == torch.strided
    )


def _got(found: object) -> str:
    return shape_text(found.shape) if isinstance(found, Tensor) else type(found).__name__
