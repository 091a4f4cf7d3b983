"""A small convolutional network that removes noise from pictures: a prior that is learned."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks
from ..prox.picture_channels import as_channels, from_channels
from ..reference_pictures import channels_last


class DnCNN(nn.Module):
    """A residual convolutional network: x = z − N(z), where N predicts the noise in the pictures z.

    N is a chain of ``depth`` convolutions 3×3 without biases, with a ReLU between two of them. The last convolution
    starts at zero, so that the network starts as x = z, and an unrolled network around it as a gradient method. Without
    biases the network is homogeneous: pictures and noise levels that are c ≥ 0 times as large give c times the result.
    Pictures are continued by zeros. Batches are computed in the channels-last format.

    Args:
        channels: C. One channel takes real pictures z (..., H, W). Two channels take complex pictures (..., H, W), by
            their real and imaginary parts. Any number C > 1 takes real pictures (..., C, H, W).
        features: the number of maps between two convolutions.
        depth: the number of convolutions, ≥ 2.
        noise_level: whether the network takes the standard deviation σ of the noise as a second argument. The first
            convolution then has one more map, which is σ everywhere.
        device, dtype: of the weights.

    Shapes: x has the shape of z; σ is (), or (N,) with one number for each picture.

    Raises:
        TypeError: z is of another dtype than the weights, σ is missing, or it is given without ``noise_level``.
        ValueError: a number of channels, features or convolutions is too small, z has other channels, or σ does not
            hold one number, or one for each picture.

    Example::

        prior = fu.prox.Denoiser(fu.nn.DnCNN(channels=1, features=32, depth=5))
        net = fu.nn.Unrolled(fu.schemes.ProximalGradient(), blur, prior, layers=16)

    Equivalent to, for pictures (N, C, H, W)::

        x = z
        for convolution in convolutions[:-1]:
            x = torch.relu(convolution(x))
        z - convolutions[-1](x)

    References: Zhang, Zuo, Chen, Meng and Zhang, *Beyond a Gaussian denoiser: residual learning of deep CNN for image
    denoising*, 2017; Zhang, Zuo and Zhang, *FFDNet: toward a fast and flexible solution for CNN based image denoising*,
    2018; Mohan, Kadkhodaie, Simoncelli and Fernandez-Granda, *Robust and interpretable blind image denoising via
    bias-free convolutional neural networks*, 2020.
    """

    def __init__(
        self,
        channels: int = 1,
        features: int = 32,
        depth: int = 5,
        *,
        noise_level: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.features = _checks.count("channels", channels), _checks.count("features", features)
        self.depth, self.noise_level = _checks.count("depth", depth), _checks.flag("noise_level", noise_level)
        if depth < 2:
            raise ValueError(f"depth must be a whole number ≥ 2, the number of convolutions, got {depth}")
        sizes = [channels + self.noise_level, *[features] * (depth - 1), channels]
        dtype, device = _checks.floating_dtype(dtype), _checks.device(device)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False, device=device, dtype=dtype) for a, b in pairwise(sizes)
        )
        for convolution in self.convolutions:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")  # type: ignore[arg-type]
        nn.init.zeros_(self.convolutions[-1].weight)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, z: Tensor, sigma: Tensor | float | None = None) -> Tensor:
        """z without the noise that the network finds in it."""
        *inner, last = self.convolutions
        x = pictures = as_channels(_checks.tensor("z", z), self.channels)
        weight: Any = last.weight
        _checks.require_same_dtype_and_device(weight=weight, z=pictures)
        if self.noise_level != (sigma is not None):
            wrong = "takes sigma: give it" if self.noise_level else "takes no sigma: make it with noise_level=True"
            raise TypeError(f"a DnCNN with noise_level={self.noise_level} {wrong}")
        if sigma is not None:
            level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1, 1, 1, 1)
            if len(level) not in (1, len(x)):
                raise ValueError(f"sigma must be one number, or one for each of {len(x)} pictures, got {len(level)}")
            x = torch.cat([x, level.expand(len(x), 1, *x.shape[-2:])], 1)
        x = channels_last(x)
        for convolution in inner:
            x = torch.relu(convolution(x))
        return from_channels(pictures - last(x), z)

    def extra_repr(self) -> str:
        return f"channels={self.channels}, features={self.features}, depth={self.depth}, noise_level={self.noise_level}"
