"""Unrolled networks of DeepInverse, with the priors of the demos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ...operators import LinearOperator
from ...operators.channels import as_channels, as_complex
from .network import DEPTH, FEATURES, FIRST, INNER, LAST, LAYERS, NOISE_LEVEL, HalfSize, RefinedTotalVariation, seeded


def is_installed() -> bool:
    """Whether DeepInverse is installed."""
    return find_spec("deepinv") is not None


def unfolded(algorithm: str, prior: Any, levels: Sequence[float]) -> nn.Module:
    """An algorithm of DeepInverse with a layer for each level. The layers learn their steps and their levels."""
    from deepinv import optim

    net: nn.Module = getattr(optim, algorithm)(
        data_fidelity=optim.L2(), prior=prior, stepsize=[1.0] * len(levels), g_param=[*levels],
        max_iter=len(levels), unfold=True, trainable_params=["stepsize", "g_param"],
    )  # fmt: skip
    return net


class Unfolded(nn.Module):
    """An algorithm of DeepInverse, unfolded: each layer learns a step and a noise level, and all share a denoiser.

    Args:
        algorithm: the name of the algorithm, ``"PGD"`` (proximal gradient) or ``"DRS"`` (Douglas–Rachford).
        denoiser: a module of real pictures (B, C, H, W) and the noise level. With two channels, pictures are complex.
        levels: the noise levels that the layers start with.

    Shapes: y and x are those of the operator, with a batch (B, ...).
    """

    def __init__(self, algorithm: str, denoiser: nn.Module, levels: Sequence[float]) -> None:
        super().__init__()
        from deepinv.optim import PnP

        self.net = unfolded(algorithm, PnP(denoiser), levels)

    def forward(self, y: Tensor, operator: LinearOperator) -> Tensor:
        """Reconstructs pictures (B, H, W) from the measurements of an operator."""
        x: Tensor = self.net(as_channels(y) if y.is_complex() else y.unsqueeze(1), operator.to_deepinv())
        return as_complex(x) if y.is_complex() else x.squeeze(1)


class _OfRealChannels(nn.Module):
    """The refined total variation as a denoiser of real pictures (B, 2, H, W), with θ = σ²."""

    def __init__(self, prior: RefinedTotalVariation) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return as_channels(self.prior.prox(as_complex(x), torch.as_tensor(sigma).square()))


def denoising(algorithm: str, seed: int) -> Unfolded:
    """The rival of :func:`denoising_network`: the same denoiser, number of layers and starting noise levels."""
    with seeded(seed):
        return Unfolded(algorithm, HalfSize(1, FEATURES, DEPTH), [NOISE_LEVEL] * LAYERS)


def refining(algorithm: str, seed: int) -> Unfolded:
    """The rival of :func:`refining_network`: the same prior, number of layers and starting thresholds."""
    with seeded(seed):
        prior = RefinedTotalVariation(INNER, FEATURES, DEPTH)
    thetas = [FIRST * (LAST / FIRST) ** (k / (LAYERS - 1)) for k in range(LAYERS)]
    return Unfolded(algorithm, _OfRealChannels(prior), [math.sqrt(theta) for theta in thetas])
