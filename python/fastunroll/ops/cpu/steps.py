"""Work on pictures and iterates that is too short for an operator of torch, whose dispatcher would take as long.

The native passes take plain tensors on the CPU that require no gradient, in calls that torch does not trace. They look
at their tensors themselves, since questions from Python would take as long as a pass.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import torch
from torch import Tensor

from ... import _fastunroll
from ..backends import is_native, is_supported_on_cpu
from ..tensors import differentiable, is_tracing

OperatorPasses = _fastunroll.OperatorPasses


def operator_passes(
    x: Tensor, y: Tensor, residual: Tensor, theta: Tensor, layout: tuple[int, int, int], step: float, nonnegative: bool
) -> OperatorPasses | None:
    """The steps of ISTA and FISTA between the products with an operator of the user's, from x with A x − y: one native
    pass after each product. None where PyTorch has to make them.

    ``iterate(slope, beta, threads)`` is P(v − step·slope), the next x, at v = x + β(x − before). P shrinks by θ, and
    ``nonnegative`` makes it ≥ 0. ``layout`` is x as (outer, middle, inner), where θ has ``middle`` values.
    ``residual_at(product, beta, threads)`` is r + β(r − before), the residual at the next v, with r = product − y;
    ``residual`` is that r. Both do nothing and return None where the product is not a plain tensor of the shape and
    type of x or of y, or requires a gradient.
    """
    if is_tracing() or not is_supported_on_cpu(x) or differentiable(x, y, residual, theta):
        return None
    return _fastunroll.operator_passes(
        x.contiguous(), y.contiguous(), residual.contiguous(), theta.contiguous(), layout, step, nonnegative
    )


class Weighting(IntEnum):
    """What is made of pictures x by weights w."""

    PRODUCT = 0  # w x
    QUOTIENT = 1  # x / w
    DIFFERENCE = 2  # w x − z
    TWICE = 3  # w (w x − z)
    DATA_STEP = 4  # (z + ρ x) / w, of kept weights


def weigh(how: Weighting, weights: Tensor, x: Tensor, z: Tensor | None = None) -> Tensor | None:
    """Pictures x by weights that broadcast with their shape, in one pass: to the bit what PyTorch computes in several.

    None where PyTorch has to: complex numbers, gradients, tensors that are not plain or do not fit. Not for calls that
    torch.compile traces.
    """
    if not is_native():
        return None
    return _fastunroll.weigh(how, weights, x, z, torch.get_num_threads(), torch.is_grad_enabled())


def kept_weights(weights: Tensor) -> Callable[..., Tensor | bool | None]:
    """:func:`weigh` by weights that were made of a tensor, and are kept with its monitor until that changes.

    The function takes the monitor, the tensor, and what to do with x, z, ρ, how many threads and whether gradients are
    recorded. It returns False where the tensor has changed.
    """
    return _fastunroll.KeptWeights(weights).weigh
