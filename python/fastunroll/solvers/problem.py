"""What a solver is asked: min ½‖A x − y‖² + λ‖x‖₁ for each sample of a batch, with A a matrix or an operator."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from .. import _checks, ops
from .._precision import own_precision
from ..operators.dense import Dense
from ..products import product
from .units import units


class LinearOperator(Protocol):
    """What takes the place of a matrix: ``op(x)`` and ``op.adjoint(y)``, for batches of samples (B, ...).

    An operator is always given the whole batch, as it may hold something for each sample.
    """

    def __call__(self, x: Tensor, /) -> Tensor:
        """A x."""

    def adjoint(self, y: Tensor, /) -> Tensor:
        """Aᴴ y."""


Operator: TypeAlias = LinearOperator | Callable[[Tensor], Tensor]


def total(t: Tensor) -> Tensor:
    """The sum over all of a sample: (B, ...) to (B,)."""
    return t.flatten(1).sum(1)


def column(values: Tensor, like: Tensor) -> Tensor:
    """A value for each sample, to multiply a batch with."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Re⟨a, b⟩ for each sample."""
    return total((a.conj() * b).real if a.is_complex() else a * b)


def norm(t: Tensor) -> Tensor:
    """‖t‖₂ for each sample."""
    return torch.linalg.vector_norm(t.flatten(1), dim=1)


def or_one(size: Tensor) -> Tensor:
    """What to divide by: the size, or 1 where it is zero."""
    return torch.where(size > 0, size, torch.ones_like(size))


@dataclass(frozen=True)
class Problem:
    """Arguments that fit. y is (B, ...), with any leading shape of a matrix's samples flattened.

    A: the matrix, or None; forward and adjoint: what multiplies with it. lam broadcasts with x: for matrices it is
    (), (n,), (B, 1) or (B, n). lead: the leading shape of y as it was given. unit: (B,), of what y, λ and x0 were
    divided by, or None if by nothing.
    """

    A: Tensor | None
    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]
    y: Tensor
    lam: Tensor
    x0: Tensor | None
    lead: tuple[int, ...]
    operator: Any = None
    unit: Tensor | None = None

    @property
    def batch(self) -> int:
        return self.y.shape[0]

    @property
    def measurements(self) -> int:
        """m, the number of values of one sample of y."""
        return self.y[0].numel() if self.batch else self.y.flatten(1).shape[1]

    @cached_property
    def back(self) -> Tensor:
        """Aᴴy."""
        with own_precision(self.y):
            return self.adjoint(self.y)

    @cached_property
    def correlation(self) -> Tensor:
        """‖Aᴴy‖ for each sample, or 1 where that is zero: what makes the KKT residual relative."""
        return or_one(norm(self.back.detach()))

    def start(self) -> Tensor:
        """x0, or zero."""
        if self.x0 is not None:
            return self.x0
        return torch.zeros_like(self.back) if self.A is None else self.y.new_zeros(self.batch, self.A.shape[1])

    def residual(self, x: Tensor) -> Tensor:
        """A x − y."""
        return self.forward(x) - self.y if self.A is None else product(x, self.A, start=-self.y)

    def in_units(self) -> Problem:
        """Samples whose squares could overflow or vanish in units of their own, in which all is the same to the bit."""
        unit, bounds = units(self.y), torch.finfo(self.y.dtype)
        ordinary = (unit > bounds.tiny**0.25) & (unit < bounds.max**0.25)
        if _can_be_read(unit) and bool(ordinary.all()):
            return self
        unit = torch.where(ordinary, torch.ones_like(unit), unit)
        each = column(unit, self.start())
        # An infinite λ would make the penalty of a zero NaN.
        lam = (self.lam / each).clamp(max=bounds.max)
        x0 = None if self.x0 is None else self.x0 / each
        return replace(self, y=self.y / column(unit, self.y), lam=lam, x0=x0, unit=unit)

    def in_users_units(self, values: Tensor, power: int = 1) -> Tensor:
        """What grows as a power of y, (B, ...), for a user to see: in double precision, where it could overflow."""
        return values if self.unit is None else values * column(self.unit.double(), values) ** power

    def restore(self, x: Tensor) -> Tensor:
        """In the leading shape and the units of y."""
        x = x if self.unit is None else x * column(self.unit, x)
        return x.reshape(*self.lead, *x.shape[1:])

    def samples(self, rows: Tensor) -> Problem:
        """Some samples of a matrix's problem."""
        lam = self.lam[rows] if self.lam.dim() == 2 else self.lam
        return replace(self, y=self.y[rows], lam=lam, x0=None, unit=None if self.unit is None else self.unit[rows])


def _can_be_read(t: Tensor) -> bool:
    """Not where something compiles or transforms the call."""
    return not (t.is_meta or ops.is_observed())


def _require_lam(lam: Tensor) -> None:
    if _can_be_read(lam) and not bool(((lam >= 0) & (lam < torch.inf)).all()):
        raise ValueError(
            "lam must be finite and ≥ 0 everywhere, but it holds a negative number, infinity or NaN: check how it was "
            "computed"
        )


def _for_matrix(lam: Tensor, lead: tuple[int, ...], n: int) -> Tensor:
    if lam.numel() == 1 and lam.dim() <= len(lead) + 1:
        return lam.reshape(())
    if lam.shape == (n,):
        return lam
    full = (*lead, n)
    own = (*[1] * (len(full) - lam.dim()), *lam.shape)
    if lam.dim() < 2 or len(own) != len(full) or any(a not in (1, b) for a, b in zip(own, full, strict=True)):
        raise ValueError(
            f"lam must be one number or one a coordinate, shape {_checks.shape_text((n,))}, got "
            f"{_checks.shape_text(lam.shape)}: for one a sample, give it the shape {_checks.shape_text((*lead, 1))}"
        )
    return lam.expand(*lead, lam.shape[-1]).reshape(-1, lam.shape[-1])


def _of_matrix(A: Tensor, y: Tensor, lam: Tensor | float, x0: Tensor | None) -> Problem:
    A = _checks.matrix("A", A)
    m, n = A.shape
    _checks.columns("y", _checks.tensor("y", y), m, A.shape)
    if x0 is not None:
        _checks.columns("x0", _checks.tensor("x0", x0), n, A.shape)
        _checks.same_batch("x0", x0, "y", y)
    A, y, x0 = _checks.alike(A=A, y=y, x0=x0)
    lam = _for_matrix(_checks.threshold("lam", lam, A), y.shape[:-1], n)
    start = None if x0 is None else x0.reshape(-1, n)
    return Problem(
        A, lambda x: product(x, A), lambda r: product(r, A, adjoint=True), y.reshape(-1, m), lam, start, y.shape[:-1]
    )


def _of_operator(op: Any, y: Tensor, lam: Tensor | float, x0: Tensor | None) -> Problem:
    _checks.tensor("y", y)
    if y.dim() < 2:
        raise ValueError(
            f"y must be a batch of signals, (B, ...), where A is an operator, got shape {_checks.shape_text(y.shape)}: "
            "use y[None] for one"
        )
    lam = _checks.threshold("lam", lam, y)
    if x0 is not None:
        _, x0 = _checks.alike(y=y, x0=_checks.tensor("x0", x0))

    def forward(x: Tensor) -> Tensor:
        measured = op(x)
        if not isinstance(measured, Tensor) or measured.shape != y.shape:
            got = _checks.shape_text(measured.shape) if isinstance(measured, Tensor) else type(measured).__name__
            raise ValueError(f"A(x) must be a tensor of the shape of y, {_checks.shape_text(y.shape)}, got {got}")
        return measured

    found = Problem(None, forward, op.adjoint, y, lam, x0, (y.shape[0],), op)
    like = found.back
    if not isinstance(like, Tensor) or like.dim() < 2 or like.shape[0] != y.shape[0]:
        got = _checks.shape_text(like.shape) if isinstance(like, Tensor) else type(like).__name__
        raise ValueError(
            f"A.adjoint(y) must be a tensor with the {y.shape[0]} samples of y in its first dimension, got {got}"
        )
    if x0 is not None and x0.shape != like.shape:
        raise ValueError(
            f"x0 must have the shape of A.adjoint(y), {_checks.shape_text(like.shape)}, got "
            f"{_checks.shape_text(x0.shape)}"
        )
    if _checks.broadcasts("lam", lam, like) != like.shape:
        raise ValueError(
            f"lam must broadcast with x, but lam is {_checks.shape_text(lam.shape)} and x is "
            f"{_checks.shape_text(like.shape)}"
        )
    return found


def problem(A: Tensor | Operator, y: Tensor, lam: Tensor | float, x0: Tensor | None) -> Problem:
    """The arguments of a solver, if they fit."""
    if isinstance(A, Dense):
        A = A.A
    if isinstance(A, Tensor):
        found = _of_matrix(A, y, lam, x0)
    elif callable(A) and callable(getattr(A, "adjoint", None)):
        found = _of_operator(A, y, lam, x0)
    elif callable(A):
        raise TypeError(f"an operator must have A.adjoint(y) besides A(x), but {type(A).__name__} has no adjoint")
    else:
        raise TypeError(
            f"A must be a matrix or an operator with A(x) and A.adjoint(y), got {type(A).__name__}: use "
            "torch.as_tensor(A) if it is a matrix"
        )
    _require_lam(found.lam)
    return found


def positive_scalar(name: str, value: Tensor | float, like: Tensor) -> Tensor:
    """A finite number > 0 as a tensor of shape () beside ``like``."""
    if not isinstance(value, Tensor):
        _checks.positive(name, value)
    number = _checks.scalar(name, value, like)
    if _can_be_read(number) and not 0 < float(number.detach()) < math.inf:
        raise ValueError(f"{name} must be a finite number > 0, got {float(number.detach())!r}")
    return number


def require_precision(y: Tensor) -> None:
    """Refuses half precision, in which neither gaps nor factorisations mean much."""
    if y.dtype in (torch.float16, torch.bfloat16, torch.complex32):
        raise TypeError(f"this solver needs single or double precision, got {y.dtype}: use .float()")
