"""Conjugate gradients: (AᴴA + ρI)⁻¹ b by products with AᴴA alone, differentiated implicitly."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from .._precision import own_precision
from ..samples import column, inner
from ..warn import ConvergenceWarning, warn
from .tensors import has_tangents, is_dual, is_hidden

_MAX_STEPS = 1000

Start = Callable[[Tensor, Tensor], Tensor]  # of b and ρ, near the solution


class Solved(Protocol):
    """What conjugate gradients need of an operator A: a linear operator has all of it."""

    @property
    def dims_in(self) -> int | None:
        """The number of dimensions of one sample, or None for all but the first of a batch."""

    def normal(self, x: Tensor) -> Tensor:
        """AᴴA x."""

    def solve(self, b: Tensor, rho: Tensor) -> Tensor:
        """(AᴴA + ρI)⁻¹ b: the gradient of such a solution is another one."""


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor], b: Tensor, x: Tensor, steps: int, tol: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Steps towards the solution of apply(x) = b for each sample, until all residuals are at most ``tol``·‖b‖.

    A sample that is solved stays where it is, so that no sample depends on others; and so does one whose residual is
    rounding, of which quotients would mean nothing and vanish in the end. One whose residual is not finite is NaN.
    Returns x, (B, ...), and which samples have reached ``tol``, (B,).
    """
    r = b - apply(x)
    direction, square = r, inner(r, r)
    limit = max(tol, torch.finfo(b.dtype).eps) ** 2 * torch.maximum(inner(b, b), square).detach()
    for _ in range(steps):
        active = square > limit  # not where a sample is NaN
        if tol and not is_hidden(active) and not bool(active.any()):
            break
        moved = apply(direction)
        curvature = inner(direction, moved)
        active = active & (curvature > 0)
        length = torch.where(active, square / torch.where(active, curvature, 1.0), 0.0)
        x, r = x + column(length, x) * direction, r - column(length, x) * moved
        before, square = square, inner(r, r)
        ratio = torch.where(active, square / torch.where(active, before, 1.0), 0.0)
        direction = r + column(ratio, x) * direction
    x = torch.where(column(square.isfinite(), x), x, math.nan)
    return x, square <= limit


def solution(op: Solved, b: Tensor, rho: Tensor, start: Start | None = None) -> Tensor:
    """The solution of (AᴴA + ρI) x = b for each sample, from ``start(b, rho)``, or from zero."""
    if not torch.is_grad_enabled() and not is_hidden(b):
        return _solve(op, b, rho, start)
    of_zero = op.normal(torch.zeros(b.shape, dtype=b.dtype, device=b.device))
    # What A holds has tangents, or is that of each sample of vmap: the steps are differentiated.
    if is_hidden(of_zero) or is_dual(of_zero) or (of_zero.requires_grad and (is_hidden(b) or has_tangents())):
        return _solve(op, b, rho, start)
    if of_zero.requires_grad:
        return _of_learned(op, b, rho, start)
    kind = _Solution if torch.compiler.is_compiling() else _SolutionWithTangents  # which cannot be compiled
    found: Tensor = kind.apply(b, rho, op, start)
    return found


def _solve(op: Solved, b: Tensor, rho: Tensor, start: Start | None) -> Tensor:
    dims = max(1, b.dim() - 1) if op.dims_in is None else op.dims_in
    event = b.shape[b.dim() - dims :]
    flat = b.reshape(math.prod(b.shape[: b.dim() - len(event)]), *event)

    def apply(v: Tensor) -> Tensor:
        return op.normal(v.reshape(b.shape)).reshape(flat.shape) + rho * v

    if b.is_meta:
        return b / rho
    if not b.numel():  # no solution, which depends on what A holds
        return op.normal(b) / rho
    with own_precision(b):
        tol = 4 * torch.finfo(b.dtype).eps
        x = flat / rho * 0
        if start is not None:
            x = _better(apply, flat, start(b, rho).reshape(flat.shape), x)
        x, solved = conjugate_gradients(apply, flat, x, min(_MAX_STEPS, 2 * flat[0].numel() + 10), tol)
    if not is_hidden(solved):
        unsolved = int((~solved & torch.isfinite(flat).flatten(1).all(1)).sum())
        if unsolved:
            advice = f"give {type(op).__name__} a solve(b, rho), or use a larger rho"
            warn_unsolved(f"{unsolved} of {len(flat)} samples", advice)
    return x.reshape(b.shape)


def warn_unsolved(which: str, advice: str) -> None:
    """Warns of solutions that have taken all steps."""
    warn(f"conjugate gradients: {which} did not reach the precision of b: {advice}", ConvergenceWarning)


def _of_learned(op: Solved, b: Tensor, rho: Tensor, start: Start | None) -> Tensor:
    """The solution for an operator that learns, by the implicit function theorem: M dx = db − dM x, M = AᴴA + ρI.

    The steps themselves are not differentiated: they end when x is right, before its derivative is. For the gradient x
    is fixed in dM x. For second derivatives that x depends on what A holds, too.
    """
    with torch.no_grad():
        x = _solve(op, b, rho, start)
    residual = b - (op.normal(x) + rho * x)
    x = _Once.apply(x, residual, rho, op)
    found: Tensor = _Twice.apply(x, b - (op.normal(x) + rho * x), residual, rho, op)
    return found


class _Once(torch.autograd.Function):
    """x as the solution with residual r, once differentiable: its gradient with respect to r is M⁻¹ g."""

    @staticmethod
    def forward(x: Tensor, r: Tensor, rho: Tensor, op: Solved) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.rho, ctx.op = inputs[-2:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, ctx.op.solve(gradient, ctx.rho), None, None


class _Twice(_Once):
    """The same of an x that is once differentiable, with a residual that depends on it, and one where x is fixed."""

    @staticmethod
    def forward(x: Tensor, r: Tensor, fixed: Tensor, rho: Tensor, op: Solved) -> Tensor:  # type: ignore[override]
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.op.solve(gradient, ctx.rho)
        return (gradient, found, None, None, None) if torch.is_grad_enabled() else (None, None, found, None, None)


def _better(apply: Callable[[Tensor], Tensor], b: Tensor, guess: Tensor, zero: Tensor) -> Tensor:
    """The guess of each sample that is nearer to the solution of apply(x) = b than zero is; zero for the others."""
    r = b - apply(guess)
    return torch.where(column(inner(r, r) < inner(b, b), b), guess, zero)


class _Solution(torch.autograd.Function):
    """The solution for an operator that does not learn. (AᴴA + ρI)⁻¹ is its own adjoint: the gradient is a solution."""

    @staticmethod
    def vmap(
        info: Any, dims: tuple[int | None, ...], b: Tensor, rho: Tensor, op: Solved, start: Start | None
    ) -> tuple[Tensor, int]:
        """One slice after the other, as each takes steps of its own."""
        slices = [
            [t if dim is None else t.select(dim, i) for t, dim in zip((b, rho), dims, strict=False)]
            for i in range(info.batch_size)
        ]
        return torch.stack([_SolutionWithTangents.apply(*each, op, start) for each in slices]), 0

    @staticmethod
    def forward(b: Tensor, rho: Tensor, op: Solved, start: Start | None) -> Tensor:
        return _solve(op, b, rho, start)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Solved, Any], output: Tensor) -> None:
        _, rho, ctx.op, _ = inputs
        ctx.save_for_backward(rho, output)
        ctx.save_for_forward(rho, output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        rho, x = ctx.saved_tensors
        found = ctx.op.solve(gradient, rho)
        return found, -(found.conj() * x).real.sum() if ctx.needs_input_grad[1] else None, None, None


class _SolutionWithTangents(_Solution):
    """The same, in forward-mode differentiation too: (AᴴA + ρI) ẋ = ḃ − ρ̇ x."""

    @staticmethod
    def jvp(ctx: Any, b: Tensor | None, rho: Tensor | None, *_: None) -> Tensor:
        at, x = ctx.saved_tensors
        moved = torch.zeros_like(x) if b is None else b
        found: Tensor = ctx.op.solve(moved if rho is None else moved - rho * x, at)
        return found
