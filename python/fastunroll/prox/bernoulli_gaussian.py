"""The conditional mean of Bernoulli–Gaussian numbers, given their sum with Gaussian noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .. import _checks, reference_adaptive
from .proximal import Proximal


class BernoulliGaussian(Proximal):
    """E[x | z] for z = x + N(0, θ), where x is N(0, power) with probability ``density``, and else zero.

    θ > 0 is the variance of the noise. The estimate has the least mean square error. It takes the place of a proximal
    operator, as in AMP, although it is none of a function of x alone.

    With β = power/(power + θ), x is not zero with probability
    π = sigmoid(log(density/(1 − density)) + ½·log(1 − β) + ½·β·z²/θ), and E[x | z] = π·β·z.

    Args:
        density: share of nonzeros, in (0, 1).
        power: their variance, > 0.

    Attributes:
        log_power, logit: parameters of shape (1,), which are learned.

    Raises:
        TypeError: z is complex.
        ValueError: a number is out of its range.

    Equivalent to: :func:`fastunroll.reference_adaptive.bernoulli_gaussian`.

    Reference: Borgerding, Schniter and Rangan, *AMP-inspired deep networks for sparse linear inverse problems*, 2017.
    """

    def __init__(self, density: float = 0.1, power: float = 1.0) -> None:
        super().__init__()
        density, power = _checks.share("density", density, below_one=True), _checks.positive("power", power)
        self.log_power = nn.Parameter(torch.tensor([math.log(power)]))
        self.logit = nn.Parameter(torch.tensor([math.log(density / (1 - density))]))

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        _checks.real("z", z)
        numbers = self.log_power.to(z), self.logit.to(z)
        return reference_adaptive.bernoulli_gaussian(z, torch.as_tensor(theta).to(z), *numbers)[0]
