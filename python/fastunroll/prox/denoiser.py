"""A denoiser in the place of a proximal operator: plug and play, and learned priors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks
from .proximal import Proximal


class Denoiser(Proximal):
    """prox_θ(z) = denoiser(z), or denoiser(z, σ) with σ = √θ: any network that cleans pictures, as a prior.

    Args:
        module: an ``nn.Module`` or a function of z (B, ...), which returns the same shape. Parameters of a module are
            learned with the network around it.
        noise_level: whether it takes the standard deviation of the noise, σ = √θ, as a second argument, as the
            denoisers of deepinv do.

    Raises:
        TypeError: ``module`` cannot be called.

    Equivalent to ``module(z, theta ** 0.5) if noise_level else module(z)``.

    Reference: Venkatakrishnan, Bouman and Wohlberg, *Plug-and-play priors for model based reconstruction*, 2013.
    """

    def __init__(self, module: nn.Module | Callable[..., Tensor], noise_level: bool = False) -> None:
        super().__init__()
        if not callable(module):
            raise TypeError(f"a denoiser must be a module or a function of a batch, got {type(module).__name__}")
        self.module: Any = module
        self.noise_level = self.has_threshold = _checks.flag("noise_level", noise_level)

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        found: Tensor = self.module(z, torch.as_tensor(theta).sqrt()) if self.noise_level else self.module(z)
        return found

    def extra_repr(self) -> str:
        return f"noise_level={self.noise_level}"
