"""A scene: a picture, what has been measured of it, and how a reconstruction is judged."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...metrics import psnr, ssim
from ...operators import LinearOperator


@dataclass(frozen=True)
class Scene:
    """A picture for testing.

    Attributes:
        name: the name of the picture.
        x: the ground truth (B, H, W), real or complex. Channels of a colour picture are a batch.
        A: the operator.
        y: the measurements A x + e.
        naive: what the measurements look like before a reconstruction, (B, H, W).
        margin: the number of pixels (down, right) at each border that are not judged.
    """

    name: str
    x: Tensor
    A: LinearOperator
    y: Tensor
    naive: Tensor
    margin: tuple[int, int] = (0, 0)

    def inside(self, x: Tensor) -> Tensor:
        """Returns the pixels that are judged: of real pictures clipped to [0, 1], of complex ones the magnitudes."""
        (down, right), (H, W) = self.margin, x.shape[-2:]
        x = x[..., down : H - down, right : W - right]
        return x.abs() if x.is_complex() else x.clamp(0, 1)

    @torch.no_grad()
    def psnr(self, x: Tensor) -> float:
        """Returns the mean PSNR of a reconstruction over the channels, in dB."""
        return float(psnr(self.inside(x), self.inside(self.x)).mean())

    @torch.no_grad()
    def ssim(self, x: Tensor) -> float:
        """Returns the mean SSIM of a reconstruction over the channels."""
        return float(ssim(self.inside(x), self.inside(self.x)).mean())
