"""Layers and solvers in plain PyTorch, from their formulas: independent of what they check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from twins import largest, of, rounded, shrink


def _prox(z: Tensor, kind: str, theta: Tensor | None, group: int, support_size: int) -> Tensor:
    if kind == "identity":
        return z
    assert theta is not None
    if support_size:
        theta = theta.clamp(min=0)
    if kind == "nonnegative":
        kept = (
            largest(torch.relu(z), support_size) & (z > theta)
            if support_size
            else torch.zeros_like(z, dtype=torch.bool)
        )
        return torch.where(kept, z, torch.relu(z - theta))
    if group == 1:
        return shrink(z, theta, support_size)
    groups = z.unflatten(-1, (-1, group))
    size = torch.linalg.vector_norm(groups, dim=-1)
    # A group without length has no direction. It becomes zero, by a constant: under a negative θ, which makes others
    # longer, there is no derivative at such a point, and 0 is what the specification takes for it.
    zero = size - theta.clamp(min=0) <= 0
    unit = groups / torch.where(size == 0, 1.0, size)[..., None]
    shrunk = torch.where(zero[..., None], 0.0, unit * (size - theta)[..., None])
    kept = largest(size, support_size) & (size > theta)
    return torch.where(kept[..., None], groups, shrunk).flatten(-2)


def network(
    y: Tensor,
    linear: str,
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    step: Sequence[Tensor],
    kind: str,
    theta: Sequence[Tensor],
    gain: Sequence[Tensor],
    group: int,
    support_sizes: Sequence[int],
    scheme: str,
    beta: Sequence[Tensor],
    x0: Tensor | None,
    s0: Tensor | None,
    layers: int,
) -> tuple[Tensor, Tensor | None]:
    """Returns the outputs of all layers and the last second state. The Gram matrix multiplies out the gradient step."""
    n = first[0].shape[0] if linear == "affine" else first[0].shape[1]
    x = y.new_zeros(*y.shape[:-1], n) if x0 is None else x0
    s: Any = s0
    if s is None:
        s = {"fista": x, "admm": torch.zeros_like(x), "amp": torch.zeros_like(y)}.get(scheme)
    out = []
    for k in range(layers):
        v = x + of(beta, k) * (x - s) if scheme == "fista" else x - s if scheme == "admm" else x
        scale, residual = 1.0, y
        if linear == "affine":
            z = y @ of(first, k).mT + v @ of(second, k).mT
        else:
            residual = y - v @ of(first, k).mT
            if scheme == "amp":
                residual = residual + s
                scale = torch.linalg.vector_norm(residual, dim=-1, keepdim=True) / y.shape[-1] ** 0.5
            W = of(second or first, k).conj()
            if linear == "gram":
                moved = y @ W - v @ (of(first, k).mT @ W)  # by the Gram matrix: infinities meet in another order
                z = v + (of(step, k) * moved if step else moved)
            else:
                z = v + (of(step, k) * residual if step else residual) @ W
        g = of(gain, k) if gain else 1.0
        t = of(theta, k) * scale if theta else None
        z = rounded(z)  # ADMM adds s to it, which may cancel
        found = g * _prox(z + s if scheme == "admm" else z, kind, t, group, support_sizes[k] if support_sizes else 0)
        before, x = x, rounded(found)
        if scheme == "fista":
            s = before
        elif scheme == "admm":
            s = s + of(beta, k) * (z - x)
        elif scheme == "amp":
            s = g * (x != 0).sum(-1, keepdim=True).to(residual.real) / y.shape[-1] * residual
        out.append(x)
    return torch.stack(out), s


def momentum(iterations: int) -> list[float]:
    """That of FISTA."""
    found, t = [], 1.0
    for k in range(iterations):
        after = (1 + (1 + 4 * t * t) ** 0.5) / 2
        found.append(0.0 if k == 0 else (t - 1) / after)
        t = t if k == 0 else after
    return found


def proximal_gradient(
    A: Tensor, y: Tensor, lam: Tensor, step: Tensor, x0: Tensor | None, betas: Sequence[float], nonnegative: bool
) -> Tensor:
    x = y.new_zeros(*y.shape[:-1], A.shape[1]) if x0 is None else x0
    x = before = torch.relu(x) if nonnegative else x
    for beta in betas:
        v = x + beta * (x - before)
        z, theta = v - step * ((v @ A.mT - y) @ A.conj()), lam * step
        x, before = rounded(torch.relu(z - theta) if nonnegative else shrink(z, theta)), x
    return x


def admm(A: Tensor, y: Tensor, lam: Tensor, rho: Tensor, relaxation: float, iterations: int) -> Tensor:
    n = A.shape[1]
    z = u = y.new_zeros(*y.shape[:-1], n)
    inverse = torch.linalg.inv(A.mH @ A + rho * torch.eye(n, dtype=A.dtype))
    for _ in range(iterations):
        x = (y @ A.conj() + rho * (z - u)) @ inverse.mT
        v = relaxation * x + (1 - relaxation) * z + u
        z = rounded(shrink(v, lam / rho))
        u = v - z
    return z


def primal_dual(
    A: Tensor, y: Tensor, lam: Tensor, tau: Tensor, sigma: Tensor, omega: float, x0: Tensor | None, iterations: int
) -> Tensor:
    x = y.new_zeros(*y.shape[:-1], A.shape[1]) if x0 is None else x0
    u = sigma / (1 + sigma) * (x @ A.mT - y)
    for _ in range(iterations):
        before, x = x, rounded(shrink(x - tau * (u @ A.conj()), lam * tau))
        u = (u + sigma * ((x + omega * (x - before)) @ A.mT - y)) / (1 + sigma)
    return x


def amp(A: Tensor, y: Tensor, alpha: Tensor, damping: float, iterations: int) -> Tensor:
    m, n = A.shape
    x, v = y.new_zeros(*y.shape[:-1], n), y
    for _ in range(iterations):
        new = shrink(x + v @ A, alpha * torch.linalg.vector_norm(v, dim=-1, keepdim=True) / m**0.5)
        x = rounded(x + damping * (new - x))
        v = v + damping * (y - x @ A.mT + (new != 0).to(v).sum(-1, keepdim=True) / m * v - v)
    return x


def gap(
    x: Tensor, y: Tensor, A: Tensor, lam: Tensor, weights: Tensor | None = None, nonnegative: bool = False,
    ridge: float = 0.0,
) -> Tensor:  # fmt: skip
    """The relative duality gap of the Lasso at x, with λ (...): ridge is further rows of A, weights scale columns.

    The dual point is the residual, or that of zero, made shorter until it is feasible: the better of the two.
    """
    if ridge:
        n = A.shape[1]
        A = torch.cat([A, ridge**0.5 * torch.eye(n, dtype=A.dtype)])
        y = torch.cat([y, y.new_zeros(*y.shape[:-1], n)], dim=-1)
    if weights is not None:
        A, x = A / weights, x * weights
    power, residual = y.abs().square().sum(-1) / 2, y - x @ A.mT

    def dual(R: Tensor) -> Tensor:
        slope, square = R @ A.conj(), R.abs().square().sum(-1)
        steep = (torch.relu(slope) if nonnegative else slope.abs()).amax(-1)
        best = torch.where(square > 0, (R.conj() * y).real.sum(-1) / square, 0.0).clamp(min=0)
        scale = torch.minimum(best, torch.where(steep > 0, lam / steep, torch.inf))
        return power - (y - scale[..., None] * R).abs().square().sum(-1) / 2

    primal = residual.abs().square().sum(-1) / 2 + lam * x.abs().sum(-1)
    return (primal - torch.maximum(dual(residual), dual(y))) / torch.where(power > 0, power, 1.0)


def lasso_on_support(x: Tensor, A: Tensor, y: Tensor, lam: Tensor, weights: Tensor | None, ridge: float) -> Tensor:
    """The solution as a function of A, y, λ and weights near where its support and signs are those of x: (B, n)."""
    rows = []
    for i in range(len(x)):
        S = x[i].nonzero()[:, 0]
        B = A[:, S]
        w = torch.ones_like(x[i]) if weights is None else weights
        right = B.mT @ y[i] - lam[i] * w[S] * x[i][S].sign()
        values = torch.linalg.solve(B.mT @ B + ridge * torch.eye(len(S), dtype=A.dtype), right)
        rows.append(torch.zeros_like(x[i]).index_copy(0, S, values))
    return torch.stack(rows)
