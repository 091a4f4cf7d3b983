"""How LAMP and LVAMP estimate x from x plus Gaussian noise of known variance, with parameters for each layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .. import _checks
from .network import logarithms

_LARGEST = 1e4  # standard deviations, beyond which nothing is more certain


def sigmoid(z: Tensor) -> Tensor:
    """1/(1 + e^−z), to bits that do not depend on the place of z in its tensor, as those of ``torch.sigmoid`` do."""
    return torch.exp(nn.functional.logsigmoid(z))


def bernoulli_gaussian(r: Tensor, variance: Tensor, log_power: Tensor, logit: Tensor) -> tuple[Tensor, Tensor]:
    """E[x | r] and its derivative in r, for r = x + N(0, v) and x that is N(0, power) with probability p, else zero.

    With β = power/(power + v) and q = βr²/v, x is not zero with probability π = sigmoid(logit + ½log(1 − β) + ½q), and
    E[x | r] = πβr. ``variance`` v is (..., 1); ``logit`` is log p/(1 − p). Finite for all finite arguments.
    """
    ratio = log_power - torch.log(variance)
    beta = sigmoid(ratio)
    q = beta * (r / variance.sqrt()).clamp(-_LARGEST, _LARGEST).square()
    present = sigmoid(logit + 0.5 * nn.functional.logsigmoid(-ratio) + 0.5 * q)
    return present * beta * r, beta * (present + present * (1 - present) * q.clamp(max=_LARGEST))


class Shrinkage(nn.Module):
    """A shrinkage for each of K layers."""

    def shrink(self, k: int, r: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """The estimate of layer k and its derivative in r; ``variance`` is (..., 1)."""
        raise NotImplementedError

    def layer(self, k: int) -> dict[str, float]:
        """What layer k has learned."""
        raise NotImplementedError


class SoftShrinkage(Shrinkage):
    """s·S_θ(r) with θ = α·√variance.

    Attributes:
        log_alpha, log_scale: K logarithms of α and s, of shape (1,).
    """

    tensors = "log_alpha", "log_scale"

    def __init__(self, layers: int, like: Tensor, alpha: float) -> None:
        super().__init__()
        self.log_alpha = logarithms([_checks.positive("alpha", alpha)] * layers, like)
        self.log_scale = logarithms([1.0] * layers, like)

    def shrink(self, k: int, r: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        alpha, scale = (log[k].to(r.dtype).exp() for log in (self.log_alpha, self.log_scale))
        theta = alpha * variance.sqrt()
        return scale * torch.sign(r) * torch.relu(r.abs() - theta), scale * (r.abs() > theta).to(r.dtype)

    def layer(self, k: int) -> dict[str, float]:
        return {"threshold": float(self.log_alpha[k].exp()), "gain": float(self.log_scale[k].exp())}


class BernoulliGaussianShrinkage(Shrinkage):
    """:func:`bernoulli_gaussian`.

    Attributes:
        log_power, logit: K logarithms of the power of nonzeros, and of density/(1 − density), of shape (1,).
    """

    def __init__(self, layers: int, like: Tensor, density: float, power: float) -> None:
        super().__init__()
        _checks.real("A", like)
        density = _checks.share("density", density, below_one=True)
        logit = like.new_tensor([math.log(density / (1 - density))])
        self.log_power = logarithms([_checks.positive("power", power)] * layers, like)
        self.logit = nn.ParameterList(nn.Parameter(logit.clone()) for _ in range(layers))

    def shrink(self, k: int, r: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        return bernoulli_gaussian(r, variance, self.log_power[k].to(r.dtype), self.logit[k].to(r.dtype))

    def layer(self, k: int) -> dict[str, float]:
        return {"power": float(self.log_power[k].exp()), "density": float(torch.sigmoid(self.logit[k]))}


def shrinkage_of(
    kind: str, layers: int, like: Tensor, alpha: float, density: float, power: float
) -> SoftShrinkage | BernoulliGaussianShrinkage:
    _checks.choice("shrinkage", kind, ("soft", "bernoulli-gaussian"))
    if kind == "soft":
        return SoftShrinkage(layers, like, alpha)
    return BernoulliGaussianShrinkage(layers, like, density, power)
