"""Checks an operator, and says in sentences what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import _checks
from .._checks import shape_text
from ..arrays import as_tensor
from .convert import OperatorLike, as_operator
from .gradients import learns
from .linear_operator import LinearOperator
from .norm import lanczos_bound


@dataclass(frozen=True)
class Checked:
    """What :func:`check` found: ``print`` it.

    Attributes:
        operator: the name of its class.
        problems: a sentence for each thing that is wrong; none if all is well.
        checks: the names of the checks that were made.
        shape_in: the shape of one sample of x, if A could be applied.
        shape_out: the shape of one sample of y.
    """

    operator: str
    problems: tuple[str, ...]
    checks: tuple[str, ...]
    shape_in: tuple[int, ...] | None = None
    shape_out: tuple[int, ...] | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        if self.ok:
            assert self.shape_in is not None
            assert self.shape_out is not None
            shapes = f"from {shape_text(('...', *self.shape_in))} to {shape_text(('...', *self.shape_out))}"
            return f"{self.operator} is a linear operator {shapes}: {', '.join(self.checks)} are right."
        count = f"{len(self.problems)} thing{'s' * (len(self.problems) > 1)}"
        lines = [f"{self.operator} has {count} wrong:", *(f"- {problem}." for problem in self.problems)]
        return "\n".join(lines)


@torch.no_grad()
def check(op: OperatorLike, x: Tensor | None = None, y: Tensor | None = None) -> Checked:
    """Applies an operator to random samples and says in sentences what is wrong with it.

    The checks: ``forward`` and ``adjoint`` return tensors of the right shape, dtype and device, the same for the same
    argument, and leave the argument as it is. A is linear and treats samples apart. ``adjoint`` is its adjoint: the dot
    test ⟨A x, y⟩ = ⟨x, Aᴴ y⟩, where a constant factor and a missing conjugate are named. The gradient of A x is Aᴴ.
    ``gradient``, ``normal``, ``norm`` and ``solve`` are right where the operator has its own.

    Args:
        op: an operator, or anything that :func:`as_operator` takes.
        x: samples of the shape, dtype and device that A takes, (B, ...), if A states no ``shape_in``. Their values do
            not matter.
        y: the same for the adjoint, in place of ``x``.

    Returns:
        :class:`Checked`, which is true if nothing is wrong: ``print`` it, or ``assert fu.operators.check(op)``.

    Raises:
        TypeError: ``op`` is no operator.
        ValueError: neither ``shape_in`` nor ``x`` nor ``y`` tells what A takes.

    Example::

        print(fu.operators.check(Blur(kernel)))
    """
    op = as_operator(op)
    run = _Run(op, type(op.source).__name__ if op.source is not op else type(op).__name__)
    with suppress(_Failed):
        run.all(as_tensor(x, "x"), as_tensor(y, "y"))
    return Checked(run.name, tuple(run.problems), tuple(run.checks), run.takes, run.returns)


class _Failed(Exception):
    """Nothing more can be said."""


class _Run:
    """The checks of one operator, one after the other."""

    def __init__(self, op: LinearOperator, name: str) -> None:
        self.op, self.name = op, name
        self.problems: list[str] = []
        self.checks: list[str] = []
        self.takes: tuple[int, ...] | None = None
        self.returns: tuple[int, ...] | None = None
        self.random = torch.Generator().manual_seed(0)

    def all(self, x: Tensor | None, y: Tensor | None) -> None:
        u = self.samples(x, y)
        product = self.results(u)
        v = self.draw(product)
        for title, method in (
            ("linearity", self.linear),
            ("independence of samples", self.independent),
            ("the adjoint", self.adjoint),
            ("gradients", self.gradients),
            ("batches", self.batches),
            ("its own methods", self.methods),
        ):
            before = len(self.problems)
            method(u, v)
            if len(self.problems) == before:
                self.checks.append(title)
            elif method in (self.linear, self.independent):  # what follows would only say the same in other words
                return

    def draw(self, like: Tensor) -> Tensor:
        dtype = torch.complex64 if like.is_complex() else torch.float32
        return torch.randn(like.shape, generator=self.random, dtype=dtype).to(like)

    def fail(self, problem: str) -> None:
        self.problems.append(problem)
        raise _Failed

    def call(self, name: str, value: Tensor) -> Tensor:
        """A product; what it raises or returns in place of a tensor ends the checks."""
        method: Callable[[Tensor], Any] = self.op if name == "forward" else self.op.adjoint
        called = self.op.product_name(name)
        given = value.clone()
        try:
            found = method(given)
        except Exception as error:
            text = str(error).splitlines()[0] if str(error) else ""
            if isinstance(error, TypeError) and text.startswith(f"{called} must return a tensor"):
                self.fail(text)
            self.fail(
                f"{called} must take a tensor of shape {shape_text(value.shape)} and type {value.dtype}, but it raised "
                f"{type(error).__name__}: {text}"
            )
        if not torch.equal(given, value):
            problem = f"{called} must leave its argument as it is, but it writes to it: copy it first"
            self.problems += [] if problem in self.problems else [problem]
        if found.device != value.device:
            self.fail(f"{called} must return a tensor on {value.device} as its argument is, got one on {found.device}")
        if found.dtype.to_real() != value.dtype.to_real():
            self.fail(
                f"{called} must return {value.dtype.to_real()} or {value.dtype.to_complex()} for {value.dtype}, got "
                f"{found.dtype}: convert it with .to()"
            )
        return found.clone()

    def samples(self, x: Tensor | None, y: Tensor | None) -> Tensor:
        """Random samples that A takes; complex where its adjoint returns complex numbers."""
        if x is not None:
            return self.draw(_checks.tensor("x", x))
        if y is not None:
            return self.draw(self.call("adjoint", self.draw(_checks.tensor("y", y))))
        if self.op.shape_in is None:
            raise ValueError(
                f"x must be given, a batch of samples that {self.name} takes, since it states no shape_in, such as "
                "torch.zeros(3, 64, 64)"
            )
        u = self.draw(self.op.example().new_zeros(*(self.op.own_batch or (3,)), *self.op.shape_in))
        back = self.call("adjoint", self.product(u))
        return self.draw(back) if back.shape == u.shape else u

    def product(self, u: Tensor) -> Tensor:
        """A u, if it has the shape it must have."""
        product = self.call("forward", u)
        lead = u.dim() - len(self.op.shape_in) if self.op.shape_in is not None else 1
        forward = self.op.product_name("forward")
        if product.dim() < lead or product.shape[:lead] != u.shape[:lead]:
            self.fail(
                f"{forward} must return the samples of x in the first dimensions, {shape_text(u.shape[:lead])}, but it "
                f"returns {shape_text(product.shape)} for {shape_text(u.shape)}"
            )
        self.takes, self.returns = tuple(u.shape[lead:]), tuple(product.shape[lead:])
        if self.op.shape_out is not None and self.op.shape_out != self.returns:
            self.fail(
                f"shape_out must be the shape of one sample of A x, {shape_text(self.returns)}, but it is "
                f"{shape_text(self.op.shape_out)}"
            )
        return product

    def results(self, u: Tensor) -> Tensor:
        """A u, if it and its adjoint have the shapes they must have."""
        product = self.product(u)
        forward, adjoint = self.op.product_name("forward"), self.op.product_name("adjoint")
        back = self.call("adjoint", self.draw(product))
        if back.shape != u.shape:
            self.fail(
                f"{adjoint} must return the shape of x, {shape_text(u.shape)}, but it returns {shape_text(back.shape)}"
            )
        if back.is_complex() and not u.is_complex():
            self.problems.append(f"{adjoint} must return real numbers for real x, got {back.dtype}: return .real")
        if u.is_complex() and not back.is_complex():
            self.problems.append(f"{adjoint} must return complex numbers for complex x, got {back.dtype}")
        again = self.call("forward", u)
        if not _near(again, product, self.tolerance(u)):
            self.fail(
                f"{forward} must return the same for the same x, but two calls differ by {_apart(again, product)}"
            )
        self.checks.append("shapes and types")
        return product

    def tolerance(self, u: Tensor) -> float:
        return float(torch.finfo(u.dtype).eps ** 0.5)

    def linear(self, u: Tensor, v: Tensor) -> None:
        for name, value in (("forward", u), ("adjoint", v)):
            zero, called = self.call(name, torch.zeros_like(value)), self.op.product_name(name)
            if bool(zero.any()):
                self.problems.append(
                    f"{called} must be linear, but it returns numbers up to {float(zero.abs().max()):.3g} for zero: "
                    "leave out the constant, and subtract it from y"
                )
                continue
            a, other = (1.5 - 0.5j if u.is_complex() else 1.5), self.draw(value)
            found, first = self.call(name, a * value + other), self.call(name, value)
            wanted = a * first + self.call(name, other)
            if _near(found, wanted, self.tolerance(u)):
                continue
            real = self.call(name, 1.5 * value + other)
            over = " for complex c, but it is so for real c alone: leave out conj, real or abs"
            apart = f", but they differ by {_apart(found, wanted)}"
            only_real = u.is_complex() and _near(real, 1.5 * first + self.call(name, other), self.tolerance(u))
            self.problems.append(f"{called} must be linear, A(c·x + z) = c·A(x) + A(z){over if only_real else apart}")

    def independent(self, u: Tensor, v: Tensor) -> None:
        assert self.takes is not None
        assert self.returns is not None
        for name, value, event in (("forward", u, self.takes), ("adjoint", v, self.returns)):
            samples = value.reshape(-1, *event)
            if len(samples) < 2:
                continue
            changed = torch.cat([samples[:1], self.draw(samples[1:])]).reshape(value.shape)
            first, second = (self.call(name, t) for t in (value, changed))
            lead = value.shape[: value.dim() - len(event)]
            first, second = (t.reshape(math.prod(lead), -1)[0] for t in (first, second))
            if not _near(first, second, self.tolerance(u)):
                self.problems.append(
                    f"{self.op.product_name(name)} must treat the samples of a batch apart, but the result of the "
                    f"first one changes by {_apart(first, second)} with the others: the first dimensions are the batch"
                )

    def adjoint(self, u: Tensor, v: Tensor) -> None:
        pairs = [(u, v), *((self.draw(u), self.draw(v)) for _ in range(3))]
        left, right, transposed = [], [], []
        for a, b in pairs:
            product, back = self.call("forward", a), self.call("adjoint", b)
            left.append(self.inner(product, b, a))
            right.append(self.inner(a, back, a))
            transposed.append(self.inner(a, self.call("adjoint", b.conj().resolve_conj()).conj(), a))
        size = self.norm(product) / v[0].numel() ** 0.5 + self.norm(back) / u[0].numel() ** 0.5
        one, other = torch.stack(left), torch.stack(right)
        limit = 4 * self.tolerance(u) * size.max()
        if bool(((one - other).abs() <= limit).all()):
            return
        adjoint = self.op.product_name("adjoint")
        if u.is_complex() and bool(((one - torch.stack(transposed)).abs() <= limit).all()):
            self.problems.append(
                f"{adjoint} must be the adjoint of A, but it is the transpose: the conjugate is missing, as in "
                "y @ A.conj() for a matrix"
            )
            return
        factor = (other * one.conj()).sum() / one.abs().square().sum() if bool(one.any()) else one.sum()
        if bool(factor) and bool(((other - factor * one).abs() <= limit * max(1.0, abs(complex(factor)))).all()):
            self.problems.append(f"{adjoint} must be the adjoint of A, but it is {self.factor(complex(factor))}")
            return
        worst = int((one - other).abs().argmax())
        numbers = one.flatten()[worst], other.flatten()[worst]
        self.problems.append(
            f"{adjoint} must be the adjoint of A, but for random x and y ⟨A x, y⟩ = {_number(numbers[0])} and "
            f"⟨x, A.adjoint(y)⟩ = {_number(numbers[1])}"
        )

    def factor(self, factor: complex) -> str:
        assert self.takes is not None
        assert self.returns is not None
        parts = (part if abs(part) > 1e-3 * abs(factor) else 0.0 for part in (factor.real, -factor.imag))
        number = complex(*parts)  # conjugated, as it stands in the second argument of the inner product
        value = number if number.imag else number.real
        text = f"{value:.6g} times that: divide it by {value:.6g}"
        sizes = {math.prod(self.takes[-d:]) for d in (1, 2)} | {math.prod(self.returns[-d:]) for d in (1, 2)}
        powers = (s**power for s in sizes if s > 1 for power in (-1.0, -0.5, 0.5, 1.0))
        scaled = any(abs(abs(factor) / power - 1) < 1e-3 for power in powers)
        return text + (', or use norm="ortho" in both Fourier transforms' if scaled else "")

    def inner(self, a: Tensor, b: Tensor, x: Tensor) -> Tensor:
        """⟨a, b⟩ for each sample; its real part where x is real."""
        assert self.takes is not None
        lead = x.shape[: x.dim() - len(self.takes)]
        product = (a * b.conj()).reshape(math.prod(lead), -1).sum(1)
        return product if x.is_complex() else product.real

    def norm(self, t: Tensor) -> Tensor:
        return torch.linalg.vector_norm(t.flatten(1) if t.dim() > 1 else t[None], dim=1)

    def gradients(self, u: Tensor, v: Tensor) -> None:
        with torch.enable_grad():
            for name, value, cotangent in (("forward", u, v), ("adjoint", v, u)):
                leaf = value.clone().requires_grad_()
                found = getattr(self.op, name)(leaf)
                (gradient,) = torch.autograd.grad(found, leaf, cotangent.to(found.dtype))
                other = "adjoint" if name == "forward" else "forward"
                wanted = self.call(other, cotangent)
                wanted = wanted.real if wanted.is_complex() and not value.is_complex() else wanted
                if not _near(gradient, wanted.detach(), self.tolerance(u)):
                    reason = "PyTorch differentiates it, as the operator learns" if learns(self.op) else "it is not"
                    self.problems.append(
                        f"the gradient of {self.op.product_name(name)} must be {self.op.product_name(other)}, but they "
                        f"differ by {_apart(gradient, wanted.detach())}: {reason}"
                    )

    def batches(self, u: Tensor, v: Tensor) -> None:
        if self.op.shape_in is None:
            return
        found, wanted = self.call("forward", u[None]), self.call("forward", u)
        if found.shape != (1, *wanted.shape) or not _near(found[0], wanted, self.tolerance(u)):
            self.problems.append(
                f"{self.op.product_name('forward')} must take any dimensions before shape_in, but it returns "
                f"{shape_text(found.shape)} for {shape_text((1, *u.shape))}"
            )

    def methods(self, u: Tensor, v: Tensor) -> None:
        """What the operator has in place of what is given."""
        op = self.op
        tolerance = 10 * self.tolerance(u)
        normal = self.call("adjoint", self.call("forward", u))
        for name, found, wanted in self.replaced(u, v, normal):
            if found.shape != wanted.shape or not _near(found, wanted, tolerance):
                self.problems.append(
                    f"{op.product_name(name)} must return {_MEANING[name]}, but it differs by {_apart(found, wanted)}"
                )
        stated = op.stated_norm()
        is_zero = not bool((normal != 0).any())
        if stated is not None and u.dim() > 1 and self.takes == u.shape[1:] and not is_zero:
            least = lanczos_bound(lambda x: self.call("adjoint", self.call("forward", x)), u) ** 0.5
            if stated < 0.5 * least if u[0].numel() > 40 else stated < (1 - tolerance) * least:
                self.problems.append(
                    f"{op.product_name('norm')} must be at least ‖A‖, about {least:.4g}, but it is {stated:.4g}"
                )

    def replaced(self, u: Tensor, v: Tensor, normal: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        op, kind = self.op, type(self.op)
        if kind.normal is not LinearOperator.normal:
            yield "normal", op.normal(u), normal
        if kind.gradient is not LinearOperator.gradient:
            yield "gradient", op.gradient(u, v), self.call("adjoint", self.call("forward", u) - v)
        if kind.solve is not LinearOperator.solve:
            x = op.solve(u, 0.7)
            yield "solve", self.call("adjoint", self.call("forward", x)) + 0.7 * x if x.shape == u.shape else x, u


_MEANING = {
    "normal": "AᴴA x",
    "gradient": "Aᴴ(A x − y)",
    "solve": "(AᴴA + ρI)⁻¹ b, so that (AᴴA + ρI) x is b",
}


def _near(a: Tensor, b: Tensor, tolerance: float) -> bool:
    if a.shape != b.shape:
        return False
    scale = max(float(torch.linalg.vector_norm(a)), float(torch.linalg.vector_norm(b)))
    return float(torch.linalg.vector_norm(a - b)) <= tolerance * scale


def _apart(a: Tensor, b: Tensor) -> str:
    """How far two tensors are from each other, in words."""
    if a.shape != b.shape:
        return f"their shapes, {shape_text(a.shape)} and {shape_text(b.shape)}"
    scale = max(float(torch.linalg.vector_norm(a)), float(torch.linalg.vector_norm(b)))
    return f"{100 * float(torch.linalg.vector_norm(a - b)) / scale:.3g} %"


def _number(value: Tensor) -> str:
    return f"{complex(value):.6g}" if value.is_complex() else f"{float(value):.6g}"
