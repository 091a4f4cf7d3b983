"""Every network once more, in plain PyTorch, as the docstrings say it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_rounding = 0.0


@contextmanager
def rounding(size: float) -> Iterator[None]:
    """Iterates and residuals are rounded at random, by ``size`` of what they are: to see what that does."""
    global _rounding
    _rounding, before = size, _rounding
    try:
        yield
    finally:
        _rounding = before


def rounded(x: Tensor) -> Tensor:
    return x * (1 + _rounding * torch.randn_like(x)) if _rounding else x


def product(x: Tensor, A: Tensor) -> Tensor:
    """A x, rounded by what the terms of its sums are: they may cancel, and W of an analytic network then be large."""
    found = x @ A.mT
    return found + _rounding * torch.randn_like(found) * (x.abs() @ A.mT.abs()) if _rounding else found


def largest(size: Tensor, count: int) -> Tensor:
    """Where the ``count`` largest of each row are; of equal ones those with the lower index."""
    order = size.argsort(dim=-1, descending=True, stable=True)
    return torch.zeros_like(size, dtype=torch.bool).scatter(-1, order[..., :count], True)


def shrink(z: Tensor, theta: Tensor, support_size: int = 0) -> Tensor:
    size = z.abs()
    # What is zero stays zero, also where θ is −∞; what is infinite under θ = ∞ is NaN.
    shrunk = torch.sgn(z) * torch.where(size - theta.clamp(min=0) <= 0, 0.0, size - theta)
    return torch.where(largest(size, support_size) & (size > theta), z, shrunk) if support_size else shrunk


def selected(net: Any) -> list[int]:
    """How many pass in each layer."""
    selection = getattr(net, "selection", None)
    if selection is None:
        return [0] * net.layers
    percent, most = selection
    return [round(min(percent * (k + 1), most) / 100 * net.n) for k in range(net.layers)]


def soft_or_bg(s: nn.Module, k: int, r: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """The shrinkage, and its derivative by autograd."""

    def value(r: Tensor) -> Tensor:
        if hasattr(s, "log_alpha"):
            return s.log_scale[k].exp() * shrink(r, s.log_alpha[k].exp() * variance.sqrt())
        power, v = s.log_power[k].exp(), variance.clamp(min=torch.finfo(r.dtype).tiny)
        # log of how likely r is if x is not zero, over how likely it is if x is zero
        odds = s.logit[k] + (v / (power + v)).log() / 2 + r.square() / 2 * (1 / v - 1 / (power + v))
        return torch.sigmoid(odds) * power / (power + v) * r

    r = r if r.requires_grad else r.detach().requires_grad_()
    with torch.enable_grad():
        out = value(r)
        (slope,) = torch.autograd.grad(out.sum(), r, create_graph=True)
    return out, slope


_GAINS = {
    "relu": lambda z: torch.relu(1 - z),
    "inverse": lambda z: 0.2 / (0.001 + z),
    "exponential": lambda z: torch.exp(-z),
    "sigmoid": lambda z: 1 / (1 + torch.exp(z)),
}


def twin(net: Any, y: Tensor, x0: Tensor | None = None) -> Tensor:
    """The output of every layer, (K, ..., n), from the present parameters of ``net``."""
    step = _STEPS[type(net).__name__]
    support_sizes = selected(net)
    x = y.new_zeros(*y.shape[:-1], net.n) if x0 is None else x0
    state: dict[str, Any] = {"before": x, "u": torch.zeros_like(x), "y": y}
    out = []
    for k in range(net.layers):
        x, state["before"] = rounded(step(net, k, y, x, state, support_sizes[k])), x
        out.append(x)
    return torch.stack(out)


def of(values: Any, k: int) -> Any:
    """What belongs to layer k: one entry is for all."""
    return values[min(k, len(values) - 1)]


def _lista(net: Any, k: int, y: Tensor, x: Tensor, state: dict[str, Any], support_size: int) -> Tensor:
    theta = net.theta[k] if hasattr(net, "theta") else net.log_theta[k].exp()
    return shrink(y @ of(net.W1, k).mT + x @ of(net.W2, k).mT, theta, support_size)


def _lfista(net: Any, k: int, y: Tensor, x: Tensor, state: dict[str, Any], support_size: int) -> Tensor:
    v = x + net.beta[k] * (x - state["before"])
    return shrink(y @ of(net.W1, k).mT + v @ of(net.W2, k).mT, net.log_theta[k].exp())


def _gradient_step(net: Any, k: int, y: Tensor, x: Tensor, state: dict[str, Any], support_size: int) -> Tensor:
    z = x + (y - product(x, net.A)) @ of(net.W, k).conj()
    return shrink(z, net.log_theta[k].exp(), support_size)


def _step_lista(net: Any, k: int, y: Tensor, x: Tensor, state: dict[str, Any], support_size: int) -> Tensor:
    t = net.log_step[k].exp()
    return shrink(x - t * ((product(x, net.A) - y) @ net.A.conj()), net.lam * t)


def _one_matrix(net: Any, k: int, y: Tensor, x: Tensor, state: dict[str, Any], support_size: int) -> Tensor:
    z = x + net.log_step[k].exp() * ((y - product(x, net.A)) @ net.W.conj())
    return shrink(z, net.log_theta[k].exp(), support_size)


def _admm_net(net: Any, k: int, y: Tensor, x: Tensor, state: dict[str, Any], support_size: int) -> Tensor:
    A, u = net.A, state["u"]
    if net.solve == "learned":
        W = net.W[k]
    else:
        rho = net.log_rho[k].exp()
        infinite = rho.isinf()  # the limit: W is zero
        W = torch.linalg.solve(A @ A.mH + torch.where(infinite, 1, rho) * torch.eye(net.m, dtype=A.dtype), A)
        W = torch.where(infinite, 0, W)
    z = (x - u) + (y - product(x - u, A)) @ W.conj()
    x = shrink(z + u, net.log_theta[k].exp())
    state["u"] = u + net.log_eta[k].exp() * (z - x)
    return x


def _lamp(net: Any, k: int, y: Tensor, x: Tensor, state: dict[str, Any], support_size: int) -> Tensor:
    v = rounded(y - product(x, net.A) + state.get("correction", 0.0))
    r = x + v @ of(net.W, k).conj()
    variance = v.abs().square().mean(-1, keepdim=True)
    if hasattr(net.shrinkage, "log_alpha"):
        scale = net.shrinkage.log_scale[k].exp()
        deviation = torch.linalg.vector_norm(v, dim=-1, keepdim=True) / net.m**0.5
        x = scale * shrink(r, net.shrinkage.log_alpha[k].exp() * deviation)
        share = scale * (x != 0).sum(-1, keepdim=True).to(v.real) / net.m
    else:
        x, slope = soft_or_bg(net.shrinkage, k, r, variance)
        share = slope.sum(-1, keepdim=True) / net.m
    state["correction"] = share * v
    return x


def _lvamp(net: Any, k: int, y: Tensor, x: Tensor, state: dict[str, Any], support_size: int) -> Tensor:
    s, Ut, Vt, n = net.s, net.Ut, net.Vt, net.n
    r2 = state.get("r2", x)
    v2 = state.get("v2", (y.square().sum(-1, keepdim=True) / s.square().sum()).clamp(1e-9, 1e9))
    c = s * v2 / (s.square() * v2 + net.log_noise[k].exp().clamp(min=1e-8))
    share = ((s * c).sum(-1, keepdim=True) / n).clamp(0.5 / n, 1 - 0.5 / n)
    r1 = rounded(r2 + (c * (y @ Ut.mT - s * (r2 @ Vt.mT))) @ Vt / share)
    v1 = (v2 * (1 - share) / share).clamp(1e-9, 1e9)
    x, slope = soft_or_bg(net.shrinkage, k, r1, v1)
    x, alpha = rounded(x), rounded(slope.mean(-1, keepdim=True)).clamp(0.5 / n, 1 - 0.5 / n)
    state["r2"], state["v2"] = (x - alpha * r1) / (1 - alpha), (v1 * alpha / (1 - alpha)).clamp(1e-9, 1e9)
    return x


def _glista(net: Any, k: int, y: Tensor, x: Tensor, state: dict[str, Any], support_size: int) -> Tensor:
    larger = x * (1 + net.kappa[k] * _GAINS[net.gain](net.log_D[k].exp() * x.abs()))
    theta = net.log_theta[k].exp()
    z = larger + (y - larger @ net.A.mT) @ of(net.W, k)
    found = shrink(z, theta, support_size)
    shrunk = ~(largest(z.abs(), support_size) & (z.abs() > theta))
    o = 1 - net.overshoot[k] * theta * shrunk / ((found - x).abs() + 0.1)
    return o * found + (1 - o) * x


def _hyperlista(net: Any, k: int, y: Tensor, x: Tensor, state: dict[str, Any], support_size: int) -> Tensor:
    A, n = net.A, net.n
    c1, c2, c3 = net.c.abs()
    mu, pinv, r = net.coherence, net.pinv, x @ A.mT - y
    e, e0 = ((t @ pinv.mT).abs().sum(-1, keepdim=True) for t in (r, y))
    z = x - r @ net.W + c2 * mu * (x != 0).sum(-1, keepdim=True) * (x - state["before"])
    share = (c3 * (e0 / e).log()).clamp(0, n).floor().detach()
    count = share.nan_to_num(0).long().reshape(-1)
    flat, theta = (z + 0 * share).reshape(-1, n), (c1 * mu * e).reshape(-1, 1)
    rows = [shrink(a, t, int(p)) for a, t, p in zip(flat, theta, count, strict=True)]
    return torch.stack(rows).reshape(z.shape) if rows else z


_STEPS = {
    "ADMMNet": _admm_net,
    "ALISTA": _one_matrix,
    "GLISTA": _glista,
    "HyperLISTA": _hyperlista,
    "LAMP": _lamp,
    "LFISTA": _lfista,
    "LISTA": _lista,
    "LISTACP": _gradient_step,
    "LISTACPSS": _gradient_step,
    "LISTASS": _lista,
    "LVAMP": _lvamp,
    "StepLISTA": _step_lista,
    "TiLISTA": _one_matrix,
}
