"""Every operation in plain PyTorch: the specification, the oracle of the tests, and what runs where no kernel does.

Samples come first: ``y`` is (..., m), ``x`` is (..., n), ``A`` is (m, n).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def soft_threshold(x: Tensor, theta: Tensor) -> Tensor:
    """S_θ(x) = sign(x)·max(|x| − θ, 0), with sign(x) = x/|x| for complex x.

    What is zero, or not above θ, becomes zero under any θ: for 0 under −∞ the formula alone would give 0·∞.
    """
    size = x.abs()
    moved = size - theta
    zero = size - theta.clamp(min=0) <= 0
    return torch.sgn(x) * torch.where(zero, torch.zeros_like(moved), moved)


def product(x: Tensor, A: Tensor, *, adjoint: bool = False, start: Tensor | None = None) -> Tensor:
    """A x for each sample, or Aᴴ x, added to ``start``."""
    out = x @ (A.conj() if adjoint else A.mT)
    return out if start is None else start + out


def outer(g: Tensor, x: Tensor) -> Tensor:
    """The sum over samples of g xᵀ."""
    return g.mT @ x


def gradient_step(x: Tensor, y: Tensor, A: Tensor, step: Tensor) -> Tensor:
    """x − step·Aᴴ(A x − y)."""
    return x - step * product(product(x, A, start=-y), A, adjoint=True)


def ista_step(x: Tensor, y: Tensor, A: Tensor, step: Tensor, theta: Tensor) -> Tensor:
    """S_θ(x − step·Aᴴ(A x − y))."""
    return soft_threshold(gradient_step(x, y, A, step), theta)


def ista(y: Tensor, A: Tensor, x0: Tensor, step: Tensor, theta: Tensor, momentum: Sequence[float]) -> Tensor:
    """All iterates of x⁺ = S_θ(v − step·Aᴴ(A v − y)), v = x + β(x − x_before): (iterations, ..., n)."""
    x = before = x0
    iterates = []
    for beta in momentum:
        x, before = ista_step(x + beta * (x - before), y, A, step, theta), x
        iterates.append(x)
    return torch.stack(iterates)


def lista(
    y: Tensor, w1: Sequence[Tensor], w2: Sequence[Tensor], theta: Sequence[Tensor], x0: Tensor, layers: int
) -> Tensor:
    """All layers of x⁺ = S_θ(W₁ y + W₂ x): (layers, ..., n). A list of one matrix is shared by all layers."""
    x = x0
    iterates = []
    for k in range(layers):
        a, b, t = (p[min(k, len(p) - 1)] for p in (w1, w2, theta))
        x = soft_threshold(y @ a.mT + x @ b.mT, t)
        iterates.append(x)
    return torch.stack(iterates)


def largest(magnitude: Tensor, count: int) -> Tensor:
    """Where the ``count`` largest of each row are; of equal ones those with the lower index."""
    order = magnitude.argsort(dim=-1, descending=True, stable=True)
    return torch.zeros_like(magnitude).scatter(-1, order[..., :count], 1).bool()  # torch.jit traces no scatter of True


def prox(z: Tensor, kind: str, theta: Tensor, gain: Tensor | float, group: int, passing: int) -> Tensor:
    """gain·P(z). P shrinks the magnitude of ``group`` neighbours by θ, but for the ``passing`` largest."""
    if kind == "none":
        return gain * z
    if kind == "nonnegative" and not passing:
        return gain * torch.relu(z - theta)
    groups = z.unflatten(-1, (-1, group))
    size = groups.abs()[..., 0] if group == 1 else groups.norm(dim=-1)
    if kind == "nonnegative":
        size = groups[..., 0]
    if passing:
        theta = theta.clamp(min=0)
    # A size up to theta becomes zero; a NaN in either shows, and so does an infinite size under an infinite theta.
    zero = size - theta.clamp(min=0) <= 0
    if group == 1 and not z.is_complex():
        unit = torch.sgn(groups)
    else:
        unit = groups / torch.where(zero, torch.ones_like(size), size).unsqueeze(-1)
    kept = (size > theta) & largest(size.relu(), passing) if passing else torch.zeros_like(zero)
    shrunk = torch.where(kept.unsqueeze(-1), groups, unit * (size - theta).unsqueeze(-1))
    return gain * torch.where(zero.unsqueeze(-1), torch.zeros_like(shrunk), shrunk).flatten(-2)


def norm(x: Tensor) -> Tensor:
    """‖x‖₂ of each row, (..., 1), without overflow or underflow of its squares."""
    double = torch.complex128 if x.is_complex() else torch.float64
    if x.dtype != double:
        return torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=double).to(x.real.dtype)
    largest = x.detach().abs().amax(-1, keepdim=True)
    scale = torch.where((largest > 0) & largest.isfinite(), largest, torch.ones_like(largest))
    return scale * torch.linalg.vector_norm(x / scale, dim=-1, keepdim=True)


def network(
    y: Tensor,
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    step: Sequence[Tensor],
    theta: Sequence[Tensor],
    gain: Sequence[Tensor],
    blend: Sequence[Tensor],
    x0: Tensor,
    s0: Tensor | None,
    *,
    layers: int,
    linear: str,
    state: str,
    shrinkage: str,
    group: int,
    passing: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """All layers of any network, (layers, ..., n), and the second state after the last.

    A list of one entry is shared by all layers, and one without entries is left out. ``linear`` is "direct", "coupled",
    or "gram", coupled by the identity: ``first`` is then WᴴA, and y is Wᴴy, of n values. ``state`` is what the
    second state s is: "none"; "momentum", the iterate before; "splitting", the dual variable; "onsager", the
    correction.
    """

    def of(values: Sequence[Tensor], k: int) -> Tensor:
        return values[min(k, len(values) - 1)]

    gain, blend = ([*v[0]] if len(v) == 1 and v[0].numel() > 1 else v for v in (gain, blend))

    x, iterates = x0, []
    s = s0
    if s is None:
        s = x0 if state == "momentum" else torch.zeros_like(y) if state == "onsager" else torch.zeros_like(x0)
    for k in range(layers):
        v = x
        if state == "momentum":
            v = x + of(blend, k) * (x - s)
        elif state == "splitting":
            v = x - s
        scale: Tensor | float = 1.0
        residual = y
        if linear != "direct":
            residual = y - v @ of(first, k).mT
            if state == "onsager":
                residual = residual + s
                scale = norm(residual) / y.shape[-1] ** 0.5
            stepped = of(step, k) * residual if step else residual
            z = v + (stepped if linear == "gram" else stepped @ of(second or first, k).conj())
        else:
            z = y @ of(first, k).mT + v @ of(second, k).mT
        before, g = x, of(gain, k) if gain else 1.0
        t = of(theta, k) * scale if theta else z.real.new_zeros(())
        x = prox(z + s if state == "splitting" else z, shrinkage, t, g, group, passing[k] if passing else 0)
        if state == "momentum":
            s = before
        elif state == "splitting":
            s = s + of(blend, k) * (z - x)
        elif state == "onsager":
            count = (x != 0).sum(dim=-1, keepdim=True).to(residual.real.dtype)
            s = g * count / y.shape[-1] * residual
        iterates.append(x)
    return torch.stack(iterates), s
