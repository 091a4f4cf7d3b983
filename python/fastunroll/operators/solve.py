"""(AᴴA + ρI)⁻¹ b: by a factorisation of a matrix, or by conjugate gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import _checks
from .._precision import own_precision
from ..samples import column, inner
from ..warn import ConvergenceWarning, warn

if TYPE_CHECKING:
    from .linear_operator import LinearOperator

_MAX_STEPS = 1000


class Factorised:
    """K = (A Aᴴ + ρI)⁻¹A = A(AᴴA + ρI)⁻¹ of a matrix: the smaller Gram matrix is factorised, in double precision.

    x = w + Kᴴ(y − A w) minimises ½‖A x − y‖² + ρ/2‖x − w‖²: a correction of w needs no division by ρ, and loses nothing
    where ρ is small. A may be a matrix for every sample, (B, m, n).
    """

    def __init__(self, A: Tensor) -> None:
        self.A = A
        self.K = A

    @cached_property
    def wide(self) -> Tensor:
        return self.A.to(torch.complex128 if self.A.is_complex() else torch.float64)

    @cached_property
    def gram(self) -> Tensor:
        A = self.wide
        return A @ A.mH if A.shape[-2] <= A.shape[-1] else A.mH @ A

    def cholesky(self, rho: Tensor) -> Tensor:
        """The factor of A Aᴴ + ρI, or of AᴴA + ρI where that is smaller."""
        eye = torch.eye(self.gram.shape[-1], dtype=self.wide.dtype, device=self.A.device)
        L, failed = torch.linalg.cholesky_ex(self.gram + rho * eye)
        if bool(failed.any()):
            raise ValueError(
                f"rho must be large enough to make AᴴA + ρI regular in double precision, but {float(rho):.3g} is not: "
                "give a larger rho, with adaptive=False if it started larger"
            )
        return L

    def factorise(self, rho: Tensor) -> None:
        A, L = self.wide, self.cholesky(rho)
        K = torch.cholesky_solve(A, L) if A.shape[-2] <= A.shape[-1] else torch.cholesky_solve(A.mH, L).mH
        self.K = K.to(self.A.dtype).contiguous()

    def solve(self, b: Tensor, L: Tensor, rho: Tensor) -> Tensor:
        """(AᴴA + ρI)⁻¹ b for b (..., n, 1) in double precision, with the factor of :meth:`cholesky`."""
        A = self.wide
        if A.shape[-2] > A.shape[-1]:
            return torch.cholesky_solve(b, L)
        return (b - A.mH @ torch.cholesky_solve(A @ b, L)) / rho


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor], b: Tensor, x: Tensor, steps: int, tol: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Steps towards the solution of apply(x) = b for each sample, until all residuals are at most ``tol``·‖b‖.

    A sample that is solved stays where it is, so that no sample depends on others. Returns x, (B, ...), and which
    samples have reached ``tol``, (B,).
    """
    r = b - apply(x)
    direction, square = r, inner(r, r)
    limit = tol**2 * inner(b, b)
    for _ in range(steps):
        active = square > limit  # not where a sample is NaN
        if tol and not bool(active.any()):
            break
        moved = apply(direction)
        curvature = inner(direction, moved)
        length = torch.where(active & (curvature > 0), square / torch.where(curvature > 0, curvature, 1.0), 0.0)
        x, r = x + column(length, x) * direction, r - column(length, x) * moved
        before, square = square, inner(r, r)
        ratio = torch.where(before > 0, square / torch.where(before > 0, before, 1.0), 0.0)
        direction = r + column(ratio, x) * direction
    return x, square <= limit


def rho_beside(rho: Tensor | float, b: Tensor) -> Tensor:
    """ρ > 0 as a tensor of shape () beside b."""
    if not isinstance(rho, Tensor):
        _checks.positive("rho", rho)
    return _checks.scalar("rho", rho, b)


def solve(op: LinearOperator, b: Tensor, rho: Tensor | float) -> Tensor:
    """The solution of (AᴴA + ρI) x = b for each sample, by conjugate gradients."""
    rho = rho_beside(rho, _checks.tensor("b", b))
    if not torch.is_grad_enabled():
        return _solve(op, b, rho)
    if op.normal(torch.zeros_like(b)).requires_grad:
        return _solve(op, b, rho)
    solution: Tensor = _Solution.apply(b, rho, op)
    return solution


def _solve(op: LinearOperator, b: Tensor, rho: Tensor) -> Tensor:
    dims = max(1, b.dim() - 1) if op.dims_in is None else op.dims_in
    event = b.shape[b.dim() - dims :]
    flat = b.reshape(math.prod(b.shape[: b.dim() - len(event)]), *event)

    def apply(v: Tensor) -> Tensor:
        return op.normal(v.reshape(b.shape)).reshape(flat.shape) + rho * v

    if not b.numel():
        return b / rho
    with own_precision(b):
        tol = 4 * torch.finfo(b.dtype).eps
        x, solved = conjugate_gradients(apply, flat, flat / rho * 0, min(_MAX_STEPS, 2 * flat[0].numel() + 10), tol)
    unsolved = ~solved & torch.isfinite(flat).flatten(1).all(1)
    if bool(unsolved.any()):
        warn(
            f"conjugate gradients: {int(unsolved.sum())} of {len(flat)} samples did not reach the precision of b: give "
            f"{type(op).__name__} a solve(b, rho), or use a larger rho",
            ConvergenceWarning,
        )
    return x.reshape(b.shape)


class _Solution(torch.autograd.Function):
    """The solution for an operator that does not learn. (AᴴA + ρI)⁻¹ is its own adjoint: the gradient is a solution."""

    generate_vmap_rule = True

    @staticmethod
    def forward(b: Tensor, rho: Tensor, op: LinearOperator) -> Tensor:
        return _solve(op, b, rho)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, LinearOperator], output: Tensor) -> None:
        _, rho, ctx.op = inputs
        ctx.save_for_backward(rho, output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        rho, x = ctx.saved_tensors
        found = ctx.op.solve(gradient, rho)
        return found, -(found.conj() * x).real.sum() if ctx.needs_input_grad[1] else None, None
