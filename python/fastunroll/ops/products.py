"""Products with a matrix, and sums of outer products over samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _fastunroll, reference
from .._precision import own_precision
from .cache import cached
from .device import kernels
from .register import (
    address,
    below_autograd,
    differentiable,
    differentiate,
    have_same_dtype_and_device,
    is_batched,
    is_double,
    is_plain,
    is_tracing,
    operator,
    require,
)


def _product_fake(x: Tensor, A: Tensor, adjoint: bool, start: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], A.shape[1 if adjoint else 0])


def _compute(x: Tensor, A: Tensor, adjoint: bool, start: Tensor | None) -> Tensor:
    depth, columns = A.shape if adjoint else (A.shape[1], A.shape[0])
    fits = x.dim() == 2 and x.shape[1] == depth and (start is None or start.shape == (x.shape[0], columns))
    require(fits and have_same_dtype_and_device(x, A, start), "product")
    if kernels(x) is not None:
        with own_precision(x):
            matrix = A if adjoint else A.mT
            return torch.mm(x, matrix) if start is None else torch.addmm(start, x, matrix)
    packed = packed_matrix(A, adjoint)
    x, A = x.contiguous(), A.contiguous()
    start = None if start is None else start.contiguous()
    out = _product_fake(x, A, adjoint, start)
    _fastunroll.product(
        is_double(x), (x.shape[0], *A.shape), torch.get_num_threads(), adjoint,
        A.data_ptr(), packed, x.data_ptr(), address(start), out.data_ptr(),
    )  # fmt: skip
    return out


_product = operator("product(Tensor x, Tensor A, bool adjoint, Tensor? start) -> Tensor", _product_fake)(_compute)


_LARGEST_KEPT = 64 << 20  # bytes of a matrix whose packed form is cached, which takes as much memory again


def packed_matrix(A: Tensor, adjoint: bool, bfloat16: bool = False) -> Any:
    """The packed matrix of products with A, cached while A does not change; None where none is cached.

    bfloat16: its float32 values are rounded, which is cached of a matrix of any size.
    """
    if not A.is_contiguous() or (A.nbytes > _LARGEST_KEPT and not bfloat16):
        return None
    shape = A.shape[0], A.shape[1]
    return cached(
        ("product", adjoint, bfloat16, _fastunroll.instruction_set()), [A],
        lambda: _fastunroll.PackedMatrix(
            is_double(A), shape, torch.get_num_threads(), adjoint, A.data_ptr(), bfloat16
        ),
    )  # fmt: skip


def _outer_fake(g: Tensor, x: Tensor) -> Tensor:
    return g.new_empty(g.shape[1], x.shape[1])


@operator("outer(Tensor g, Tensor x) -> Tensor", _outer_fake)
def _outer(g: Tensor, x: Tensor) -> Tensor:
    require(g.dim() == x.dim() == 2 and g.shape[0] == x.shape[0] and have_same_dtype_and_device(g, x), "outer")
    if kernels(x) is not None:
        with own_precision(x):
            return torch.mm(g.mT, x)
    g, x = g.contiguous(), x.contiguous()
    out = _outer_fake(g, x)
    _fastunroll.outer(
        is_double(x), (g.shape[0], g.shape[1], x.shape[1]), torch.get_num_threads(),
        g.data_ptr(), x.data_ptr(), out.data_ptr(),
    )  # fmt: skip
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


class _Product(torch.autograd.Function):
    """The operator and its gradient for calls that nothing watches: with less around it than what torch registers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, A: Tensor, adjoint: bool, start: Tensor | None) -> Tensor:
        _save_product(ctx, (x, A, adjoint, start), x)
        with below_autograd():
            out: Tensor = _product(x, A, adjoint, start)
        return out

    backward = staticmethod(_product_backward)


def product(x: Tensor, A: Tensor, adjoint: bool, start: Tensor | None) -> Tensor:
    """``start`` + x Aᵀ, or + x A."""
    if is_tracing():
        return _product(x, A, adjoint, start)
    if is_batched(x, A, start):
        return reference.product(x, A, adjoint=adjoint, start=start)
    if differentiable(x, A, start):
        return _Product.apply(x, A, adjoint, start)
    if is_plain(x) and is_plain(A) and (start is None or is_plain(start)):
        return _compute(x, A, adjoint, start)  # past the dispatcher, which takes longer than a small product
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
