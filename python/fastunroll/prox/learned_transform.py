"""A soft threshold in a learned nonlinear transform of pictures, the prior of ISTA-Net."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import _checks
from ..reference_pictures import channels_last
from .picture_channels import as_channels, from_channels, levels_of
from .proximal import Proximal
from .threshold import soft_threshold


class LearnedTransform(Proximal):
    """The soft threshold in a learned transform: prox_θ(z) = z + G(F̃(S_θ(F(D z)))), the prior of ISTA-Net⁺.

    D is a convolution that makes ``features`` maps of a picture, F and F̃ are each two convolutions with a ReLU between
    them, and G is a convolution back to a picture. F̃ is to be the inverse of F: add :meth:`symmetry_loss` to the loss
    of the network for it. No convolution has a bias. G starts at zero, so that a network starts as a gradient method.

    With ``residual=False`` it is the prior of ISTA-Net, prox_θ(z) = F̃(S_θ(F(z))), where the first convolution of F
    makes the maps and the last one of F̃ the picture.

    Args:
        channels: C. One channel takes real pictures z (..., H, W). Two channels take complex pictures (..., H, W), by
            their real and imaginary parts. Any number C > 1 takes real pictures (..., C, H, W).
        features: the number of maps.
        size: the side of the filters, an odd number.
        residual: whether the result is added to z.
        device, dtype: of the weights.

    Attributes:
        extract, transform, inverse, restore: the modules D, F, F̃ and G.

    Raises:
        TypeError: z is of another dtype than the weights.
        ValueError: a number is too small, ``size`` is even, or z has other channels.

    Example::

        prior = fu.prox.PerLayer(fu.prox.LearnedTransform(), layers=9)
        net = fu.nn.Unrolled(fu.schemes.ProximalGradient(), blur, prior, layers=9)
        x = net(y, return_layers=True)
        loss = mse_loss(x[-1], truth) + 0.01 * sum(prior.copies[k].symmetry_loss(x[k]) for k in range(9))

    Equivalent to, for pictures (N, C, H, W)::

        c = F(D(z))
        z + G(F_inverse(torch.sgn(c) * torch.relu(c.abs() - theta)))

    Reference: Zhang and Ghanem, *ISTA-Net: interpretable optimization-inspired deep network for image compressive
    sensing*, 2018.
    """

    takes_autocast = True

    def __init__(
        self,
        channels: int = 1,
        features: int = 32,
        size: int = 3,
        *,
        residual: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.features = _checks.count("channels", channels), _checks.count("features", features)
        self.size, self.residual = _checks.count("size", size), _checks.flag("residual", residual)
        if self.size % 2 == 0:
            raise ValueError(f"size must be an odd number, such that filters have a middle, got {self.size}")
        place, kind = _checks.device(device), _checks.floating_dtype(dtype)

        def convolution(a: int, b: int) -> nn.Conv2d:
            made = nn.Conv2d(a, b, size, padding=size // 2, bias=False, device=place, dtype=kind)
            nn.init.xavier_normal_(made.weight)
            return made

        outer = features if residual else channels
        self.extract = convolution(channels, features) if residual else nn.Identity()
        self.transform = nn.Sequential(convolution(outer, features), nn.ReLU(), convolution(features, features))
        self.inverse = nn.Sequential(convolution(features, features), nn.ReLU(), convolution(features, outer))
        self.restore = convolution(features, channels) if residual else nn.Identity()
        if residual:
            nn.init.zeros_(self.restore.weight)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _pictures(self, z: Tensor) -> Tensor:
        pictures = as_channels(_checks.tensor("z", z), self.channels)
        _checks.require_same_dtype_and_device(weight=next(self.parameters()), z=pictures)
        return channels_last(pictures)

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        pictures = self._pictures(z)
        c = self.transform(self.extract(pictures))
        level = levels_of(torch.as_tensor(theta, device=z.device), z, self.channels)
        found = self.restore(self.inverse(soft_threshold(c, level.reshape(-1, 1, 1, 1))))
        return from_channels((pictures + found if self.residual else found).to(pictures.dtype), z)

    def symmetry_loss(self, z: Tensor) -> Tensor:
        """The mean of |F̃(F(u)) − u|² with u = D z, or u = z without ``residual``: zero where F̃ is the inverse of F.

        Args:
            z: pictures, such as the output of the layer.

        Returns:
            A scalar, differentiable.
        """
        maps = self.extract(self._pictures(z))
        loss: Tensor = (self.inverse(self.transform(maps)) - maps).square().mean()
        return loss

    def extra_repr(self) -> str:
        return f"channels={self.channels}, features={self.features}, size={self.size}, residual={self.residual}"
