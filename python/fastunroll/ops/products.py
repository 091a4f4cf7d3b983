"""Products with a matrix, and sums of outer products over samples."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import reference
from .backends import require_backend
from .library import below_autograd, differentiate, operator, require, untraced
from .tensors import differentiable, have_same_dtype_and_device, is_batched, is_plain, is_tracing


def _product_fake(x: Tensor, A: Tensor, adjoint: bool, start: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], A.shape[1 if adjoint else 0])


def _compute(x: Tensor, A: Tensor, adjoint: bool, start: Tensor | None) -> Tensor:
    depth, columns = A.shape if adjoint else (A.shape[1], A.shape[0])
    fits = x.dim() == 2 and x.shape[1] == depth and (start is None or start.shape == (x.shape[0], columns))
    require(fits and have_same_dtype_and_device(x, A, start), "product")
    out: Tensor = require_backend(x, "product").product(x, A, adjoint, start)
    return out


_product = operator("product(Tensor x, Tensor A, bool adjoint, Tensor? start) -> Tensor", _product_fake)(_compute)


def _outer_fake(g: Tensor, x: Tensor) -> Tensor:
    return g.new_empty(g.shape[1], x.shape[1])


@operator("outer(Tensor g, Tensor x) -> Tensor", _outer_fake)
def _outer(g: Tensor, x: Tensor) -> Tensor:
    require(g.dim() == x.dim() == 2 and g.shape[0] == x.shape[0] and have_same_dtype_and_device(g, x), "outer")
    out: Tensor = require_backend(x, "outer").outer(g, x)
    return out


def _save_product(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, A, ctx.adjoint, _ = inputs
    ctx.save_for_backward(x, A)


def _product_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, A = ctx.saved_tensors
    need_x, need_A, _, need_start = ctx.needs_input_grad
    return (
        product(grad, A, not ctx.adjoint, None) if need_x else None,
        (outer(x, grad) if ctx.adjoint else outer(grad, x)) if need_A else None,
        None,
        grad if need_start else None,
    )


def _save_outer(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _outer_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    g, x = ctx.saved_tensors
    need_g, need_x = ctx.needs_input_grad
    return product(x, grad, False, None) if need_g else None, product(g, grad, True, None) if need_x else None


differentiate(_product, _product_backward, _save_product)
differentiate(_outer, _outer_backward, _save_outer)


_untraced_product = untraced(_product, _save_product, _product_backward)


def product(x: Tensor, A: Tensor, adjoint: bool, start: Tensor | None) -> Tensor:
    """``start`` + x Aᵀ, or + x A."""
    if is_tracing():
        return _product(x, A, adjoint, start)
    if is_batched(x, A, start):
        return reference.product(x, A, adjoint=adjoint, start=start)
    if differentiable(x, A, start):
        out: Tensor = _untraced_product(x, A, adjoint, start)
        return out
    if is_plain(x) and is_plain(A) and (start is None or is_plain(start)):
        return _compute(x, A, adjoint, start)  # without the dispatcher, which takes longer than a small product
    with below_autograd():
        return _product(x, A, adjoint, start)


def outer(g: Tensor, x: Tensor) -> Tensor:
    """The sum over samples of g xᵀ."""
    if is_batched(g, x):
        return reference.outer(g, x)
    if differentiable(g, x):
        return _outer(g, x)
    with below_autograd():
        return _outer(g, x)
