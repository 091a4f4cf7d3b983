"""A geometric sequence of λ, for regularisation paths."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import _checks

WARM = 3  # samples, each started from the solution of the λ before, cost as much as one that starts from zero


def progression(largest: Tensor, count: int, least: float) -> Tensor:
    """``count`` values, (count, ...), in geometric progression from λ_max of each sample to ``least``·λ_max.

    The progression starts from 1 if λ_max is 0 or NaN, because x is then 0 or NaN for every λ.

    Raises:
        ValueError: ``count`` < 1, or ``least`` is not between 0 and 1.
    """
    count, least = _checks.count("count", count), _checks.positive("least", least)
    if least >= 1:
        raise ValueError(f"least must be below 1, got {least!r}")
    ratio = torch.logspace(0, math.log10(least), count, dtype=largest.dtype, device=largest.device)
    largest = torch.where((largest > 0) & torch.isfinite(largest), largest, 1.0)
    return ratio.reshape(-1, *[1] * largest.dim()) * largest
