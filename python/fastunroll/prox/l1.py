"""The ℓ₁ norm, its versions for x ≥ 0 and with a square (elastic net), and no prior at all."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from ..norms import squared_modulus
from .proximal import Kernel, Proximal
from .threshold import soft_threshold

# Properties return these: PyTorch 2.6 compiles no class attribute of such a type.
_IDENTITY, _SOFT, _NONNEGATIVE = Kernel("identity"), Kernel("soft"), Kernel("nonnegative")


def _sum(t: Tensor) -> Tensor:
    return t.flatten(1).sum(1)


def _is_negative(x: Tensor) -> Tensor:
    """Whether a sample has a value below zero, (B,)."""
    return (x < 0).flatten(1).any(1)


def largest_multiple(slope: Tensor, lam: Tensor) -> Tensor:
    """The largest s for which s·slope ≤ λ everywhere, (B,); a NaN shows."""
    return torch.where(slope <= 0, torch.inf, lam / slope).flatten(1).amin(1)


class Identity(Proximal):
    """R(x) = 0: prox_θ(z) = z, under any θ."""

    has_threshold = False

    @property
    def kernel(self) -> Kernel | None:
        return _IDENTITY

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        return z

    def value(self, x: Tensor) -> Tensor:
        return _sum(torch.zeros_like(x.abs()))


class L1(Proximal):
    """R(x) = ‖x‖₁: prox_θ(z) = sign(z)·max(|z| − θ, 0), the soft threshold; of complex z the modulus shrinks.

    Equivalent to: :func:`fastunroll.soft_threshold`.

    Reference: Daubechies, Defrise and De Mol 2004.
    """

    @property
    def kernel(self) -> Kernel | None:
        return _SOFT

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        return soft_threshold(z, theta)

    def value(self, x: Tensor) -> Tensor:
        return _sum(x.abs())

    def weighted(self, x: Tensor, lam: Tensor) -> Tensor:
        """Σ λ_i·|x_i|, with a λ that broadcasts with x."""
        return lam * _sum(x.abs()) if lam.dim() == 0 else _sum(lam * x.abs())

    @property
    def has_duality_gap(self) -> bool:
        return True

    def dual_range(self, c: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
        largest = largest_multiple(c.abs(), lam)
        return -largest, largest

    def fenchel_gap(self, x: Tensor, c: Tensor, lam: Tensor) -> Tensor:
        return _sum(lam * x.abs() - ((x.conj() * c).real if x.is_complex() else x * c))


class NonNegativeL1(L1):
    """R(x) = ‖x‖₁ over x ≥ 0, else infinite: prox_θ(z) = max(z − θ, 0). For real numbers.

    Equivalent to ``torch.relu(z - theta)``.
    """

    @property
    def kernel(self) -> Kernel | None:
        return _NONNEGATIVE

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        _checks.real("z", z)
        return torch.relu(z - theta)

    def value(self, x: Tensor) -> Tensor:
        return torch.where(_is_negative(x), torch.inf, _sum(x.abs()))

    def weighted(self, x: Tensor, lam: Tensor) -> Tensor:
        return torch.where(_is_negative(x), torch.inf, _sum(lam * x.abs()))

    def dual_range(self, c: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
        return -largest_multiple(-c, lam), largest_multiple(c, lam)

    def fenchel_gap(self, x: Tensor, c: Tensor, lam: Tensor) -> Tensor:
        return torch.where(_is_negative(x), torch.inf, super().fenchel_gap(x, c, lam))


class ElasticNet(Proximal):
    """R(x) = ‖x‖₁ + γ/2·‖x‖²: prox_θ(z) = S_θ(z)/(1 + γθ).

    Args:
        gamma: γ ≥ 0.

    Raises:
        ValueError: γ is negative or not finite.

    Equivalent to ``torch.sgn(z) * torch.relu(z.abs() - theta) / (1 + gamma * theta)``.

    Reference: Zou and Hastie, *Regularization and variable selection via the elastic net*, 2005.
    """

    @property
    def kernel(self) -> Kernel | None:
        return _SOFT

    def __init__(self, gamma: float = 1.0) -> None:
        super().__init__()
        self.gamma = _checks.not_negative("gamma", gamma)

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        return soft_threshold(z, theta) / (1 + self.gamma * theta)

    def value(self, x: Tensor) -> Tensor:
        return _sum(x.abs()) + self.gamma / 2 * _sum(squared_modulus(x))

    def gain(self, theta: Tensor) -> Tensor:
        return 1 / (1 + self.gamma * theta)

    def extra_repr(self) -> str:
        return f"gamma={self.gamma:g}"
