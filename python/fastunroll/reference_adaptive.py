"""Networks whose layers follow statistics of each sample, in plain PyTorch: the specification of the kernels.

Samples come first: ``y`` is (..., m), ``x`` is (..., n). ``values`` has a row of numbers for each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import reference

GAINS: dict[str, Callable[[Tensor], Tensor]] = {  # of D|x|
    "relu": lambda z: torch.relu(1 - z),
    "inverse": lambda z: 0.2 / (0.001 + z),
    "exponential": lambda z: torch.exp(-z),
    "sigmoid": lambda z: torch.sigmoid(-z),
}
LEAST_VARIANCE, MOST_VARIANCE = 1e-9, 1e9
_LARGEST = 1e4  # standard deviations, beyond which nothing is more certain


def network(
    form: Any, y: Tensor, matrices: Sequence[Tensor], values: Tensor, x0: Tensor | None, *, whole: bool = True
) -> Tensor:
    """The output of every layer: (K, ..., n).

    form: an :class:`fastunroll.ops.AdaptiveSpec`. whole: whether support selection of HyperLISTA orders all
    magnitudes of a sample, as is needed where values are not known yet.
    """
    x = y.new_zeros(*y.shape[:-1], matrices[1].shape[1]) if x0 is None else x0
    first, *others = matrices
    layers: dict[str, Callable[[], Iterator[Tensor]]] = {
        "glista": lambda: glista(y, x, first, others, values, form.support_sizes, form.gate),
        "hyperlista": lambda: hyperlista(y, x, first, *others, values=values, whole=whole),
        "lamp": lambda: lamp(y, x, first, others, values, form.prox == "soft"),
        "lvamp": lambda: lvamp(y, x, first, *others, values=values, soft=form.prox == "soft"),
    }
    return torch.stack([*layers[form.scheme]()])


def glista(
    y: Tensor, x: Tensor, A: Tensor, W: Sequence[Tensor], values: Tensor, support_sizes: Sequence[int], gain: str
) -> Iterator[Tensor]:
    """Layers of GLISTA; ``values`` are θ, one or n of them, D, κ and a."""
    for k, row in enumerate(values):
        theta, (D, kappa, a) = row[:-3], row[-3:]
        larger = x * (1 + kappa * GAINS[gain](D * x.abs()))
        r = y - reference.product(larger, A)
        z = reference.product(r, W[min(k, len(W) - 1)], adjoint=True, start=larger)
        count = support_sizes[k] if support_sizes else 0
        size = z.detach().abs()
        passed = reference.largest(size, count) & (size > theta.detach())
        found = reference.proximal_step(z, "soft", theta, 1.0, 1, count)
        overshoot = 1 - a * theta * ~passed / ((found - x).abs() + 0.1)
        x = overshoot * found + (1 - overshoot) * x
        yield x


def hyperlista(
    y: Tensor, x: Tensor, A: Tensor, W: Tensor, pinv: Tensor, *, values: Tensor, whole: bool
) -> Iterator[Tensor]:
    """Layers of HyperLISTA; ``values`` are c₁μ, c₂μ and c₃."""
    at_start = _magnitude(reference.product(y, pinv))
    before = x
    for c1, c2, c3 in values:
        r = reference.product(x, A, start=-y)
        error = _magnitude(reference.product(r, pinv))
        gained = torch.log((at_start / error).detach()).nan_to_num(0.0)  # finite; 0 for 0/0
        count = (c3.detach() * gained).clamp(0, x.shape[-1]).floor()
        momentum = c2 * (x != 0).sum(-1, keepdim=True).to(x.dtype)
        z = x - reference.product(r, W, adjoint=True) + momentum * (x - before)
        theta = (c1 * error).to(x.dtype)
        selected = _select(z, theta, count.nan_to_num(0.0).long(), whole)
        x, before = torch.where(count.isnan(), count.to(x.dtype), selected), x
        yield x


def _magnitude(t: Tensor) -> Tensor:
    """‖t‖₁ of each sample, (..., 1), in double precision, where a sum of large numbers does not overflow."""
    return t.abs().sum(-1, keepdim=True, dtype=torch.float64)


def _select(z: Tensor, theta: Tensor, count: Tensor, whole: bool) -> Tensor:
    """The soft threshold that lets the ``count`` largest pass, (..., 1) of a sample's own, and all that equal them."""
    size, n = z.detach().abs(), z.shape[-1]
    most = n if whole or not count.numel() else max(1, int(count.max()))
    ordered = size.topk(most, dim=-1).values
    least = torch.where(count > 0, ordered.gather(-1, (count - 1).clamp(min=0)), torch.inf)
    passes = (size >= least) & (size > theta.detach())
    return torch.where(passes, z, torch.sign(z) * torch.relu(z.abs() - theta))


def lamp(y: Tensor, x: Tensor, A: Tensor, W: Sequence[Tensor], values: Tensor, soft: bool) -> Iterator[Tensor]:
    """Layers of LAMP; ``values`` are those of the shrinkage."""
    v = y - reference.product(x, A)
    for k, row in enumerate(values):
        r = reference.product(v, W[min(k, len(W) - 1)], adjoint=True, start=x)
        variance = v.square().mean(-1, keepdim=True).clamp(min=LEAST_VARIANCE)
        x, slope = shrink(r, variance, row, soft)
        yield x
        v = y - reference.product(x, A) + slope.sum(-1, keepdim=True) / y.shape[-1] * v


def lvamp(y: Tensor, x: Tensor, Ut: Tensor, Vt: Tensor, s: Tensor, *, values: Tensor, soft: bool) -> Iterator[Tensor]:
    """Layers of LVAMP; ``values`` are the variance of the noise and those of the shrinkage."""
    n, least, s = x.shape[-1], 0.5 / x.shape[-1], s.reshape(-1)
    bounds = LEAST_VARIANCE, MOST_VARIANCE
    seen = reference.product(y, Ut)
    r2, v2 = x, (y.square().sum(-1, keepdim=True) / s.square().sum()).clamp(*bounds)
    for row in values:
        c = s * v2 / (s.square() * v2 + row[0])
        share = ((s * c).sum(-1, keepdim=True) / n).clamp(least, 1 - least)  # 1 - alpha_2
        residual = c * (seen - s * reference.product(r2, Vt)) / share
        r1 = reference.product(residual, Vt, adjoint=True, start=r2)
        v1 = (v2 * (1 - share) / share).clamp(*bounds)
        x, slope = shrink(r1, v1, row[1:], soft)
        yield x
        alpha = slope.mean(-1, keepdim=True).clamp(least, 1 - least)
        r2 = (x - alpha * r1) / (1 - alpha)
        v2 = (v1 * alpha / (1 - alpha)).clamp(*bounds)


def shrink(r: Tensor, variance: Tensor, values: Tensor, soft: bool) -> tuple[Tensor, Tensor]:
    """The estimate of x from r = x + N(0, v), and its derivative in r; ``variance`` v is (..., 1)."""
    if not soft:
        return bernoulli_gaussian(r, variance, *values)
    alpha, scale = values
    theta = alpha * variance.sqrt()
    return scale * torch.sign(r) * torch.relu(r.abs() - theta), scale * (r.abs() > theta).to(r.dtype)


def bernoulli_gaussian(r: Tensor, variance: Tensor, log_power: Tensor, logit: Tensor) -> tuple[Tensor, Tensor]:
    """E[x | r] and its derivative in r, for r = x + N(0, v) and x that is N(0, power) with probability p, else zero.

    With β = power/(power + v) and q = βr²/v, x is not zero with probability π = sigmoid(logit + ½log(1 − β) + ½q), and
    E[x | r] = πβr. ``variance`` v is (..., 1); ``logit`` is log p/(1 − p). Finite for all finite arguments.
    """
    ratio = log_power - torch.log(variance)
    beta = torch.sigmoid(ratio)
    q = beta * (r / variance.sqrt()).clamp(-_LARGEST, _LARGEST).square()
    present = torch.sigmoid(logit + 0.5 * nn.functional.logsigmoid(-ratio) + 0.5 * q)
    return present * beta * r, beta * (present + present * (1 - present) * q.clamp(max=_LARGEST))
