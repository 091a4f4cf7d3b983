"""Gradients through the solution of a Lasso problem."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 1 << 24  # values of Gram matrices at a time


def _solve_on_support(A: Tensor, x: Tensor, grad: Tensor, ridge: float) -> Tensor:
    """u with (A_SᵀA_S + μ) u_S = grad_S for the support S of each sample, and zero elsewhere."""
    support = x != 0
    u = torch.zeros_like(x)
    sizes = support.sum(-1)
    if x.numel() == 0 or not bool(sizes.any()):
        return u
    most = int(sizes.max())
    order = support.to(torch.int8).argsort(dim=-1, descending=True, stable=True)[:, :most]
    for rows in torch.arange(x.shape[0], device=x.device).split(max(1, CHUNK // (most * max(most, A.shape[0])))):
        inside, index = support[rows].gather(1, order[rows]), order[rows]
        columns = A.mT[index] * inside[..., None]
        gram = columns @ columns.mT
        gram.diagonal(dim1=-2, dim2=-1).add_(torch.where(inside, ridge, 1.0))
        right = torch.where(inside, grad[rows].gather(1, index), 0.0)
        # Duplicate columns make the matrix singular; the solution of least norm is then a subgradient.
        factor, failed = torch.linalg.cholesky_ex(gram)
        found = torch.cholesky_solve(right[..., None], factor)[..., 0]
        if bool(failed.any()):
            found[failed > 0] = (torch.linalg.pinv(gram[failed > 0], hermitian=True) @ right[failed > 0][..., None])[
                ..., 0
            ]
        u[rows] = u[rows].scatter(1, index, torch.where(inside, found, 0.0))
    return u


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, A: Tensor, y: Tensor, lam: Tensor, weights: Tensor | None, ridge: float) -> Tensor:
        ctx.save_for_backward(x, A, y, *([] if weights is None else [weights]))
        ctx.lam, ctx.ridge = lam.detach(), ridge
        return x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, A, y, *weights = ctx.saved_tensors
        u = _solve_on_support(A, x, grad, ctx.ridge)
        _, need_A, need_y, need_lam, need_weights, _ = ctx.needs_input_grad
        measured = u @ A.mT
        signed = -u * x.sign()
        return (
            None,
            (y - x @ A.mT).mT @ u - measured.mT @ x if need_A else None,
            measured if need_y else None,
            (signed * weights[0] if weights else signed).sum(-1) if need_lam else None,
            (signed * ctx.lam[:, None]).sum(0) if need_weights else None,
            None,
        )


def attach(x: Tensor, A: Tensor, y: Tensor, lam: Tensor, weights: Tensor | None, ridge: float) -> Tensor:
    """The solution x (B, n) as a function of A (m, n), y (B, m), λ (B,) and w (n,), for autograd.

    On its support S and with its signs s, x solves (A_SᵀA_S + μ) x_S = A_Sᵀy − λ w_S s: linear equations, whose
    derivative is that of x wherever S does not change. With u = (A_SᵀA_S + μ)⁻¹ ∂L/∂x_S,

        ∂L/∂y = A_S u,   ∂L/∂λ = −Σ wⱼ sⱼ uⱼ,   ∂L/∂A_S = (y − A x) uᵀ − A_S u xᵀ

    Reference: Mairal, Bach and Ponce, *Task-driven dictionary learning*, 2012.
    """
    if not torch.is_grad_enabled():
        return x
    needs = any(t is not None and t.requires_grad for t in (A, y, lam, weights))
    return _Implicit.apply(x, A, y, lam, weights, ridge) if needs else x
