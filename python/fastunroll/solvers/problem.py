"""What a solver is asked: min ½‖A x − y‖² + λ·R(x) for each sample of a batch, with A a matrix or an operator."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import TypeVar

import torch
from torch import Tensor

from .. import _checks, ops
from .._precision import own_precision
from ..operators.convert import OperatorLike, matrix_or_operator
from ..operators.dense import Dense
from ..operators.direct import AT_ONCE
from ..operators.dot_test import examine
from ..operators.known import Known
from ..operators.linear_operator import LinearOperator
from ..operators.pictures import PictureOperator
from ..operators.products import Products, batch_shape, leaving
from ..ops.tensors import is_hidden
from ..products import product
from ..prox import L1, NonNegativeL1, Proximal
from ..prox.proximal import require_proximal, warn_of_layout
from ..samples import column, energy, norm, safe_divisor
from ..units import units

T = TypeVar("T")

LASSO, LASSO_NONNEGATIVE = L1(), NonNegativeL1()
_PRIORS = f"{Proximal.__module__.rpartition('.')[0]}."  # the names of their modules begin with it
NONNEGATIVE_WITH_PROX = "nonnegative belongs to the ℓ₁ norm: use prox=fu.prox.NonNegativeL1(), or another prox alone"


@dataclass(frozen=True)
class Problem:
    """Arguments that fit. y is (B, ...), with any leading shape flattened.

    A: the matrix, or None; forward and adjoint: what multiplies with it. lam broadcasts with x: for matrices it is
    (), (n,), (B, 1) or (B, n). leading: the leading shape of y as it was given. unit: (B,), of what y, λ and x0 were
    divided by, or None if by nothing. known_At_y: Aᴴy where it has been computed. operator, products and known: of an
    operator, its checked products and what is known of it, which is asked once. prior: R, whose weight is λ.
    """

    A: Tensor | None
    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor]
    y: Tensor
    lam: Tensor
    x0: Tensor | None
    batch_shape: tuple[int, ...]
    operator: LinearOperator | None = None
    unit: Tensor | None = None
    known_At_y: Tensor | None = None
    products: Products | None = None
    known: Callable[[], Known] | None = None
    prior: Proximal = LASSO

    @property
    def is_lasso(self) -> bool:
        """Whether R is the ℓ₁ norm, perhaps over x ≥ 0, for which there are kernels."""
        return type(self.prior) in (L1, NonNegativeL1)

    @property
    def nonnegative(self) -> bool:
        """Whether R is the ℓ₁ norm over x ≥ 0."""
        return type(self.prior) is NonNegativeL1

    @property
    def batch(self) -> int:
        return self.y.shape[0]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample of x."""
        return tuple(self.At_y.shape[1:] if self.A is None else self.A.shape[1:])

    @property
    def measurements(self) -> int:
        """m, the number of values of one sample of y."""
        return self.y[0].numel() if self.batch else self.y.flatten(1).shape[1]

    @cached_property
    def At_y(self) -> Tensor:
        """Aᴴy."""
        if self.known_At_y is not None:
            return self.known_At_y
        with own_precision(self.y):
            return self.adjoint(self.y)

    @cached_property
    def correlation(self) -> Tensor:
        """‖Aᴴy‖ for each sample, or 1 where that is zero: what makes the KKT residual relative."""
        return safe_divisor(norm(self.At_y.detach()))

    def start(self) -> Tensor:
        """x0, or zero."""
        if self.x0 is not None:
            return self.x0
        return torch.zeros_like(self.At_y) if self.A is None else self.y.new_zeros(self.batch, self.A.shape[1])

    def kept(self, what: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` makes of the operator alone: once, where the operator is known again."""
        return make() if self.known is None else self.known().kept(what, make)

    @cached_property
    def energy(self) -> Tensor:
        """‖y‖² for each sample, (B,), without gradient."""
        return energy(self.y.detach())

    def misfit(self, x: Tensor) -> Tensor:
        """‖A x − y‖² for each sample, (B,): of many pictures some after the others, since memory for all takes long."""
        if self.products is None or not _share(self.operator):
            return energy(self.residual(x))
        some = max(1, AT_ONCE // max(1, self.measurements * self.y.element_size()))
        parts = [slice(first, first + some) for first in range(0, self.batch, some)] or [slice(0)]
        return torch.cat([energy(self.products.of_samples(i).forward(x[i]) - self.y[i]) for i in parts])

    @cached_property
    def start_residual(self) -> Tensor:
        """A x − y at the start: no product where that is zero."""
        return -self.y if self.x0 is None else self.residual(self.x0)

    @cached_property
    def start_slope(self) -> Tensor:
        """Aᴴ(A x − y) at the start: −Aᴴy where that is zero, which an operator has made already."""
        return -self.At_y if self.x0 is None else self.adjoint(self.start_residual)

    def prox(self, z: Tensor, theta: Tensor, iteration: int | None = None) -> Tensor:
        """The proximal operator of θ·R, or that of an iteration."""
        found: Tensor = (self.prior if iteration is None else self.prior.at_iteration(iteration))(z, theta)
        return found if self.has_own_prior or not isinstance(found, Tensor) else found.clone()

    @cached_property
    def has_own_prior(self) -> bool:
        """Whether R is of this package alone. Another may write its next result to the same place."""
        return type(self.prior).__module__.startswith(_PRIORS) and not self.prior._modules

    def normal(self, x: Tensor) -> Tensor:
        """AᴴA x."""
        return self.adjoint(self.forward(x)) if self.products is None else self.products.normal(x)

    @property
    def is_collapsed(self) -> bool:
        """Whether A is an operator whose AᴴA costs less than a product with A and one with Aᴴ."""
        return self.operator is not None and self.operator.collapsed

    def collapsed_gradient(self, x: Tensor) -> Tensor:
        """AᴴA x − Aᴴy, the gradient without A x − y."""
        return self.normal(x) - self.At_y if self.products is None else self.products.collapsed_gradient(x, self.At_y)

    def residual(self, x: Tensor) -> Tensor:
        """A x − y."""
        return self.forward(x) - self.y if self.A is None else product(x, self.A, start=-self.y)

    def in_units(self) -> Problem:
        """Samples whose squares could overflow or vanish in units of their own, in which all is the same to the bit."""
        if not self.prior.has_duality_gap:  # R may be no norm, and the solution not proportional to y
            return self
        bounds = torch.finfo(self.y.dtype)
        low, high = bounds.tiny**0.25, bounds.max**0.25
        if can_be_read(self.y) and self.y.numel():
            least, largest = (float(value) for value in self.energy.aminmax())
            # Of these the largest |y| is between 2·low and high, and so every unit between low and high.
            if 4.1 * low**2 * self.measurements < least and largest < 0.9 * high**2:
                return self
        unit = units(self.y)
        ordinary = (unit > low) & (unit < high)
        if can_be_read(unit) and bool(ordinary.all()):
            return self
        unit = torch.where(ordinary, torch.ones_like(unit), unit)
        each = column(unit, self.start())
        # An infinite λ would make the penalty of a zero NaN.
        lam = (self.lam / each).clamp(max=bounds.max)
        x0 = None if self.x0 is None else self.x0 / each
        At_y = None if self.known_At_y is None else self.known_At_y / each
        return replace(self, y=self.y / column(unit, self.y), lam=lam, x0=x0, unit=unit, known_At_y=At_y)

    def in_users_units(self, values: Tensor, power: int = 1) -> Tensor:
        """What grows as a power of y, (B, ...), for a user to see: in double precision, where it could overflow."""
        return values if self.unit is None else values * column(self.unit.double(), values) ** power

    def restore(self, x: Tensor) -> Tensor:
        """In the leading shape and the units of y."""
        x = x if self.unit is None else x * column(self.unit, x)
        return x.reshape(*self.batch_shape, *x.shape[1:])

    def samples(self, rows: Tensor) -> Problem:
        """Some samples of a matrix's problem."""
        lam = self.lam[rows] if self.lam.dim() == 2 else self.lam
        return replace(self, y=self.y[rows], lam=lam, x0=None, unit=None if self.unit is None else self.unit[rows])


def can_be_read(t: Tensor) -> bool:
    """Not where something compiles, traces, transforms or watches the call."""
    return not (
        t.is_meta
        or torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
    )


def _require_lam(lam: Tensor) -> None:
    if can_be_read(lam) and not bool(((lam >= 0) & (lam < torch.inf)).all()):
        raise ValueError(
            "lam must be finite and ≥ 0 everywhere, but it holds a negative number, infinity or NaN: check how it was "
            "computed"
        )


def _for_matrix(lam: Tensor, leading: tuple[int, ...], n: int) -> Tensor:
    if lam.numel() == 1 and lam.dim() <= len(leading) + 1:
        return lam.reshape(())
    if lam.shape == (n,):
        return lam
    full = (*leading, n)
    own = (*[1] * (len(full) - lam.dim()), *lam.shape)
    if lam.dim() < 2 or len(own) != len(full) or any(a not in (1, b) for a, b in zip(own, full, strict=True)):
        raise ValueError(
            f"lam must be one number or one a coordinate, shape {_checks.shape_text((n,))}, got "
            f"{_checks.shape_text(lam.shape)}: for one a sample, give it the shape {_checks.shape_text((*leading, 1))}"
        )
    return lam.expand(*leading, lam.shape[-1]).reshape(-1, lam.shape[-1])


def _of_matrix(A: Tensor, y: Tensor, lam: Tensor | float, x0: Tensor | None, start: str) -> Problem:
    A = _checks.matrix("A", A)
    m, n = A.shape
    _checks.columns("y", _checks.tensor("y", y), m, A.shape)
    if x0 is not None:
        _checks.columns(start, _checks.tensor(start, x0), n, A.shape)
        _checks.same_batch(start, x0, "y", y)
    A, y, x0 = _checks.require_same_dtype_and_device(A=A, y=y, **{start: x0})
    lam = _for_matrix(_checks.threshold("lam", lam, A), y.shape[:-1], n)
    leading, y = y.shape[:-1], y.reshape(-1, m)
    x0 = None if x0 is None else x0.reshape(-1, n)
    return Problem(A, lambda x: product(x, A), lambda r: product(r, A, adjoint=True), y, lam, x0, leading)


def _of_operator(op: LinearOperator, y: Tensor, lam: Tensor | float, x0: Tensor | None, start: str) -> Problem:
    leading = batch_shape(op, _checks.tensor("y", y))
    if can_be_read(y):
        ops.keep_freed_memory()
    if op.own_batch and op.matrix is None:  # A takes its samples side by side, and no flat batch of several
        leading = leading[:1]
    y = y.reshape(math.prod(leading), *y.shape[len(leading) :]).contiguous()
    lam = _checks.threshold("lam", lam, y)
    products = Products(op, y)
    is_sound = isinstance(op, PictureOperator) and op.is_sound
    with own_precision(y):
        leaves = is_sound or not can_be_read(y)
        At_y = products.adjoint(y) if leaves else leaving("A.adjoint", products.adjoint, y.clone())
        At_y = At_y.contiguous() if is_sound else At_y.clone()  # another may write its next result to the same place
    if x0 is not None:  # x may be real where y is complex
        like = {"y" if At_y.dtype == y.dtype else "A.adjoint(y)": At_y}
        _, x0 = _checks.require_same_dtype_and_device(**like, **{start: _checks.tensor(start, x0)})
    full = (*leading, *At_y.shape[1:])
    if x0 is not None and x0.shape != full:
        raise ValueError(
            f"{start} must have the shape of A.adjoint(y), {_checks.shape_text(full)}, got "
            f"{_checks.shape_text(x0.shape)}"
        )
    if lam.dim() > len(full) or any(n not in (1, m) for n, m in zip(lam.shape[::-1], full[::-1], strict=False)):
        shapes = f"lam is {_checks.shape_text(lam.shape)} and x is {_checks.shape_text(full)}"
        of_each = f": one for each sample is {_checks.shape_text((*leading[-1:], *(1,) * (At_y.dim() - 1)))}"
        raise ValueError(f"lam must broadcast with x, but {shapes}{of_each if leading else ''}")
    own = lam.dim() - At_y.dim() + 1  # dimensions of the batch
    if own > 0:
        lam = lam.expand(*leading, *lam.shape[own:]).reshape(y.shape[0], *lam.shape[own:])
    known = None
    if can_be_read(y) and At_y.numel() and y.numel() and op.matrix is None:
        known = cache(partial(_examined, op, products, At_y, y))
        if not is_sound or At_y.is_complex() != y.is_complex():
            known()
    x0 = None if x0 is None else x0.reshape(At_y.shape)
    forward, adjoint = products.forward, products.adjoint
    return Problem(None, forward, adjoint, y, lam, x0, leading, op, known_At_y=At_y, products=products, known=known)


def _examined(op: LinearOperator, products: Products, At_y: Tensor, y: Tensor) -> Known:
    """What is known of A, by the dot test. Two samples tell it of pictures that share their kernel, mask or maps."""
    if _share(op) and len(y) > 2:
        At_y, y, products = At_y[:2], y[:2], products.of_samples(slice(2))
    with torch.no_grad(), own_precision(y):
        return examine(op.source, products, At_y, y)


def _share(op: LinearOperator | None) -> bool:
    """Whether all samples have the same A, of which any of them can be asked alone."""
    return isinstance(op, PictureOperator) and op.is_shared


def _of_matrices(A: Tensor, y: Tensor, lam: Tensor | float, x0: Tensor | None, start: str) -> Problem:
    """Of a matrix for every sample."""
    A = _checks.matrices("A", A)
    _checks.columns("y", _checks.tensor("y", y), A.shape[-2], A.shape)
    _checks.matrices_fit(A.shape, "y", y)
    A, y = _checks.require_same_dtype_and_device(A=A, y=y)
    each = A.expand(*y.shape[:-1], *A.shape[-2:]).reshape(-1, *A.shape[-2:])
    return _of_operator(Dense.of(each), y, lam, x0, start)


def problem(
    A: OperatorLike,
    y: Tensor,
    lam: Tensor | float,
    x0: Tensor | None,
    start: str = "x0",
    *,
    nonnegative: bool = False,
    prox: Proximal | None = None,
) -> Problem:
    """The arguments of a solver, if they fit; ``start`` is its name for x0, whose negative values become zero where
    x ≥ 0 is required.
    """
    prior = _prior(_checks.flag("nonnegative", nonnegative), prox)
    A = matrix_or_operator(A)
    if isinstance(A, Tensor):
        found = _of_matrix(A, y, lam, x0, start)
    elif A.matrix is not None:
        found = _of_matrices(A.matrix, y, lam, x0, start)
    else:
        found = _of_operator(A, y, lam, x0, start)
    if isinstance(lam, Tensor):  # a number has been looked at
        _require_lam(found.lam)
    found = replace(found, prior=prior)
    prior.require_sample(found.sample_shape)
    if found.operator is not None:
        warn_of_layout(prior, found.operator, (*found.batch_shape, *found.sample_shape))
    if not found.is_lasso:
        _require_one_weight(found)
    if not found.nonnegative:
        return found
    require_real(found)
    return replace(found, x0=None if found.x0 is None else torch.relu(found.x0))


def _prior(nonnegative: bool, prox: Proximal | None) -> Proximal:
    """R as a user asks for it."""
    if prox is None:
        return LASSO_NONNEGATIVE if nonnegative else LASSO
    require_proximal(prox)
    if nonnegative:
        raise ValueError(NONNEGATIVE_WITH_PROX)
    return prox


def _require_one_weight(p: Problem) -> None:
    """Refuses a λ for each coordinate where R is not a sum over coordinates."""
    if p.lam.numel() not in (1, p.batch) or (p.lam.numel() > 1 and p.lam.shape[0] != p.batch):
        raise ValueError(
            f"lam must be one number, or one for each sample, with prox={type(p.prior).__name__}, got shape "
            f"{_checks.shape_text(p.lam.shape)}"
        )


def positive_scalar(name: str, value: Tensor | float, like: Tensor) -> Tensor:
    """A finite number > 0 as a tensor of shape () beside ``like``."""
    if not isinstance(value, Tensor):
        _checks.positive(name, value)
    number = _checks.scalar(name, value, like)
    if can_be_read(number) and not 0 < float(number.detach()) < math.inf:
        raise ValueError(f"{name} must be a finite number > 0, got {float(number.detach())!r}")
    return number


def require_real(p: Problem) -> None:
    """Refuses complex x where x ≥ 0 is required."""
    x = p.y if p.known_At_y is None else p.known_At_y
    if x.is_complex():
        fix = "leave out nonnegative" if p.A is not None else "let A.adjoint return the real part, if x is real"
        raise TypeError(f"nonnegative needs real numbers, since complex ones have no order, but x is {x.dtype}: {fix}")


def require_values(p: Problem, *others: Tensor | float | None) -> None:
    """Refuses tensors whose values cannot be seen, since how far their samples are depends on them."""
    if p.y.is_meta:
        raise ValueError("y must hold values for what looks at them, but it is on the meta device: move it with .to()")
    require_seen(p.y, p.A, p.lam, p.x0, p.known_At_y, *others)


def require_seen(*values: Tensor | float | None) -> None:
    """Refuses what torch.vmap hides."""
    if any(isinstance(t, Tensor) and is_hidden(t) for t in values):
        raise ValueError(
            "arguments must hold values for what looks at them, but torch.vmap hides those of its samples: call the "
            "solver with all samples as one batch, without vmap"
        )


def require_precision(y: Tensor) -> None:
    """Refuses half precision, in which neither gaps nor factorisations mean much."""
    if y.dtype in (torch.float16, torch.bfloat16, torch.complex32):
        raise TypeError(f"this solver needs single or double precision, got {y.dtype}: use .float()")
