"""Problems whose samples are pictures: what photographs and phantoms share."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import _checks
from ..operators.convert import OperatorLike, as_operator
from .problems import Samples

ORDER = 3  # of the cosines that a smooth field has in each direction


def smooth_field(count: int, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draws random fields (count, H, W) without details: sums of cosines of at most one and a half periods.

    φ(s, t) = Σ_ij a_ij cos(π i s) cos(π j t) with i, j ≤ 3, s and t from 0 to 1, and a_ij drawn from
    N(0, 1/(1 + i² + j²)).
    """
    orders = torch.arange(ORDER + 1.0)
    a = torch.randn(count, ORDER + 1, ORDER + 1, generator=generator)
    a = a / (1 + orders[:, None] ** 2 + orders**2).sqrt()
    rows, columns = (torch.cos(math.pi * torch.linspace(0, 1, size)[:, None] * orders) for size in shape)
    return rows @ a @ columns.mT


class Pictures:
    """Draws pictures x and their measurements y = A x + e, with white noise e.

    A subclass defines :meth:`draw`. Pictures have values from 0 to 1. With ``phase`` they become complex,
    x = picture · exp(i·phase·φ), with a smooth random field φ (:func:`smooth_field`).

    Args:
        A: a linear operator on pictures (:func:`fastunroll.operators.as_operator`), or None for y = x + e. Samples have
            its precision and device.
        shape: (H, W), the shape of a picture.
        noise: the standard deviation σ ≥ 0 of the noise; of complex noise, E|e|² = σ².
        phase: the standard deviation of the phase in radians, ≥ 0. With 0, pictures are real.

    Raises:
        TypeError: A is not an operator.
        ValueError: ``shape`` has not two sizes ≥ 1, or a number is negative or not finite.
    """

    def __init__(self, A: OperatorLike | None, shape: tuple[int, int], noise: float, phase: float) -> None:
        self.A: Any = None if A is None else as_operator(A)
        self.shape = picture_shape(shape)
        self.noise, self.phase = _checks.not_negative("noise", noise), _checks.not_negative("phase", phase)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws pictures (count, H, W) in float32. All random numbers come from the generator."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(count, generator)")

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Samples:
        """Draws ``count`` samples (y, x). Random numbers are drawn on the CPU, so all devices get the same samples."""
        count, generator = _checks.count("count", count), _checks.generator(generator)
        x = self.draw(count, generator)
        if self.phase:
            x = torch.polar(x, self.phase * smooth_field(count, self.shape, generator))
        tensors = () if self.A is None else (*self.A.parameters(), *self.A.buffers())
        like = next((t for t in tensors if t.is_floating_point() or t.is_complex()), x)
        real = like.dtype.to_real()
        x = x.to(like.device, real.to_complex() if x.is_complex() else real)
        y = x if self.A is None else self.A(x)
        if self.noise:
            y = y + self.noise * torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device)
        return Samples(y, x)


def picture_shape(shape: object) -> tuple[int, int]:
    """``shape`` as the two sides of a picture; a whole number is the side of a square."""
    sizes = _checks.shape("shape", shape)
    sizes = sizes * 2 if len(sizes) == 1 else sizes
    if len(sizes) != 2 or 0 in sizes:
        raise ValueError(f"shape must be (H, W) with H, W ≥ 1, or one side, got {_checks.shown(shape)}")
    return sizes[0], sizes[1]
