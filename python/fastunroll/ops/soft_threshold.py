"""The soft threshold, elementwise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import _fastunroll
from .device import ELEMENTS, kernels, where
from .register import alike, differentiable, is_double, operator, require


def _fake(x: Tensor, theta: Tensor, outer: int, middle: int, inner: int) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@operator(
    "soft_threshold(Tensor x, Tensor theta, SymInt outer, SymInt middle, SymInt inner) -> Tensor",
    _fake,
)
def _soft_threshold(x: Tensor, theta: Tensor, outer: int, middle: int, inner: int) -> Tensor:
    require(x.numel() == outer * middle * inner and theta.numel() == middle and _suits(x, theta), "soft_threshold")
    x, theta = x.contiguous(), theta.contiguous()
    out = torch.empty_like(x)
    if (module := kernels(x)) is not None:
        module.soft_threshold(
            _element(theta), where(x), (outer, middle, inner), x.is_complex(),
            x.data_ptr(), theta.data_ptr(), out.data_ptr(),
        )  # fmt: skip
        return out
    _fastunroll.soft_threshold(
        is_double(x), (outer, middle, inner), torch.get_num_threads(), x.is_complex(),
        x.data_ptr(), theta.data_ptr(), out.data_ptr(),
    )  # fmt: skip
    return out


def _suits(x: Tensor, theta: Tensor) -> bool:
    """Whether θ is of the real dtype that goes with x, and kernels exist for it."""
    return theta.dtype == x.dtype.to_real() and alike(theta) and theta.device == x.device


def _element(theta: Tensor) -> int:
    return ELEMENTS.index(theta.dtype)


def _backward_fake(
    grad: Tensor, out: Tensor, theta: Tensor, outer: int, middle: int, inner: int
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(out), torch.empty_like(theta, memory_format=torch.contiguous_format)


@operator(
    "soft_threshold_backward(Tensor grad, Tensor out, Tensor theta, SymInt outer, SymInt middle, SymInt inner)"
    " -> (Tensor, Tensor)",
    _backward_fake,
)
def soft_threshold_backward(
    grad: Tensor, out: Tensor, theta: Tensor, outer: int, middle: int, inner: int
) -> tuple[Tensor, Tensor]:
    fits = out.numel() == outer * middle * inner == grad.numel() and theta.numel() == middle
    require(fits and grad.dtype == out.dtype and _suits(out, theta), "soft_threshold_backward")
    grad, out, theta = grad.contiguous(), out.contiguous(), theta.contiguous()
    grad_x = torch.empty_like(out)
    if (module := kernels(out)) is not None:
        each = out.new_empty(outer, middle, inner, dtype=theta.dtype)
        module.soft_threshold_gradient(
            _element(theta), where(out), (outer, middle, inner), out.is_complex(),
            out.data_ptr(), theta.data_ptr(), grad.data_ptr(), grad_x.data_ptr(), each.data_ptr(),
        )  # fmt: skip
        return grad_x, each.sum((0, 2)).view_as(theta)
    grad_theta = torch.empty_like(theta)
    _fastunroll.soft_threshold_backward(
        is_double(out), (outer, middle, inner), torch.get_num_threads(), out.is_complex(),
        out.data_ptr(), theta.data_ptr(), grad.data_ptr(), grad_x.data_ptr(), grad_theta.data_ptr(),
    )  # fmt: skip
    return grad_x, grad_theta


class _SoftThreshold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, theta: Tensor, layout: tuple[int, int, int]) -> Tensor:
        out: Tensor = _soft_threshold(x, theta, *layout)
        ctx.save_for_backward(out, theta)
        ctx.layout = layout
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_theta = soft_threshold_backward(grad, *ctx.saved_tensors, *ctx.layout)
        return grad_x, grad_theta, None


def soft_threshold(x: Tensor, theta: Tensor, layout: tuple[int, int, int]) -> Tensor:
    """x and theta are contiguous; ``layout`` is x as (outer, middle, inner), theta having ``middle`` values."""
    if differentiable(x, theta):
        return _SoftThreshold.apply(x, theta, layout)
    return _soft_threshold(x, theta, *layout)
