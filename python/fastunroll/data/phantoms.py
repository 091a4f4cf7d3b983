"""Phantoms, pictures of ellipses: random ones for training, and that of Shepp and Logan for testing."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import _checks
from ..operators.convert import OperatorLike
from .pictures import Pictures, picture_shape, smooth_field

# Of each ellipse: its value, half axes (across, down), centre (right, up) and angle in degrees.
_SHEPP_LOGAN = (
    (1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18.0),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18.0),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0.0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0.0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0.0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0.0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0.0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0.0),
)


def shepp_logan(shape: tuple[int, int] | int = 256) -> Tensor:
    """Returns the phantom of Shepp and Logan, a section of a head, with values from 0 to 1 in float32.

    It is the modified phantom with higher contrast. A pixel has the value of its centre.

    Args:
        shape: (H, W), or the side of a square.

    Returns:
        (H, W).

    Raises:
        ValueError: ``shape`` has not two sizes ≥ 1.

    Reference: Shepp and Logan, *The Fourier reconstruction of a head section*, 1974; Toft, *The Radon transform*, 1996.
    """
    down, right = _grid(picture_shape(shape))
    picture = torch.zeros_like(down + right)
    for value, a, b, x0, y0, degrees in _SHEPP_LOGAN:
        radius = _radius(down + y0, right - x0, torch.tensor([b, a], dtype=torch.float64), math.radians(degrees))
        picture += value * (radius <= 1)
    return picture.clamp(0, 1).float()


def _grid(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The coordinates of pixel centres from −1 to 1: downwards (H, 1), and to the right (1, W)."""
    down, right = ((2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1 for n in shape)
    return down[:, None], right[None]


def _radius(down: Tensor, right: Tensor, axes: Tensor, angle: float | Tensor) -> Tensor:
    """The radius of each pixel in units of an ellipse: 1 on its border. ``axes`` are half axes (..., 2)."""
    angle = torch.as_tensor(angle, dtype=down.dtype)
    cos, sin = angle.cos(), angle.sin()
    first, second = cos * down + sin * right, cos * right - sin * down
    return ((first / axes[..., 0]).square() + (second / axes[..., 1]).square()).sqrt()


class Phantoms(Pictures):
    """Draws random phantoms x, and their measurements y = A x + e, for training with ground truth.

    A phantom is a large ellipse that holds smaller ones, each brighter or darker than what is below it. Brightness
    varies slowly, as in the field of a coil. Edges are one pixel wide, and values are from 0 to 1.

    Args:
        A: a linear operator on pictures (:func:`fastunroll.operators.as_operator`), or None for y = x + e. Samples have
            its precision and device.
        shape: the shape (H, W) of a phantom, or the side of a square.
        noise: the standard deviation σ ≥ 0 of the noise e; of complex noise, E|e|² = σ².
        phase: the standard deviation of a smooth random phase in radians, which makes phantoms complex. With 0,
            phantoms are real.
        ellipses: the number of small ellipses.
        shading: the standard deviation of the brightness relative to its mean, ≥ 0.

    Raises:
        TypeError: A is not an operator.
        ValueError: ``shape`` has not two sizes ≥ 1, ``ellipses`` < 1, or a number is negative.

    Example::

        scan = fu.operators.Fourier(columns)
        problem = fu.data.Phantoms(scan, 128, noise=0.005, phase=1.0)
        y, x = next(fu.data.stream(problem, 4))         # (4, 128, 128), complex
    """

    def __init__(
        self,
        A: OperatorLike | None = None,
        shape: tuple[int, int] | int = 128,
        *,
        noise: float = 0.0,
        phase: float = 1.0,
        ellipses: int = 24,
        shading: float = 0.1,
    ) -> None:
        super().__init__(A, shape, noise, phase)  # type: ignore[arg-type]
        self.ellipses = _checks.count("ellipses", ellipses)
        self.shading = _checks.not_negative("shading", shading)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws phantoms (count, H, W) in float32. All random numbers come from the generator."""

        def uniform(low: float, high: float, *more: int) -> Tensor:
            return low + (high - low) * torch.rand(count, *more, generator=generator, dtype=torch.float64)

        head, centre, turn = uniform(0.55, 0.95, 2), uniform(-0.08, 0.08, 2), uniform(-0.3, 0.3)
        picture = uniform(0.2, 0.8)[:, None, None] * self._inside(head, centre, turn)
        for _ in range(self.ellipses):
            axes = uniform(0.3, 1.0, 2) * 0.45 ** uniform(1, 4, 1)
            place, angle = centre + 0.8 * head * uniform(-1, 1, 2), uniform(0, math.pi)
            value = 0.3 * torch.randn(count, generator=generator, dtype=torch.float64)
            picture += value[:, None, None] * self._inside(axes, place, angle) * (picture > 0)
        bright = 1 + self.shading * smooth_field(count, self.shape, generator)
        return (picture.clamp(0, 1).float() * bright).clamp(0, 1)

    def _inside(self, axes: Tensor, centre: Tensor, angle: Tensor) -> Tensor:
        """The share of each pixel that is inside of the ellipses of all phantoms, (count, H, W)."""
        down, right = _grid(self.shape)
        axes, centre, angle = axes[:, None, None], centre[:, None, None], angle[:, None, None]
        radius = _radius(down - centre[..., 0], right - centre[..., 1], axes, angle)
        pixels = axes.amin(-1) * min(self.shape) / 2  # of the shorter half axis
        return (0.5 + (1 - radius) * pixels).clamp(0, 1)
