"""The soft threshold as a layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .. import _checks
from ..prox import soft_threshold
from .old_scalars import accept_old_scalars


class SoftThreshold(nn.Module):
    """The soft threshold S_θ(x) = sign(x)·max(|x| − θ, 0) with a learned θ.

    Args:
        theta: the initial threshold, a number ≥ 0.
        shape: the shape of the learned threshold, which must broadcast with the input: ``(1,)`` for a single threshold
            (the default), ``(n,)`` for one threshold for each element, ``(channels, 1, 1)`` for one for each channel.
        device: the device of the parameter.
        dtype: the real dtype of the parameter.

    Raises:
        TypeError: ``theta`` is not a number, or ``dtype`` not real floating point.
        ValueError: ``theta`` is negative, not finite or too large for ``dtype``; ``shape`` is no shape; or torch cannot
            use ``device``.

    Equivalent to::

        torch.sgn(x) * torch.relu(x.abs() - self.theta)
    """

    def __init__(
        self,
        theta: float = 0.1,
        shape: Sequence[int] | int = (1,),
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        dtype = _checks.floating_dtype(dtype)
        value = _checks.representable("theta", _checks.not_negative("theta", theta), dtype)
        self.theta = nn.Parameter(
            torch.full(_checks.shape("shape", shape), value, device=_checks.device(device), dtype=dtype)
        )
        accept_old_scalars(self)

    def forward(self, x: Tensor) -> Tensor:
        """Shrinks ``x``, real or complex, which has any shape that ``theta`` broadcasts with."""
        theta = self.theta
        return soft_threshold(x, theta.reshape(()) if theta.shape == (1,) else theta)

    def extra_repr(self) -> str:
        return f"shape={tuple(self.theta.shape)}"
