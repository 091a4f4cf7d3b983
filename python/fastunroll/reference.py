"""Every operation in plain PyTorch: the specification, the oracle of the tests, and what runs where there is no kernel.

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


def proximal_step(z: Tensor, prox: str, theta: Tensor, gain: Tensor | float, group: int, support_size: int) -> Tensor:
    """gain·P(z). P shrinks the magnitude of ``group`` neighbours by θ, but for the ``support_size`` largest."""
    if prox == "identity":
        return gain * z
    if prox == "nonnegative" and not support_size:
        return gain * torch.relu(z - theta)
    groups = z.unflatten(-1, (-1, group))
    size = groups.abs()[..., 0] if group == 1 else groups.norm(dim=-1)
    if prox == "nonnegative":
        size = groups[..., 0]
    if support_size:
        theta = theta.clamp(min=0)
    # A size up to theta becomes zero; a NaN in either shows, and so does an infinite size under an infinite theta.
    zero = size - theta.clamp(min=0) <= 0
    if group == 1 and not z.is_complex():
        unit = torch.sgn(groups)
    else:
        unit = groups / torch.where(zero, torch.ones_like(size), size).unsqueeze(-1)
    kept = (size > theta) & largest(size.relu(), support_size) if support_size else torch.zeros_like(zero)
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
    W1: Sequence[Tensor],
    W2: Sequence[Tensor],
    step: Sequence[Tensor],
    theta: Sequence[Tensor],
    gain: Sequence[Tensor],
    beta: Sequence[Tensor],
    x0: Tensor,
    s0: Tensor | None,
    *,
    layers: int,
    linear: str,
    scheme: str,
    prox: str,
    group: int = 1,
    support_sizes: Sequence[int] = (),
) -> tuple[Tensor, Tensor]:
    """All layers of any network, (layers, ..., n), and the second state after the last.

    All layers share a list with one entry; a list without entries is left out.

    ``linear`` is the linear step: ``"affine"`` is z = W1 y + W2 v; ``"gradient"`` is z = v + Wᴴ(step ∘ (y − A v)),
    where W1 is A, and W2 is W, or A if the list is empty; ``"gram"`` is z = v + step ∘ (y − G v), where W1 is G = WᴴA,
    and y stands for Wᴴy. ``scheme`` is ``"proximal_gradient"``, which has no second state; ``"fista"``, whose second
    state is the iterate before; ``"admm"``, the scaled dual variable; or ``"amp"``, the Onsager correction. ``prox`` is
    ``"identity"``, ``"soft"`` or ``"nonnegative"``. ``beta`` is the momentum β of FISTA, or the relaxation η of ADMM.
    ``support_sizes`` says for each layer how many of the largest stay unshrunk.
    """

    def of(values: Sequence[Tensor], k: int) -> Tensor:
        return values[min(k, len(values) - 1)]

    gain, beta = ([*v[0]] if len(v) == 1 and v[0].numel() > 1 else v for v in (gain, beta))

    x, iterates = x0, []
    s = s0
    if s is None:
        s = x0 if scheme == "fista" else torch.zeros_like(y) if scheme == "amp" else torch.zeros_like(x0)
    for k in range(layers):
        v = x
        if scheme == "fista":
            v = x + of(beta, k) * (x - s)
        elif scheme == "admm":
            v = x - s
        scale: Tensor | float = 1.0
        residual = y
        if linear != "affine":
            residual = y - v @ of(W1, k).mT
            if scheme == "amp":
                residual = residual + s
                scale = norm(residual) / y.shape[-1] ** 0.5
            stepped = of(step, k) * residual if step else residual
            z = v + (stepped if linear == "gram" else stepped @ of(W2 or W1, k).conj())
        else:
            z = y @ of(W1, k).mT + v @ of(W2, k).mT
        before, g = x, of(gain, k) if gain else 1.0
        t = of(theta, k) * scale if theta else z.real.new_zeros(())
        support_size = support_sizes[k] if support_sizes else 0
        x = proximal_step(z + s if scheme == "admm" else z, prox, t, g, group, support_size)
        if scheme == "fista":
            s = before
        elif scheme == "admm":
            s = s + of(beta, k) * (z - x)
        elif scheme == "amp":
            count = (x != 0).sum(dim=-1, keepdim=True).to(residual.real.dtype)
            s = g * count / y.shape[-1] * residual
        iterates.append(x)
    return torch.stack(iterates), s
