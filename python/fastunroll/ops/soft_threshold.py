"""The soft threshold, elementwise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .backends import require_backend
from .library import below_autograd, differentiate, operator, require, untraced
from .tensors import differentiable, is_batched, is_tracing


def _fake(x: Tensor, theta: Tensor, outer: int, middle: int, inner: int) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@operator(
    "soft_threshold(Tensor x, Tensor theta, SymInt outer, SymInt middle, SymInt inner) -> Tensor",
    _fake,
)
def _soft_threshold(x: Tensor, theta: Tensor, outer: int, middle: int, inner: int) -> Tensor:
    fits = x.numel() == outer * middle * inner and theta.numel() == middle
    require(fits and _has_real_dtype_of(x, theta), "soft_threshold")
    backend = require_backend(theta, "soft_threshold")
    out: Tensor = backend.soft_threshold(x.contiguous(), theta.contiguous(), (outer, middle, inner))
    return out


def _has_real_dtype_of(x: Tensor, theta: Tensor) -> bool:
    """Whether θ has the device of x, and its dtype, or the real dtype that belongs to it."""
    return theta.dtype == x.dtype.to_real() and theta.device == x.device


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
    require(fits and grad.dtype == out.dtype and _has_real_dtype_of(out, theta), "soft_threshold_backward")
    backend = require_backend(theta, "soft_threshold_backward")
    found: tuple[Tensor, Tensor] = backend.soft_threshold_backward(
        grad.contiguous(), out.contiguous(), theta.contiguous(), (outer, middle, inner)
    )
    return found


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
    """The same by plain PyTorch, which can differentiate it again.

    With u = out/|out| and |x| = |out| + θ: grad_x = g − θ/|x| (g − ⟨u, g⟩u), grad_θ = −⟨u, g⟩, where out is not zero.
    """
    is_nonzero = out != 0
    grad, t = grad * is_nonzero, theta.reshape(-1, 1).expand(layout[1], layout[2]).expand(layout).reshape(out.shape)
    if out.is_complex():
        size = torch.where(is_nonzero, out, 1).abs()
        u = out / size
        along = (u.conj() * grad).real
        grad_x = grad - t / (size + torch.where(is_nonzero, t, 0)) * (grad - along * u)
    else:
        along, grad_x = torch.sgn(out) * grad, grad
    return grad_x, -along.reshape(layout).sum((0, 2)).view_as(theta)


differentiate(_soft_threshold, _backward, _save)


_untraced = untraced(_soft_threshold, _save, _backward)


def soft_threshold(x: Tensor, theta: Tensor, layout: tuple[int, int, int]) -> Tensor:
    """x and theta are contiguous; ``layout`` is x as (outer, middle, inner), theta having ``middle`` values."""
    if not differentiable(x, theta):
        with below_autograd():
            return _soft_threshold(x, theta, *layout)
    if is_tracing():
        return _soft_threshold(x, theta, *layout)
    out: Tensor = _untraced(x, theta, *layout)
    return out
