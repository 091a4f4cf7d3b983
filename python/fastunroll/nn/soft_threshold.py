"""The soft threshold as a layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import _checks
from ..prox import soft_threshold


class SoftThreshold(nn.Module):
    """S_θ(x) = sign(x)·max(|x| − θ, 0) with a learned threshold.

    Args:
        theta: initial threshold, a number ≥ 0.
        shape: shape of the learned threshold, which must broadcast with the input: ``()`` for one number (default),
            ``(n,)`` for one a coordinate, ``(channels, 1, 1)`` for one a channel.
        device: where the parameter lives.
        dtype: its type, real.

    Raises:
        TypeError: ``theta`` is not a number, or ``dtype`` not real floating point.
        ValueError: ``theta`` is negative or not finite.

    Equivalent to::

        torch.sgn(x) * torch.relu(x.abs() - self.theta)
    """

    def __init__(
        self,
        theta: float = 0.1,
        shape: Sequence[int] | int = (),
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        value = _checks.not_negative("theta", theta)
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        self.theta = nn.Parameter(torch.full(sizes, value, device=device, dtype=_checks.floating_dtype(dtype)))

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape that ``theta`` broadcasts with, real or complex."""
        return soft_threshold(x, self.theta)

    def extra_repr(self) -> str:
        return f"shape={tuple(self.theta.shape)}"
