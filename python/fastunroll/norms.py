"""Squares, and norms of samples of any scale, which are scaled first, so that no square overflows or underflows."""

from __future__ import annotations

import torch
from torch import Tensor

from .units import units


def squared_modulus(t: Tensor) -> Tensor:
    """|t|², with its derivatives at zero: of ``t.abs().square()``, PyTorch takes the second one for zero there."""
    return t.real.square() + t.imag.square() if t.is_complex() else t.square()


def norm(t: Tensor) -> Tensor:
    """Returns ‖t‖₂ over the last dimension of t (..., n), in the shape (...).

    The scaling does not change any bit of the result unless a square would overflow or underflow.
    """
    *batch_shape, n = t.shape
    unit = units(t.reshape(torch.Size(batch_shape).numel(), n)).reshape(batch_shape)
    return torch.linalg.vector_norm(t / unit.unsqueeze(-1), dim=-1) * unit


def decibels(t: Tensor) -> Tensor:
    """Returns 10·log₁₀ ‖t‖₂² of each row of t (rows, n), in the shape (rows,)."""
    unit = units(t)
    return 10 * torch.log10(squared_modulus(t / unit.unsqueeze(-1)).sum(-1)) + 20 * torch.log10(unit)
