"""The ℓ₁ norm, alone, over x ≥ 0, and with a square: soft thresholds."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from .proximal import Kernel, Proximal
from .threshold import soft_threshold


def _sum(t: Tensor) -> Tensor:
    return t.flatten(1).sum(1)


class Identity(Proximal):
    """R(x) = 0: prox_θ(z) = z, under any θ."""

    has_threshold = False

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        return z

    def value(self, x: Tensor) -> Tensor:
        return _sum(torch.zeros_like(x.abs()))

    @property
    def kernel(self) -> Kernel:
        return Kernel("identity")


class L1(Proximal):
    """R(x) = ‖x‖₁: prox_θ(z) = sign(z)·max(|z| − θ, 0), the soft threshold; of complex z the modulus shrinks.

    Equivalent to: :func:`fastunroll.soft_threshold`.

    Reference: Daubechies, Defrise and De Mol 2004.
    """

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        return soft_threshold(z, theta)

    def value(self, x: Tensor) -> Tensor:
        return _sum(x.abs())

    @property
    def kernel(self) -> Kernel:
        return Kernel("soft")


class NonNegativeL1(Proximal):
    """R(x) = ‖x‖₁ over x ≥ 0, else infinite: prox_θ(z) = max(z − θ, 0). For real numbers.

    Equivalent to ``torch.relu(z - theta)``.
    """

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        _checks.real("z", z)
        return torch.relu(z - theta)

    def value(self, x: Tensor) -> Tensor:
        return torch.where((x < 0).flatten(1).any(1), torch.inf, _sum(x.abs()))

    @property
    def kernel(self) -> Kernel:
        return Kernel("nonnegative")


class ElasticNet(Proximal):
    """R(x) = ‖x‖₁ + γ/2·‖x‖²: prox_θ(z) = S_θ(z)/(1 + γθ).

    Args:
        gamma: γ ≥ 0.

    Raises:
        ValueError: γ is negative or not finite.

    Equivalent to ``torch.sgn(z) * torch.relu(z.abs() - theta) / (1 + gamma * theta)``.

    Reference: Zou and Hastie, *Regularization and variable selection via the elastic net*, 2005.
    """

    def __init__(self, gamma: float = 1.0) -> None:
        super().__init__()
        self.gamma = _checks.not_negative("gamma", gamma)

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        return soft_threshold(z, theta) / (1 + self.gamma * theta)

    def value(self, x: Tensor) -> Tensor:
        return _sum(x.abs()) + self.gamma / 2 * _sum(x.abs().square())

    def gain(self, theta: Tensor) -> Tensor:
        return 1 / (1 + self.gamma * theta)

    @property
    def kernel(self) -> Kernel:
        return Kernel("soft")

    def extra_repr(self) -> str:
        return f"gamma={self.gamma:g}"
