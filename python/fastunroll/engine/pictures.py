"""Layers over pictures: which of them are compiled, and their call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import ops
from .._precision import own_precision
from ..operators import Blur, Fourier, Mask, MultiCoilFourier
from ..operators.gradients import learns
from ..operators.pictures import PictureOperator
from ..prox import L1, Box, Identity, NonNegativeL1, Proximal, TotalVariation, WaveletL1
from ..schemes import FISTA, ProximalGradient
from ..steps import GradientStep
from .linear import separate, stacked

if TYPE_CHECKING:
    from .layers import Layers

# The operators and the proximal operators that are compiled; subclasses may compute something else.
_OPERATORS = Blur, Fourier, MultiCoilFourier, Mask
_PRIORS: dict[type[Proximal], str] = {
    Identity: "identity",
    L1: "soft",
    NonNegativeL1: "nonnegative",
    Box: "box",
    TotalVariation: "total_variation",
    WaveletL1: "wavelet",
}


def unsupported_reason(net: Layers) -> str | None:
    """Why there are no compiled layers over pictures for these pieces; None where there are."""
    A, prox = net.first[0], type(net.prox)
    name = type(A).__name__
    if type(A) not in _OPERATORS:
        return f"the operator {name} is not compiled"
    if isinstance(A, Blur) and not A.collapsed:
        return f"of blurs only circular ones are compiled, and this one is {A.boundary!r}"
    if torch.is_grad_enabled() and learns(A):
        return f"the compiled layers do not learn the {name}"
    if not isinstance(net.linear, GradientStep) or net.linear.via != "residual":
        return "of the linear steps of pictures only GradientStep(A) is compiled"
    if type(net.scheme) not in (ProximalGradient, FISTA):
        return f"the scheme {type(net.scheme).__name__} is not compiled for pictures"
    if prox not in _PRIORS:
        return f"the proximal operator {prox.__name__} is not compiled for pictures"
    if net.gain:
        return "a gain is not compiled for pictures"
    sizes = ((), (1,), (net.prox.thresholds,)) if isinstance(net.prox, WaveletL1) else ((), (1,))
    if any(t.shape not in sizes and t.numel() != 1 for t in net.theta):
        return "the compiled layers over pictures have one threshold for all pixels, or one for each band or level"
    return None


def refused_reason(A: PictureOperator, y: Tensor) -> str | None:
    """Why the compiled layers do not take this batch; None where they do."""
    if not ops.is_supported_on_cpu(y, complex_too=True):
        return f"there are no kernels for {y.dtype} on {y.device.type} devices"
    if isinstance(A, Mask):
        return None
    for side in y.shape[-2:]:
        if not ops.is_fft_length(side):
            return f"a side of {int(side)} pixels has a prime factor above 31"
    return None


def run(net: Layers, y: Tensor, x0: Tensor | None, kept: int) -> Tensor | None:
    """The last layers, (kept, ..., H, W); None where the compiled layers do not take these tensors."""
    A: Any = net.first[0]
    if refused_reason(A, y) is not None:
        return None
    with own_precision(y):
        z = A.adjoint(y)
        p = arguments(net, z, None if x0 is None else A.samples(x0))
        return ops.picture_layers(p, kept) if ops.fits_pictures(p) or z.numel() == 0 else None


def arguments(
    net: Layers, z: Tensor, x0: Tensor | None, before: Tensor | None = None, first: int = 0
) -> ops.PictureLayers:
    """The layers as the kernels take them, from z = Aᴴy on, as layers ``first``, ``first`` + 1, … of the prior."""
    if isinstance(net.prox, WaveletL1):
        net.prox.wavelet.samples(z)  # raises if the sides do not fit
    step, theta, beta = _numbers(net, z)
    normal = net.first[0].normal_parts(z)
    of_prior = _prior(net, first)
    return ops.PictureLayers(z, x0, normal.h, normal.maps, step, theta, beta, normal.normal, before=before, **of_prior)


def _numbers(net: Layers, z: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The steps, thresholds and momenta of all layers, (K,)."""

    def of_each_layer(values: Any) -> Tensor:
        return stacked(separate(values), net.count).flatten()

    theta = None
    if isinstance(net.prox, WaveletL1):
        theta = stacked([net.prox.band_thresholds(t) for t in net.theta], net.count)
    elif net.theta:
        theta = of_each_layer(net.theta)
    return (
        of_each_layer(net.step or [z.real.new_ones(())]),
        theta,
        of_each_layer(net.scheme.beta) if isinstance(net.scheme, FISTA) else None,
    )


def _prior(net: Layers, first: int) -> dict[str, Any]:
    """The proximal operator as the kernels know it."""
    prox, of_wavelet = net.prox, {}
    if isinstance(prox, WaveletL1):
        moves = [pixels for k in range(first, first + net.count) for pixels in prox.move(k)]
        of_wavelet = {"low_pass": prox.wavelet.low_pass, "levels": prox.levels, "moves": moves}
    return {
        "prior": _PRIORS[type(prox)],
        "low": getattr(prox, "low", 0.0),
        "high": getattr(prox, "high", 0.0),
        "iterations": getattr(prox, "inner_iterations", 0),
        **of_wavelet,
    }
