"""A denoiser in the place of a proximal operator: plug and play, and learned priors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks
from .._checks import shape_text
from .picture_channels import as_channels, from_channels, levels_of
from .proximal import Proximal


class Denoiser(Proximal):
    """prox_θ(z) = denoiser(z), or denoiser(z, σ) with σ = √θ: any network that cleans pictures, as a prior.

    Args:
        module: an ``nn.Module`` or a function of a batch, which returns the same shape and dtype, such as
            :class:`fastunroll.nn.DnCNN` or a denoiser of DeepInverse. Parameters of a module are learned with the
            network around it.
        noise_level: whether the module takes the standard deviation of the noise, σ = √θ, as a second argument. A
            network learns a σ for each layer. A number is the σ in units of the pictures that all layers start with.
            ``True`` starts them with the threshold of the scheme, as solvers do in each iteration.
        channels: the number of channels C of a module that takes real batches (N, C, H, W). One channel takes pictures
            z (..., H, W), two channels take complex pictures (..., H, W) by their real and imaginary parts, and C
            channels take real pictures (..., C, H, W). Without ``channels`` the module takes z as it is.

    σ is a tensor of shape (), or (N,) if the pictures of a batch have thresholds of their own. Under autocast the
    module computes in the precision of autocast, and the rest of a network in that of y.

    Raises:
        TypeError: ``module`` cannot be called, or returns another dtype.
        ValueError: ``noise_level`` is a number that is not positive, ``channels`` is no whole number ≥ 1, z has other
            channels, or the module returns another shape.

    Example::

        prior = fu.prox.Denoiser(fu.nn.DnCNN(channels=1))
        prior = fu.prox.Denoiser(deepinv.models.DRUNet(in_channels=1, out_channels=1), noise_level=0.05, channels=1)
        net = fu.nn.Unrolled(fu.schemes.HQS(), blur, prior, layers=8)

    Equivalent to, with one channel::

        module(z.reshape(-1, 1, H, W), theta ** 0.5).reshape(z.shape)

    References: Venkatakrishnan, Bouman and Wohlberg, *Plug-and-play priors for model based reconstruction*, 2013;
    Zhang, Li, Zuo, Zhang, Van Gool and Timofte, *Plug-and-play image restoration with deep denoiser prior*, 2021.
    """

    takes_autocast = True

    def __init__(
        self,
        module: nn.Module | Callable[..., Tensor],
        noise_level: bool | float = False,
        *,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        if not callable(module):
            raise TypeError(f"a denoiser must be a module or a function of a batch, got {type(module).__name__}")
        self.module: Any = module
        is_number = not isinstance(noise_level, bool)
        self.noise_level = _checks.positive("noise_level", noise_level) if is_number else noise_level
        self.has_threshold = bool(noise_level)
        self.channels = None if channels is None else _checks.count("channels", channels)

    def initial_threshold(self, theta: float) -> float:
        """σ² where the noise level is a number."""
        return theta if isinstance(self.noise_level, bool) else self.noise_level**2

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        pictures = z if self.channels is None else as_channels(z, self.channels)
        arguments = [pictures]
        if self.has_threshold:
            sigma = torch.as_tensor(theta).sqrt()
            alone = self.channels is None and sigma.numel() != 1
            arguments.append(sigma if alone else levels_of(sigma, z, self.channels or 1))
        found = self.module(*arguments)
        if isinstance(found, Tensor) and _checks.autocasts(z):
            found = found.to(pictures.dtype)
        return found if self.channels is None else from_channels(_like(found, pictures), z)

    def extra_repr(self) -> str:
        return f"noise_level={self.noise_level}, channels={self.channels}"


def _like(found: Any, pictures: Tensor) -> Tensor:
    """What a denoiser has returned, if it is of the shape and dtype of its pictures."""
    if not isinstance(found, Tensor):
        raise TypeError(f"a denoiser must return a tensor, got {type(found).__name__}")
    if found.shape != pictures.shape:
        raise ValueError(
            f"a denoiser must return the shape of its pictures, {shape_text(pictures.shape)}, got "
            f"{shape_text(found.shape)}: pad its convolutions, or crop its result"
        )
    if found.dtype != pictures.dtype:
        raise TypeError(
            f"a denoiser must return the dtype of its pictures, {pictures.dtype}, got {found.dtype}: convert it with "
            ".to()"
        )
    return found
