"""The specification of layers over pictures, in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from ..reference import admm_layer
from ..reference_pictures import continued, folded, proximal_step
from ..reference_wavelets import shrink_details
from .conjugate_gradients import solution
from .cpu.pictures import PictureLayers
from .spectral import coil_normal, fourier_diagonal, fourier_normal


def plain_picture_layers(p: PictureLayers) -> Tensor:
    """The specification of :func:`fastunroll.ops.picture_layers`. Returns every layer."""
    return plain_layers_and_state(p)[0]


def plain_layers_and_state(p: PictureLayers) -> tuple[Tensor, Tensor]:
    """Every layer, and the second state after the last one."""
    x, layers = torch.zeros_like(p.z) if p.x0 is None else p.x0, []
    s = _second_state(p, x) if p.s0 is None else p.s0
    for k in range(len(p.step)):
        x, s = _layer(p, k, x, s)
        layers.append(x)
    return torch.stack(layers), s


def _second_state(p: PictureLayers, x: Tensor) -> Tensor:
    """The iterate before x0, or the dual variable."""
    if p.scheme == "primal_dual" and p.numbers is not None:
        sigma, slope = p.numbers[0, 0], _slope(p, x)
        if p.normal == "fourier" and p.h.shape[-2] == 1:  # A mixes the rows that H of columns keeps apart
            slope = slope + (0 * x).sum((-2, -1), keepdim=True)  # NaN where a pixel is not finite
        return sigma / (1 + sigma) * slope
    return torch.zeros_like(x) if p.scheme == "admm" else x


def _layer(p: PictureLayers, k: int, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """The iterate and the second state after layer k."""
    numbers = [] if p.numbers is None else [*p.numbers[k]]
    if p.scheme == "primal_dual":
        sigma, omega = numbers
        before, x = x, _proximal_step(p, k, x - p.step[k] * s)
        return x, (s + sigma * _slope(p, x + omega * (x - before))) / (1 + sigma)
    if p.scheme == "admm":
        return admm_layer(x, s, numbers[0], lambda v: _relaxed(p, k, x, v), lambda z: _proximal_step(p, k, z))
    v = x + numbers[0] * (x - s) if numbers else x
    return _proximal_step(p, k, _linear_step(p, k, v)), x


def _linear_step(p: PictureLayers, k: int, v: Tensor) -> Tensor:
    """L v."""
    if p.linear == "gradient":
        return v - p.step[k] * _slope(p, v)
    b, rho = p.z + p.step[k] * v, p.step[k]
    if p.maps is not None or p.normal == "downsample":
        return _Normal(p).solve(b, rho)
    return b / (p.h + rho) if p.normal == "weights" else fourier_diagonal(b, 1 / (p.h + rho))


def _relaxed(p: PictureLayers, k: int, x: Tensor, v: Tensor) -> Tensor:
    """x + ω·(L v − x)."""
    u = _linear_step(p, k, v)
    return u if p.relaxation == 1 else x + p.relaxation * (u - x)


def _slope(p: PictureLayers, v: Tensor) -> Tensor:
    """H v − z."""
    if p.normal == "fourier":
        return fourier_normal(v, p.h, p.z) if p.maps is None else coil_normal(v, p.maps, p.h, p.z)
    return _Normal(p).normal(v) - p.z


class _Normal:
    """H of layers, as conjugate gradients take it."""

    dims_in = 2

    def __init__(self, p: PictureLayers) -> None:
        self.p = p

    def normal(self, v: Tensor) -> Tensor:
        """H v."""
        p = self.p
        if p.normal == "weights":
            return p.h * v
        if p.normal == "downsample":
            seen = fourier_diagonal(continued(v, p.around, p.copied, p.periodic), p.h)
            rows, columns = (_is_measured(p, i, seen) for i in (0, 1))
            kept = torch.where(rows[:, None] & columns, seen, torch.zeros_like(seen))
            return folded(fourier_diagonal(kept, p.h, adjoint=True), p.around, p.copied, p.periodic)
        return fourier_normal(v, p.h) if p.maps is None else coil_normal(v, p.maps, p.h)

    def solve(self, b: Tensor, rho: Tensor) -> Tensor:
        """(H + ρ)⁻¹ b."""
        return solution(self, b, rho)


def _is_measured(p: PictureLayers, axis: int, v: Tensor) -> Tensor:
    """Which rows, or columns, A takes."""
    first, behind, size = p.margins[axis], p.margins[axis + 2], v.shape[axis - 2]
    i = torch.arange(size, device=v.device)
    return (i >= first) & (i < size - behind) & ((i - first) % p.factor == 0)


def _proximal_step(p: PictureLayers, k: int, u: Tensor) -> Tensor:
    if p.has_theta_of_each:
        assert p.theta is not None
        shared, flat = p._replace(theta=p.theta[:, 0]), u.flatten(end_dim=-3)
        each = [shared._replace(theta=p.theta[:, b]) for b in range(len(flat))]
        return torch.stack([_proximal_step(q, k, v) for q, v in zip(each, flat, strict=True)]).reshape(u.shape)
    theta, filters = (None if t is None else t[k] for t in (p.theta, p.filters))
    if p.prior == "wavelet" and theta is not None:
        return shrink_details(u, theta, p.low_pass, p.levels, p.moves[2 * k : 2 * k + 2])
    return proximal_step(u, p.prior, theta, p.low, p.high, p.iterations, filters)
