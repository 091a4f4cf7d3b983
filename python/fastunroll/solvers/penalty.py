"""λ‖x‖₁, alone or with x ≥ 0: its proximal operator, and how far a dual point may go."""

from __future__ import annotations

import torch
from torch import Tensor

from ..prox import soft_threshold


def shrink(z: Tensor, theta: Tensor, nonnegative: bool) -> Tensor:
    """argmin_x ½‖x − z‖² + θ‖x‖₁: S_θ(z), or over x ≥ 0 max(z − θ, 0). θ broadcasts with z."""
    return torch.relu(z - theta) if nonnegative else soft_threshold(z, theta)


def dual_range(correlation: Tensor, lam: Tensor, nonnegative: bool) -> tuple[Tensor, Tensor]:
    """The least and the largest s, (B,) each, for which s·c is a dual point: |s·cᵢ| ≤ λᵢ, or s·cᵢ ≤ λᵢ where x ≥ 0."""
    if not nonnegative:
        largest = _room(correlation.abs(), lam)
        return -largest, largest
    return -_room(-correlation, lam), _room(correlation, lam)


def _room(slope: Tensor, lam: Tensor) -> Tensor:
    return torch.where(slope <= 0, torch.inf, lam / slope).flatten(1).amin(1)  # a NaN shows
