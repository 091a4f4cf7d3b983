"""The soft threshold, elementwise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _fastunroll
from .device import ELEMENTS, kernels, where
from .register import (
    below_autograd,
    differentiable,
    differentiate,
    have_same_dtype_and_device,
    is_batched,
    is_double,
    is_tracing,
    operator,
    require,
)


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
    return theta.dtype == x.dtype.to_real() and have_same_dtype_and_device(theta) and theta.device == x.device


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


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, theta, *ctx.layout = inputs
    ctx.save_for_backward(output, theta)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    out, theta = ctx.saved_tensors
    through = _plain_backward if torch.is_grad_enabled() or is_batched(grad) else _operator_backward
    return *through(grad, out, theta, *ctx.layout), None, None, None


def _operator_backward(grad: Tensor, out: Tensor, theta: Tensor, *layout: int) -> tuple[Tensor, Tensor]:
    with below_autograd():
        grad_x, grad_theta = soft_threshold_backward(grad, out, theta, *layout)
    return grad_x, grad_theta


def _plain_backward(grad: Tensor, out: Tensor, theta: Tensor, *layout: int) -> tuple[Tensor, Tensor]:
    """The same by plain PyTorch, in which it can be differentiated again.

    With u = out/|out| and |x| = |out| + θ: grad_x = g − θ/|x| (g − ⟨u, g⟩u), grad_θ = −⟨u, g⟩, where out is not zero.
    """
    moves = out != 0
    grad, t = grad * moves, theta.reshape(-1, 1).expand(layout[1], layout[2]).expand(layout).reshape(out.shape)
    if out.is_complex():
        size = torch.where(moves, out, 1).abs()
        u = out / size
        along = (u.conj() * grad).real
        grad_x = grad - t / (size + torch.where(moves, t, 0)) * (grad - along * u)
    else:
        along, grad_x = torch.sgn(out) * grad, grad
    return grad_x, -along.reshape(layout).sum((0, 2)).view_as(theta)


differentiate(_soft_threshold, _backward, _save)


class _SoftThreshold(torch.autograd.Function):
    """The operator and its gradient for calls that nothing watches: with less around it than what torch registers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, theta: Tensor, *layout: int) -> Tensor:
        with below_autograd():
            out: Tensor = _soft_threshold(x, theta, *layout)
        _save(ctx, (x, theta, *layout), out)
        return out

    backward = staticmethod(_backward)


def soft_threshold(x: Tensor, theta: Tensor, layout: tuple[int, int, int]) -> Tensor:
    """x and theta are contiguous; ``layout`` is x as (outer, middle, inner), theta having ``middle`` values."""
    if not differentiable(x, theta):
        with below_autograd():
            return _soft_threshold(x, theta, *layout)
    if is_tracing():
        return _soft_threshold(x, theta, *layout)
    return _SoftThreshold.apply(x, theta, *layout)
