"""Proximal operators of pictures (..., H, W) in plain PyTorch: the specification of the kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from . import reference


def differences(x: Tensor) -> Tensor:
    """D x: what each pixel lacks of its neighbour below and of its neighbour to the right; zero at the last ones.

    (..., H, W) to (2, ..., H, W).
    """
    down, right = torch.zeros_like(x), torch.zeros_like(x)
    down[..., :-1, :] = x[..., 1:, :] - x[..., :-1, :]
    right[..., :-1] = x[..., 1:] - x[..., :-1]
    return torch.stack([down, right])


def differences_adjoint(p: Tensor) -> Tensor:
    """Dᵀ p: (2, ..., H, W) to (..., H, W)."""
    down, right = p
    x = torch.zeros_like(down)
    x[..., :-1, :] -= down[..., :-1, :]
    x[..., 1:, :] += down[..., :-1, :]
    x[..., :-1] -= right[..., :-1]
    x[..., 1:] += right[..., :-1]
    return x


def total_variation(z: Tensor, theta: Tensor, iterations: int) -> Tensor:
    """The proximal operator of θ·Σ √(down² + right²), by accelerated projected gradients from p = 0."""
    p = q = torch.zeros_like(torch.stack([z, z]))
    t = 1.0
    for _ in range(iterations):
        found = _projected(q + differences(z - differences_adjoint(q)) / 8, theta)
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        p, q, t = found, found + (t - 1) / following * (found - p), following
    return z - differences_adjoint(p)


def _projected(p: Tensor, theta: Tensor) -> Tensor:
    """p, where it is longer than θ shortened to θ."""
    square = p.abs().square().sum(0)
    shorter = square <= theta * theta
    length = torch.where(shorter, torch.ones_like(square), square).sqrt()  # no slope of √0
    return torch.where(shorter, p, p * (theta / length))


def proximal_step(
    z: Tensor, prior: str, theta: Tensor | None, low: float = 0.0, high: float = 0.0, iterations: int = 0
) -> Tensor:
    """The proximal step of a compiled prior of pictures."""
    if prior == "box":
        return z.clamp(low, high)
    if theta is None:
        return z
    if prior == "total_variation":
        return total_variation(z, theta, iterations)
    return reference.soft_threshold(z, theta) if prior == "soft" else torch.relu(z - theta)
