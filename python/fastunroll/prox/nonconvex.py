"""Thresholds that do not shrink large elements, the proximal operators of functions that are not convex; and boxes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import _checks
from .proximal import Proximal


class HardThreshold(Proximal):
    """R(x) = ‖x‖₀, the number of nonzeros: prox_θ(z) = z where |z| > √(2θ), else 0.

    Equivalent to ``z * (z.abs() > (2 * theta) ** 0.5)``, but for what is not finite. No gradient reaches θ.

    Reference: Blumensath and Davies, *Iterative thresholding for sparse approximations*, 2008.
    """

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        passed = torch.where(z.abs() <= (2 * theta).sqrt(), torch.zeros_like(z), z)
        return torch.where(theta.isnan(), torch.nan, passed)

    def value(self, x: Tensor) -> Tensor:
        return (x != 0).flatten(1).sum(1).to(x.real.dtype if x.is_complex() else x.dtype)


class Firm(Proximal):
    """Firm threshold: values up to θ become zero, values beyond γθ stay, and it is linear between them.

    prox_θ(z) = z where |z| > γθ, else γ/(γ − 1)·S_θ(z). It belongs to the minimax concave penalty (MCP),
    Σ |x_i| − x_i²/(2γθ) up to |x_i| = γθ and γθ/2 beyond. This penalty depends on θ, so there is no :meth:`value`.

    Args:
        gamma: γ > 1; a large γ gives the soft threshold, γ near 1 the hard one.

    Raises:
        ValueError: γ is not finite or not above 1.

    Equivalent to::

        soft = torch.sgn(z) * torch.relu(z.abs() - theta)
        torch.where(z.abs() > gamma * theta, z, gamma / (gamma - 1) * soft)

    References: Gao and Bruce, *WaveShrink with firm shrinkage*, 1997; Zhang, *Nearly unbiased variable selection under
    minimax concave penalty*, 2010.
    """

    def __init__(self, gamma: float = 3.0) -> None:
        super().__init__()
        self.gamma = _checks.finite("gamma", gamma, "> 1", lambda number: number > 1)

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        size = z.abs()
        between = self.gamma / (self.gamma - 1) * torch.sgn(z) * torch.relu(size - theta)
        return torch.where(size > self.gamma * theta, z, between)

    def extra_repr(self) -> str:
        return f"gamma={self.gamma:g}"


class Box(Proximal):
    """R(x) = 0 where low ≤ x ≤ high, else infinite: prox_θ(z) = min(max(z, low), high), under any θ. For real numbers.

    Args:
        low, high: numbers with low ≤ high; −inf and inf bound nothing.

    Raises:
        ValueError: a bound is NaN, or low > high.

    Equivalent to ``z.clamp(low, high)``.
    """

    has_threshold = False

    def __init__(self, low: float = 0.0, high: float = math.inf) -> None:
        super().__init__()
        if not low <= high:
            raise ValueError(f"Box needs low ≤ high, got low = {low!r} and high = {high!r}")
        self.low, self.high = float(low), float(high)

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        _checks.real("z", z)
        return z.clamp(self.low, self.high)

    def value(self, x: Tensor) -> Tensor:
        outside = (x < self.low) | (x > self.high)
        return torch.where(outside.flatten(1).any(1), torch.inf, x.new_zeros(()))

    def extra_repr(self) -> str:
        return f"low={self.low:g}, high={self.high:g}"
