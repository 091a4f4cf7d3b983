"""A denoiser in the place of a proximal operator: plug and play, and learned priors."""

from __future__ import annotations

import inspect
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
        TypeError: ``module`` cannot be called, does not take σ as ``noise_level`` says, or returns another dtype.
        ValueError: ``noise_level`` is a number that is not positive, ``channels`` is no whole number ≥ 1 or is missing
            for a module of convolutions, z has other channels, or the module returns another shape.

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
        if not callable(module) or isinstance(module, type):
            raise TypeError(f"a denoiser must be a module or a function of a batch, got {_checks.kind(module)}")
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
        try:
            found = self.module(*arguments)
        except (RuntimeError, TypeError) as error:
            self._explain(arguments, error)
            raise
        if isinstance(found, Tensor) and _checks.autocasts(z):
            found = found.to(pictures.dtype)
        return found if self.channels is None else from_channels(_like(found, pictures), z)

    def _explain(self, arguments: list[Tensor], error: Exception) -> None:
        """Raises one sentence where a module has failed because of the options of this class."""
        if isinstance(error, TypeError) and not _takes(self.module, len(arguments)):
            with_level = "with noise_level a denoiser gives its module the pictures and σ"
            without = "without noise_level a denoiser gives its module the pictures alone"
            fix = "leave noise_level out" if self.has_threshold else "give noise_level"
            raise TypeError(
                f"{with_level if self.has_threshold else without}, but {_checks.kind(self.module)} takes other "
                f"arguments: {fix}"
            ) from error
        if self.channels is None and (refusal := _channels_missing(self.module, arguments[0], error)):
            raise ValueError(refusal) from error

    def extra_repr(self) -> str:
        return f"noise_level={self.noise_level}, channels={self.channels}"


def _takes(module: Any, count: int) -> bool:
    """Whether a module or a function can be called with a number of arguments; true where that is not known."""
    try:
        signature = inspect.signature(module.forward if isinstance(module, nn.Module) else module)
    except (TypeError, ValueError):  # functions of PyTorch state none
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _channels_missing(module: Any, pictures: Tensor, error: Exception) -> str | None:
    """A sentence where convolutions fail because they were given pictures and not real batches (N, C, H, W)."""
    modules = module.modules() if isinstance(module, nn.Module) else ()
    convolutions = [m for m in modules if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    is_of_shape = any(word in str(error) for word in ("channels", "unbatched"))  # in the words of PyTorch
    is_of_type = pictures.is_complex() and "should be the same" in str(error)
    if not convolutions or not (is_of_shape or is_of_type):
        return None
    takes, returns = convolutions[0].in_channels, convolutions[-1].out_channels
    if not pictures.is_complex() and pictures.dim() == 4 and pictures.shape[1] in (takes, returns):
        return None
    fix = f"channels={takes}" if takes == returns else "channels, the number C of the batches"
    if pictures.is_complex() and takes != 2:
        fix = "channels=2 and a module of two channels, the real and the imaginary part"
    return (
        "the convolutions of this denoiser take real batches (N, C, H, W), but without channels they get pictures as "
        f"they are, {pictures.dtype} of shape {shape_text(pictures.shape)}: give {fix}"
    )


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
