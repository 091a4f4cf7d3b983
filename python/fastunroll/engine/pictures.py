"""Layers over pictures: which of them are compiled, and their call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import ops
from .._precision import own_precision
from ..operators import Blur, Downsample, Fourier, Mask, MultiCoilFourier
from ..operators.gradients import learns
from ..prox import L1, Box, FilterBank, Identity, NonNegativeL1, PerLayer, Proximal, TotalVariation, WaveletL1
from ..schemes import ADMM, FISTA, HQS, PrimalDual, ProximalGradient, Scheme
from ..steps import DataStep, GradientStep
from .linear import at, separate, stacked

if TYPE_CHECKING:
    from .layers import Layers

# The operators and the proximal operators that are compiled; subclasses may compute something else.
OPERATORS = Blur, Fourier, MultiCoilFourier, Mask, Downsample
_PRIORS: dict[type[Proximal], str] = {
    Identity: "identity",
    L1: "soft",
    NonNegativeL1: "nonnegative",
    Box: "box",
    TotalVariation: "total_variation",
    FilterBank: "filter_bank",
    WaveletL1: "wavelet",
}
_SCHEMES: dict[type[Scheme], str] = {
    ProximalGradient: "proximal_gradient",
    HQS: "proximal_gradient",
    FISTA: "fista",
    ADMM: "admm",
    PrimalDual: "primal_dual",
}


def unsupported_reason(net: Layers) -> str | None:
    """Why there are no compiled layers over pictures for these pieces; None where there are."""
    A, priors = net.first[0], _priors(net)
    name, prox = type(A).__name__, type(priors[0])
    if type(A) not in OPERATORS:
        return f"the operator {name} is not compiled"
    if A.picture_dims == 3 or priors[0].sample_dims == 3:
        return "layers over volumes are not compiled"
    if torch.is_grad_enabled() and learns(A):
        return f"the compiled layers do not learn the {name}"
    reason = _unsupported_step(net)
    if reason is not None:
        return reason
    if prox not in _PRIORS:
        return f"the proximal operator {prox.__name__} is not compiled for pictures"
    if net.gain:
        return "a gain is not compiled for pictures"
    if len({(*_settings(of_layer).values(), *_size(of_layer)) for of_layer in priors}) > 1:
        return "the proximal operators of compiled layers over pictures differ in their filters and moves alone"
    if prox is FilterBank:
        if any(t.dim() > 1 or t.numel() not in (1, priors[0].count) for t in net.theta):
            return "the compiled FilterBank has one threshold, or one for each filter"
    elif prox is WaveletL1:
        if any(t.numel() != 1 and t.shape != (priors[0].thresholds,) for t in net.theta):
            return "the compiled WaveletL1 has one threshold, or one for each band or level"
    elif any(t.numel() != 1 for t in net.theta):
        return "the compiled layers over pictures have one threshold for all pixels"
    return None


def _unsupported_step(net: Layers) -> str | None:
    """Why there is no such scheme of such a linear step; None where there is."""
    if type(net.scheme) not in _SCHEMES:
        return f"the scheme {type(net.scheme).__name__} is not compiled for pictures"
    if isinstance(net.linear, DataStep):
        return "the scheme PrimalDual has no data step" if isinstance(net.scheme, PrimalDual) else None
    if not isinstance(net.linear, GradientStep) or net.linear.via != "residual":
        return "of the linear steps of pictures GradientStep(A) and DataStep(A, rho) are compiled"
    return None


def refused_reason(net: Layers, y: Tensor) -> str | None:
    """Why the compiled layers do not take this batch; None where they do."""
    A: Any = net.first[0]
    if not ops.is_supported_on_cpu(y, complex_too=True):
        return f"there are no kernels for {y.dtype} on {y.device.type} devices"
    if isinstance(A, Mask):
        return None
    factor, blur = (A.factor, A.blur) if isinstance(A, Downsample) else (1, A)
    rows, columns = (factor * int(side) for side in y.shape[-2:])
    has_grid = isinstance(blur, Blur) and not (isinstance(net.linear, DataStep) and A.solves)
    for side in blur.grid((rows, columns)) if has_grid else (rows, columns):
        if not ops.is_fft_length(side):
            return f"a side of {side} pixels has a prime factor above 31"
    return None


def run(
    net: Layers, y: Tensor, x0: Tensor | None, s0: Tensor | None, keep: bool, wants_state: bool
) -> tuple[Tensor, Tensor | None] | None:
    """The last layer, (..., H, W), or with ``keep`` all, (K, ..., H, W), and the second state if it is wanted.

    None where the compiled layers do not take these tensors.
    """
    A: Any = net.first[0]
    if refused_reason(net, y) is not None:
        return None
    is_dual, is_admm = isinstance(net.scheme, PrimalDual), isinstance(net.scheme, ADMM)
    with own_precision(y):
        if is_dual and s0 is not None and (s0.shape != y.shape or s0.dtype != y.dtype):
            return None  # stepwise layers say what is wrong
        z = A.adjoint(y)
        start = None if x0 is None else A.samples(x0)
        p = arguments(net, z, start, A.adjoint(s0) if is_dual and s0 is not None else s0)
        if p.filters is not None and min(z.shape[-2:]) < p.filters.shape[-1]:
            return None  # the prior says why
        if not ops.fits_pictures(p) and z.numel() > 0:
            return None
        if wants_state and is_admm:
            x, s = ops.picture_layers_and_state(p, net.count if keep else 1)
            return (x if keep else x[-1]), s
        wants_all = keep or (wants_state and is_dual)
        x = ops.picture_layers(p, net.count if wants_all else min(net.count, 2) if wants_state else 1)
        start = torch.zeros_like(z) if start is None else start
        state = None
        if wants_state and is_dual:
            state = _dual_variable(net, y, start, s0, x)
        elif wants_state:
            state = x[-2] if len(x) > 1 else start
        return (x if keep else x[-1]), state


def _dual_variable(net: Layers, y: Tensor, x0: Tensor, s0: Tensor | None, layers: Tensor) -> Tensor:
    """The dual variable u after all layers of PrimalDual, of which kernels have Aᴴu.

    u⁺ = (u + σ·(A a − y))/(1 + σ) with a = x⁺ + ω·(x⁺ − x) is linear in all a, so that u = A w − c·y + e·u₀ with a
    combination w of them.
    """
    sigmas, omegas = (separate(getattr(net.scheme, name)) for name in ("sigma", "omega"))
    first = at(sigmas, 0)
    w, c = (first / (1 + first) * x0, first / (1 + first)) if s0 is None else (torch.zeros_like(x0), 0 * first)
    e, x = torch.ones_like(first), x0
    for k, following in enumerate(layers):
        sigma, omega = at(sigmas, k), at(omegas, k)
        w = (w + sigma * (following + omega * (following - x))) / (1 + sigma)
        c, e, x = (c + sigma) / (1 + sigma), e / (1 + sigma), following
    u: Tensor = net.first[0](w) - c * y
    return u if s0 is None else u + e * s0


def arguments(net: Layers, z: Tensor, x0: Tensor | None, s0: Tensor | None = None, first: int = 0) -> ops.PictureLayers:
    """The layers as the kernels take them, from z = Aᴴy on, as layers ``first``, ``first`` + 1, … of the prior."""
    prior = _priors(net)[0]
    if isinstance(prior, WaveletL1):
        prior.wavelet.samples(z)  # raises if the sides do not fit
    step, theta, numbers = _numbers(net, z)
    return ops.PictureLayers(
        z, x0, s0, step=step, theta=theta, numbers=numbers, filters=_filters(net),
        linear="solve" if isinstance(net.linear, DataStep) else "gradient", scheme=_SCHEMES[type(net.scheme)],
        **net.first[0].normal_parts(z)._asdict(), **_settings(prior), **_moved_wavelet(net, first),
    )  # fmt: skip


def _numbers(net: Layers, z: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The steps, (K,), the thresholds, and the numbers of the scheme, (K, count), of all layers."""

    def of_each_layer(values: Any) -> Tensor:
        if len(values) == 1:  # a number for all layers, or a tensor of theirs
            found: Tensor = values[0].reshape(-1).expand(net.count)
            return found
        return stacked(values, net.count).flatten()

    prior: Any = _priors(net)[0]
    names = net.scheme.numbers
    theta = None
    if isinstance(prior, FilterBank):
        theta = stacked([t.reshape(-1).expand(prior.count) for t in net.theta], net.count)
    elif isinstance(prior, WaveletL1):
        theta = stacked([prior.band_thresholds(t) for t in net.theta], net.count)
    elif net.theta:
        theta = of_each_layer(net.theta)
    return (
        of_each_layer(net.step or [z.real.new_ones(())]),
        theta,
        torch.stack([of_each_layer(getattr(net.scheme, name)) for name in names], 1) if names else None,
    )


def _priors(net: Layers) -> list[Any]:
    """The proximal operator of all layers, or that of each one."""
    return [net.prox.copy_of(k) for k in range(net.count)] if type(net.prox) is PerLayer else [net.prox]


def _filters(net: Layers) -> Tensor | None:
    """The filters of a bank for each layer, (K, count, h, h)."""
    priors = _priors(net)
    if not isinstance(priors[0], FilterBank):
        return None
    return torch.stack([prior.filters for prior in priors]).expand(net.count, -1, -1, -1)


def _size(prox: Any) -> tuple[Any, ...]:
    """The count and the size of the filters of a bank; the filter of a wavelet and its levels."""
    if isinstance(prox, WaveletL1):
        return (*prox.wavelet.low_pass, prox.levels, prox.thresholds)
    return (prox.count, prox.size) if isinstance(prox, FilterBank) else ()


def _moved_wavelet(net: Layers, first: int) -> dict[str, Any]:
    """The filter of a wavelet, its levels, and how its grid moves from layer to layer."""
    priors = _priors(net)
    if not isinstance(priors[0], WaveletL1):
        return {}
    moves = [pixels for k in range(net.count) for pixels in at(priors, k).move(first + k)]
    return {"low_pass": priors[0].wavelet.low_pass, "levels": priors[0].levels, "moves": moves}


def _settings(prox: Any) -> dict[str, Any]:
    """What the kernels know of a proximal operator beside tensors."""
    return {
        "prior": _PRIORS.get(type(prox), ""),
        "low": getattr(prox, "low", 0.0),
        "high": getattr(prox, "high", 0.0),
        "iterations": getattr(prox, "inner_iterations", 0),
    }
