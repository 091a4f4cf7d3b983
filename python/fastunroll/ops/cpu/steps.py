"""The steps of ISTA and FISTA between the products with an operator of the user's: one native pass each.

They are not operators of torch, since the dispatcher would take as long as a pass. They take plain tensors on the CPU
that require no gradient, in calls that torch does not trace.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ... import _fastunroll
from ..backends import is_supported_on_cpu
from ..tensors import differentiable, is_double, is_plain, is_tracing


def is_step_supported(*tensors: Tensor) -> bool:
    """Whether the native passes below take these tensors."""
    first = tensors[0]
    return (
        is_supported_on_cpu(first)
        and not is_tracing()
        and not differentiable(*tensors)
        and all(is_plain(t) and t.dtype == first.dtype for t in tensors)
    )


def extrapolated_step(
    x: Tensor, before: Tensor, gradient: Tensor, theta: Tensor, layout: tuple[int, int, int],
    step: float, beta: float, nonnegative: bool,
) -> Tensor:  # fmt: skip
    """P(v − step·gradient) at v = x + β(x − before), of the shape of x. P shrinks by θ; ``nonnegative`` makes it ≥ 0.

    ``layout`` is x as (outer, middle, inner), where θ has ``middle`` contiguous values.
    """
    x, before, gradient = x.contiguous(), before.contiguous(), gradient.contiguous()
    out = torch.empty_like(x)
    _fastunroll.step_ahead(
        is_double(x), layout, torch.get_num_threads(), nonnegative, beta, step,
        (x.data_ptr(), before.data_ptr(), gradient.data_ptr(), theta.data_ptr(), out.data_ptr()),
    )  # fmt: skip
    return out


def extrapolated_residual(
    product: Tensor, y: Tensor, before: Tensor, beta: float, replaces: bool
) -> tuple[Tensor, Tensor]:
    """r = product − y and r + β(r − before), for a contiguous y. ``replaces`` writes r to the memory of ``before``."""
    product, before = product.contiguous(), before.contiguous()
    residual = before if replaces else torch.empty_like(y)
    extrapolated = torch.empty_like(y)
    _fastunroll.residual_ahead(
        is_double(y), y.numel(), torch.get_num_threads(), beta,
        (product.data_ptr(), y.data_ptr(), before.data_ptr(), residual.data_ptr(), extrapolated.data_ptr()),
    )  # fmt: skip
    return residual, extrapolated
