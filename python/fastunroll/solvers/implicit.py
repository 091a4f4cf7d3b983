"""Derivatives of the solution of a Lasso problem."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .._precision import own_precision
from ..ops.tensors import differentiable, has_tangents
from .support import Supports, parts


def _solve_on_support(A: Tensor, x: Tensor, right: Tensor, ridge: float) -> Tensor:
    """u with (A_SᵀA_S + μ) u_S = right_S for the support S of each sample, and zero elsewhere."""
    return torch.cat([x[:0]] + [_solve(A, x[some], right[some], ridge) for some in parts(A, x)])


def _solve(A: Tensor, x: Tensor, right: Tensor, ridge: float) -> Tensor:
    equations = Supports(A, x)
    equations.add_to_diagonal(ridge)
    right = equations.gather(right)[..., None]
    factor, failed = torch.linalg.cholesky_ex(equations.gram)
    found = torch.cholesky_solve(right, factor)
    # Duplicate columns make the matrix singular; the solution of least norm is then a subgradient.
    singular = failed > 0
    if bool(singular.any()):
        found[singular] = torch.linalg.pinv(equations.gram[singular], hermitian=True) @ right[singular]
    return equations.scatter(found[..., 0], x.shape[1])


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, A: Tensor, y: Tensor, lam: Tensor, weights: Tensor, ridge: float) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, A, y, lam, weights, ctx.ridge = inputs
        # A sample without a solution, all NaN, must not reach the others through the gradient of A.
        solved = torch.isfinite(x).all(-1, keepdim=True)
        kept = torch.where(solved, x, 0.0), A, torch.where(solved, y, 0.0), lam, weights
        ctx.save_for_backward(*kept)
        ctx.save_for_forward(*kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, A, y, lam, weights = ctx.saved_tensors
        with own_precision(x):
            u = _solve_on_support(A, x, grad, ctx.ridge)
            _, need_A, need_y, need_lam, need_weights, _ = ctx.needs_input_grad
            measured = u @ A.mT
            signed = -u * x.sign()
            return (
                None,
                (y - x @ A.mT).mT @ u - measured.mT @ x if need_A else None,
                measured if need_y else None,
                (signed * weights).sum(-1) if need_lam else None,
                (signed * lam[:, None]).sum(0) if need_weights else None,
                None,
            )

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        x, A, y, lam, weights = ctx.saved_tensors
        _, dA, dy, dlam, dweights, _ = tangents
        with own_precision(x):
            right = torch.zeros_like(x)
            if dA is not None:
                right = right + (y - x @ A.mT) @ dA - (x @ dA.mT) @ A
            if dy is not None:
                right = right + dy @ A
            if dlam is not None:
                right = right - dlam[:, None] * weights * x.sign()
            if dweights is not None:
                right = right - lam[:, None] * dweights * x.sign()
            return _solve_on_support(A, x, right, ctx.ridge)


def attach(x: Tensor, A: Tensor, y: Tensor, lam: Tensor, weights: Tensor | None, ridge: float) -> Tensor:
    """The solution x (B, n) as a function of A (m, n), y (B, m), λ (B,) and w (n,), for autograd.

    On its support S and with its signs s, x solves (A_SᵀA_S + μ) x_S = A_Sᵀy − λ w_S s: linear equations, whose
    derivative is that of x wherever S does not change. With u = (A_SᵀA_S + μ)⁻¹ ∂L/∂x_S,

        ∂L/∂y = A_S u,   ∂L/∂λ = −Σ wⱼ sⱼ uⱼ,   ∂L/∂A_S = (y − A x) uᵀ − A_S u xᵀ

    Reference: Mairal, Bach and Ponce, *Task-driven dictionary learning*, 2012.
    """
    if not differentiable(A, y, lam, weights) and not has_tangents():
        return x
    return _Implicit.apply(x, A, y, lam, A.new_ones(A.shape[1]) if weights is None else weights, ridge)
