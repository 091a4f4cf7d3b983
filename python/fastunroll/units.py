"""The unit of each sample. In its own unit, no square of a sample overflows or vanishes."""

from __future__ import annotations

import torch
from torch import Tensor


def largest_of_each(y: Tensor) -> Tensor:
    """The largest |y| of each sample y (B, ...), (B,), without gradient; 0 of an empty sample."""
    size = y.detach().abs().flatten(1)
    return size.amax(1) if size.shape[1] else size.new_zeros(len(size))


def units(y: Tensor) -> Tensor:
    """A power of two near the largest |y| of each sample y (B, ...), (B,) and real; 1 where y is 0 or not finite.

    To divide by it loses nothing, but for what is far below the largest.
    """
    largest = largest_of_each(y)
    usable = torch.isfinite(largest) & (largest > 0)
    exponent = torch.frexp(torch.where(usable, largest, torch.ones_like(largest)))[1] - 1
    return torch.ldexp(torch.ones_like(largest), exponent)
