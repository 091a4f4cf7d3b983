"""The shrinkage of LAMP and LVAMP, which estimates x from x plus Gaussian noise of known variance."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .. import _checks
from .adaptive import rows_of
from .network import logarithms


class Shrinkage(nn.Module):
    """A shrinkage for each of K layers: :func:`fastunroll.reference_adaptive.shrink`.

    Attributes:
        prox: its name for the kernels.
    """

    prox: str

    def values(self, depth: int) -> Tensor:
        """Returns the two numbers of each of the first layers, (depth, 2)."""
        raise NotImplementedError

    def layer(self, k: int) -> dict[str, float]:
        """Returns the parameters of layer k by name."""
        raise NotImplementedError


class SoftShrinkage(Shrinkage):
    """The soft threshold s·S_θ(r) with θ = α·√variance.

    Attributes:
        log_alpha, log_scale: K logarithms of α and s, of shape (1,).
    """

    tensors = "log_alpha", "log_scale"
    prox = "soft"

    def __init__(self, layers: int, like: Tensor, alpha: float) -> None:
        super().__init__()
        self.log_alpha = logarithms([_checks.positive("alpha", alpha)] * layers, like)
        self.log_scale = logarithms([1.0] * layers, like)

    def values(self, depth: int) -> Tensor:
        return rows_of(depth, self.log_alpha, self.log_scale, exponential=2)

    def layer(self, k: int) -> dict[str, float]:
        return {"threshold": float(self.log_alpha[k].exp()), "gain": float(self.log_scale[k].exp())}


class BernoulliGaussianShrinkage(Shrinkage):
    """The conditional mean of a Bernoulli–Gaussian signal, :func:`fastunroll.reference_adaptive.bernoulli_gaussian`.

    Attributes:
        log_power, logit: K logarithms of the power of nonzeros, and of density/(1 − density), of shape (1,).
    """

    tensors = "log_power", "logit"
    prox = "bernoulli_gaussian"

    def __init__(self, layers: int, like: Tensor, density: float, power: float) -> None:
        super().__init__()
        _checks.real("A", like)
        density = _checks.share("density", density, below_one=True)
        logit = like.new_tensor([math.log(density / (1 - density))])
        self.log_power = logarithms([_checks.positive("power", power)] * layers, like)
        self.logit = nn.ParameterList(nn.Parameter(logit.clone()) for _ in range(layers))

    def values(self, depth: int) -> Tensor:
        return rows_of(depth, self.log_power, self.logit)

    def layer(self, k: int) -> dict[str, float]:
        return {"power": float(self.log_power[k].exp()), "density": float(torch.sigmoid(self.logit[k]))}


def shrinkage_of(
    kind: str, layers: int, like: Tensor, alpha: float, density: float, power: float
) -> SoftShrinkage | BernoulliGaussianShrinkage:
    _checks.choice("shrinkage", kind, ("soft", "bernoulli-gaussian"))
    if kind == "soft":
        return SoftShrinkage(layers, like, alpha)
    return BernoulliGaussianShrinkage(layers, like, density, power)
