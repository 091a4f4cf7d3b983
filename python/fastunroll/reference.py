"""Every operation in plain PyTorch: the specification, the oracle of the tests, and the fallback without kernels.

Samples come first: ``y`` is (..., m), ``x`` is (..., n), ``A`` is (m, n).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


LinearStep = Callable[[Tensor], Tensor]  # z of v
ProximalStep = Callable[..., Tensor]  # gain·prox_θ(z) of z, with the threshold θ·scale for prox(z, scale)


def fista_layer(
    x: Tensor, before: Tensor, beta: Tensor, linear: LinearStep, prox: ProximalStep
) -> tuple[Tensor, Tensor]:
    """One layer of FISTA: x⁺, and the iterate before it."""
    return prox(linear(x + beta * (x - before))), x


def admm_layer(x: Tensor, dual: Tensor, eta: Tensor, linear: LinearStep, prox: ProximalStep) -> tuple[Tensor, Tensor]:
    """One layer of ADMM: x⁺, and the scaled dual variable after it."""
    z = linear(x - dual)
    x = prox(z + dual)
    return x, dual + eta * (z - x)


def amp_layer(
    x: Tensor, correction: Tensor, residual: LinearStep, along: Callable[[Tensor, Tensor], Tensor],
    prox: ProximalStep, gain: Tensor | float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """One layer of AMP: x⁺, and the Onsager correction of the next residual.

    residual: y − A x of x. along: x + Wᴴr of x and r.
    """
    r = residual(x) + correction
    m = r.shape[-1]
    x = prox(along(x, r), norm(r) / m**0.5)
    count = (x != 0).sum(dim=-1, keepdim=True).to(r.real.dtype)
    return x, gain * count / m * r


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

    def layer(k: int, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        scale_of_prox = of(gain, k) if gain else 1.0

        def residual(v: Tensor) -> Tensor:
            return y - v @ of(W1, k).mT

        def along(v: Tensor, r: Tensor) -> Tensor:
            r = of(step, k) * r if step else r
            return v + (r if linear == "gram" else r @ of(W2 or W1, k).conj())

        def linear_step(v: Tensor) -> Tensor:
            return y @ of(W1, k).mT + v @ of(W2, k).mT if linear == "affine" else along(v, residual(v))

        def prox_step(z: Tensor, scale: Tensor | float = 1.0) -> Tensor:
            t = of(theta, k) * scale if theta else z.real.new_zeros(())
            return proximal_step(z, prox, t, scale_of_prox, group, support_sizes[k] if support_sizes else 0)

        if scheme == "fista":
            return fista_layer(x, s, of(beta, k), linear_step, prox_step)
        if scheme == "admm":
            return admm_layer(x, s, of(beta, k), linear_step, prox_step)
        if scheme == "amp":
            return amp_layer(x, s, residual, along, prox_step, scale_of_prox)
        return prox_step(linear_step(x)), s

    x, s, iterates = x0, s0, []
    if s is None:
        s = x0 if scheme == "fista" else torch.zeros_like(y) if scheme == "amp" else torch.zeros_like(x0)
    for k in range(layers):
        x, s = layer(k, x, s)
        iterates.append(x)
    return torch.stack(iterates), s
