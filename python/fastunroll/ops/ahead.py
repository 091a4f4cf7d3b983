"""What an iteration does between products that others make: one native pass before each and one after.

These are no operators of torch: a pass takes as long as the way through the dispatcher. They are for plain tensors on
the CPU that need no gradient (``is_plain`` and no ``requires_grad``), where nothing watches the call.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _fastunroll
from .register import differentiable, is_double, is_plain, is_supported_on_cpu, is_tracing


def is_step_supported(*tensors: Tensor) -> bool:
    """Whether the native passes below take these tensors."""
    first = tensors[0]
    return (
        is_supported_on_cpu(first)
        and not is_tracing()
        and not differentiable(*tensors)
        and all(is_plain(t) and t.dtype == first.dtype for t in tensors)
    )


def step_ahead(
    x: Tensor, other: Tensor, slope: Tensor, theta: Tensor, layout: tuple[int, int, int],
    step: float, beta: float, nonnegative: bool,
) -> Tensor:  # fmt: skip
    """P(v − step·slope) at v = x + β(x − other), of the shape of x; P shrinks by θ, to what is ≥ 0 if so asked.

    ``layout`` is x as (outer, middle, inner), θ having ``middle`` values
    one after another.
    """
    x, other, slope = x.contiguous(), other.contiguous(), slope.contiguous()
    out = torch.empty_like(x)
    _fastunroll.step_ahead(
        is_double(x), layout, torch.get_num_threads(), nonnegative, beta, step,
        (x.data_ptr(), other.data_ptr(), slope.data_ptr(), theta.data_ptr(), out.data_ptr()),
    )  # fmt: skip
    return out


def residual_ahead(product: Tensor, y: Tensor, before: Tensor, beta: float, replaces: bool) -> tuple[Tensor, Tensor]:
    """r = product − y, in the place of the one before if it ``replaces`` that, and r + β(r − before); y contiguous."""
    product, before = product.contiguous(), before.contiguous()
    residual = before if replaces else torch.empty_like(y)
    ahead = torch.empty_like(y)
    _fastunroll.residual_ahead(
        is_double(y), y.numel(), torch.get_num_threads(), beta,
        (product.data_ptr(), y.data_ptr(), before.data_ptr(), residual.data_ptr(), ahead.data_ptr()),
    )  # fmt: skip
    return residual, ahead
