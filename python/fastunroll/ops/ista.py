"""ISTA and FISTA: all iterations in one call, or one of them with its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import _fastunroll
from .products import outer, product
from .register import address, alike, differentiable, is_double, operator, require
from .soft_threshold import soft_threshold_backward


def _ista_fake(
    y: Tensor, A: Tensor, x0: Tensor | None, step: Tensor, theta: Tensor | None, momentum: list[float],
    keep: bool,
) -> Tensor:  # fmt: skip
    shape = (y.shape[0], A.shape[1])
    return y.new_empty((len(momentum), *shape) if keep else shape)


@operator(
    "ista(Tensor y, Tensor A, Tensor? x0, Tensor step, Tensor? theta, float[] momentum, bool keep) -> Tensor",
    _ista_fake,
)
def _ista(
    y: Tensor, A: Tensor, x0: Tensor | None, step: Tensor, theta: Tensor | None, momentum: list[float],
    keep: bool,
) -> Tensor:  # fmt: skip
    """An iteration for each value of ``momentum``."""
    m, n = A.shape
    require(
        y.dim() == 2 and y.shape[1] == m and (x0 is None or x0.shape == (y.shape[0], n)) and len(momentum) > 0
        and (theta is None or theta.numel() in (1, n)) and step.numel() == 1 and alike(y, A, x0, theta),
        "ista",
    )  # fmt: skip
    y, A = y.contiguous(), A.contiguous()
    x0 = None if x0 is None else x0.contiguous()
    theta = None if theta is None else theta.contiguous()
    out = _ista_fake(y, A, x0, step, theta, momentum, keep)
    _fastunroll.ista(
        is_double(y), (y.shape[0], m, n), torch.get_num_threads(), A.data_ptr(), float(step),
        address(theta), 0 if theta is None else theta.numel(), momentum, y.data_ptr(), address(x0), keep,
        out.data_ptr(),
    )  # fmt: skip
    return out


class _IstaStep(torch.autograd.Function):
    """x⁺ = S_θ(x − t·Aᵀ(A x − y)), or the gradient step alone if θ is None. θ has one value or n."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, A: Tensor, step: Tensor, theta: Tensor | None) -> Tensor:
        out: Tensor = _ista(y, A, x, step, theta, [0.0], False)
        ctx.save_for_backward(x, y, A, step, theta, None if theta is None else out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, A, step, theta, out = ctx.saved_tensors
        grad_theta = None
        if theta is not None:
            layout = (1, 1, out.numel()) if theta.numel() == 1 else (out.shape[0], theta.numel(), 1)
            grad, grad_theta = soft_threshold_backward(grad, out, theta, *layout)
        need_x, need_y, need_A, need_step, _ = ctx.needs_input_grad
        seen = product(grad, A, False, None)  # A g
        grad_A = grad_step = None
        if need_A or need_step:
            residual = product(x, A, False, -y)
            grad_A = -step * (outer(residual, grad) + outer(seen, x)) if need_A else None
            grad_step = -(seen * residual).sum() if need_step else None
        grad_x = product(-step * seen, A, True, grad) if need_x else None
        return grad_x, step * seen if need_y else None, grad_A, grad_step, grad_theta


def ista_step(x: Tensor, y: Tensor, A: Tensor, step: Tensor, theta: Tensor | None) -> Tensor:
    """One iteration; ``theta`` has one value or n, or is None for the gradient step alone."""
    if differentiable(x, y, A, step, theta):
        return _IstaStep.apply(x, y, A, step, theta)
    return _ista(y, A, x, step, theta, [0.0], False)


def ista(
    y: Tensor,
    A: Tensor,
    x0: Tensor | None,
    step: Tensor,
    theta: Tensor,
    momentum: Sequence[float],
    keep: bool,
) -> Tensor:
    """All iterations in one call; not differentiable."""
    return _ista(y, A, x0, step, theta, list(momentum), keep)
