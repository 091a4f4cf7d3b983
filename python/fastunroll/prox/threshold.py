"""The soft threshold, elementwise and differentiable."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from .. import _checks, ops, reference
from ..arrays import takes_arrays

_HALF = (torch.float16, torch.bfloat16)


@takes_arrays("x")
def soft_threshold(x: Tensor, theta: Tensor | float) -> Tensor:
    r"""The soft threshold S_θ(x) = sign(x)·max(|x| − θ, 0), the proximal operator of θ‖x‖₁.

    For complex x, sign(x) = x/|x|: the phase is kept and the modulus shrinks.

    Args:
        x: real or complex, of any shape.
        theta: a number ≥ 0, or a real tensor of any shape that broadcasts with ``x``.

    Returns:
        A tensor of the broadcast shape with the dtype of ``x``; an array where ``x`` is one.

    Raises:
        TypeError: ``x`` is not a floating-point or complex tensor.
        ValueError: a number θ is negative or not finite; shapes do not broadcast; devices differ.

    Equivalent to::

        torch.sgn(x) * torch.relu(x.abs() - theta)

    A NaN stays where it is. The derivative at |x| = θ is taken as 0.

    Reference: Daubechies, Defrise and De Mol, *An iterative thresholding algorithm for linear inverse problems with a
    sparsity constraint*, 2004.
    """
    x = _checks.tensor("x", x)
    theta = _checks.threshold("theta", theta, x)
    shape = _checks.broadcasts("theta", theta, x)
    if x.device.type == "cpu" and x.dtype in _HALF and not ops.is_supported(x):
        return soft_threshold(x.float(), theta.float()).to(x.dtype)
    if not ops.is_supported(x, complex_too=True):
        return reference.soft_threshold(x, theta)
    if x.shape == shape and _has_channels_last(x):  # which convolutions take, and shall get back
        own = theta.reshape((1,) * (x.dim() - theta.dim()) + tuple(theta.shape))
        return soft_threshold(x.movedim(1, -1), own.movedim(1, -1)).movedim(-1, 1)
    theta, layout = aligned(theta, shape)
    return ops.soft_threshold(x.expand(shape).contiguous(), theta.contiguous(), layout)


def _has_channels_last(x: Tensor) -> bool:
    """Whether the channels of maps (N, C, ...) are beside each other in memory."""
    return x.dim() > 2 and not x.is_contiguous() and x.movedim(1, -1).is_contiguous()


def aligned(theta: Tensor, shape: torch.Size) -> tuple[Tensor, tuple[int, int, int]]:
    """θ and ``shape`` as (outer, middle, inner), such that θ holds one value for each middle index."""
    own = (1,) * (len(shape) - theta.dim()) + tuple(theta.shape)
    varying = [d for d, size in enumerate(own) if size != 1]
    if not varying:
        return theta, (1, 1, prod(shape))
    first, last = varying[0], varying[-1] + 1
    if own[first:last] != tuple(shape[first:last]):
        return theta.expand(shape), (1, prod(shape), 1)
    return theta, (prod(shape[:first]), prod(shape[first:last]), prod(shape[last:]))
