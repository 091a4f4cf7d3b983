"""Norms of samples of any scale: no square of theirs overflows or vanishes."""

from __future__ import annotations

import torch
from torch import Tensor

from .units import units


def norm(t: Tensor) -> Tensor:
    """‖t‖₂ over the last dimension: (..., n) to (...). The same bits as without units, where squares are ordinary."""
    *lead, n = t.shape
    unit = units(t.reshape(torch.Size(lead).numel(), n)).reshape(lead)
    return torch.linalg.vector_norm(t / unit.unsqueeze(-1), dim=-1) * unit


def decibels(t: Tensor) -> Tensor:
    """10·log₁₀ ‖t‖₂² of each row: (rows, n) to (rows,)."""
    unit = units(t)
    return 10 * torch.log10((t / unit.unsqueeze(-1)).abs().square().sum(-1)) + 20 * torch.log10(unit)
