"""Simulated skies: stars and galaxies on a dark background, for training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...data.pictures import Pictures, smooth_field

AREA = 80  # pixels for each star or galaxy
FAINTEST, BRIGHTEST = 0.05, 2.0  # peaks; what is brighter than white becomes white
SMALLEST, LARGEST = 0.8, 8.0  # scale lengths in pixels


class Skies(Pictures):
    """Draws skies.

    A star or galaxy is an ellipse with the profile a·exp(−(r/h)^p). Few are bright or large: the peak a and the scale
    length h have densities that fall with a power. The brightness of galaxies varies within them. The background has a
    grain of its own, as photographs have.

    Args:
        side: the side of a sky in pixels.

    Reference: Sérsic, *Influence of the atmospheric and instrumental dispersion on the brightness distribution in a
    galaxy*, 1963.
    """

    def __init__(self, side: int) -> None:
        super().__init__(None, (side, side), 0.0, 0.0)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        H, W = self.shape
        sources = max(1, H * W // AREA)

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(count, sources, 1, 1, generator=generator)

        down = torch.arange(float(H))[:, None] - uniform(-5, H + 5)
        right = torch.arange(float(W)) - uniform(-5, W + 5)
        length = (SMALLEST * uniform(0, 1).clamp(min=1e-3) ** -0.5).clamp(max=LARGEST)
        peak = (FAINTEST * uniform(0, 1).clamp(min=1e-3) ** -0.7 * (length / SMALLEST).sqrt()).clamp(max=BRIGHTEST)
        flat, power, angle = uniform(0.3, 1), uniform(0.8, 2), uniform(0, math.pi)
        along, across = angle.cos() * down + angle.sin() * right, angle.cos() * right - angle.sin() * down
        radius = (along.square() + (across / flat).square()).sqrt() / length
        light = (peak * torch.exp(-(radius**power))).sum(1)
        knots = torch.nn.functional.interpolate(
            torch.randn(count, 1, H // 3 + 2, W // 3 + 2, generator=generator), (H, W), mode="bicubic"
        )[:, 0]
        background = 0.045 + 0.01 * smooth_field(count, self.shape, generator)
        grain = 0.025 * torch.rand(count, 1, 1, generator=generator) * torch.randn(count, H, W, generator=generator)
        return (background + grain + light * (1 + 0.25 * knots)).clamp(0, 1)
