"""Proximal operators of pictures (..., H, W), and their continuation, in plain PyTorch: what kernels compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad

from . import reference


def continued(x: Tensor, around: Sequence[int], copied: Sequence[int] = (), periodic: bool = False) -> Tensor:
    """E x: a picture in a grid that is larger by the rows and columns ``around`` it.

    As many of them as ``copied`` says are copies, reflected … c b a | a b c … x y z | z y x …, or periodic
    … x y z | a b c … x y z | a b c …, and the others are zero; all without ``copied``. Both are numbers at the top,
    left, bottom and right, or of volumes at the front, top, left, back, bottom and right.
    """
    if not any(around):
        return x
    dims, copied = len(around) // 2, copied or (0,) * len(around)
    for axis in range(dims):
        dim, first, last = axis - dims, copied[axis], copied[axis + dims]
        if first or last:
            before, behind = _sources(x, dim, first, last, periodic)
            x = torch.cat([_turned(before, dim, periodic), x, _turned(behind, dim, periodic)], dim)
    zeros = [a - b for a, b in zip(around, copied, strict=True)]
    return pad(x, [n for axis in reversed(range(dims)) for n in (zeros[axis], zeros[axis + dims])])


def folded(v: Tensor, around: Sequence[int], copied: Sequence[int] = (), periodic: bool = False) -> Tensor:
    """Eᵀ v: the inside of v, to which its copies are added."""
    if not any(around):
        return v
    dims, copied = len(around) // 2, copied or (0,) * len(around)
    for axis in range(dims):
        dim, start, first, last = axis - dims, around[axis], copied[axis], copied[axis + dims]
        n = v.shape[dim] - start - around[axis + dims]
        inside = v.narrow(dim, start, n)
        if first or last:
            inside = inside.clone()
            before, behind = _sources(inside, dim, first, last, periodic)
            before.add_(_turned(v.narrow(dim, start - first, first), dim, periodic))
            behind.add_(_turned(v.narrow(dim, start + n, last), dim, periodic))
        v = inside
    return v.contiguous()


def _sources(x: Tensor, dim: int, first: int, last: int, periodic: bool) -> tuple[Tensor, Tensor]:
    """The rows, or columns, of which copies stand before x and behind it."""
    n = x.shape[dim]
    at = (n - first, 0) if periodic else (0, n - last)
    return x.narrow(dim, at[0], first), x.narrow(dim, at[1], last)


def _turned(copies: Tensor, dim: int, periodic: bool) -> Tensor:
    return copies if periodic else copies.flip(dim)


def _all_but_ends(dims: int) -> list[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """For each of the last axes the indices of all but the last entry, and of all but the first one."""
    behind = [(slice(None),) * n for n in reversed(range(dims))]
    return [((..., slice(-1), *others), (..., slice(1, None), *others)) for others in behind]


def differences(x: Tensor, dims: int = 2) -> Tensor:
    """D x: what each pixel lacks of its neighbour below and of its neighbour to the right; zero at the last ones.

    (..., H, W) to (2, ..., H, W). Volumes (..., D, H, W) to (3, ..., D, H, W), the neighbour in the next picture first.
    """
    found = [torch.zeros_like(x) for _ in range(dims)]
    for difference, (first, others) in zip(found, _all_but_ends(dims), strict=True):
        difference[first] = x[others] - x[first]
    return torch.stack(found)


def differences_adjoint(p: Tensor) -> Tensor:
    """Dᵀ p: (2, ..., H, W) to (..., H, W), or (3, ..., D, H, W) to (..., D, H, W)."""
    x = torch.zeros_like(p[0])
    for along, (first, others) in zip(p, _all_but_ends(len(p)), strict=True):
        x[first] -= along[first]
        x[others] += along[first]
    return x


def total_variation(z: Tensor, theta: Tensor, iterations: int, dims: int = 2) -> Tensor:
    """The proximal operator of θ·Σ ‖D z‖₂ over the pixels, by accelerated projected gradients from p = 0.

    ‖D‖² ≤ 4·dims.
    """
    p = q = torch.zeros_like(torch.stack([z] * dims))
    t = 1.0
    for _ in range(iterations):
        found = _projected(q + differences(z - differences_adjoint(q), dims) / (4 * dims), theta)
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        p, q, t = found, found + (t - 1) / following * (found - p), following
    return z - differences_adjoint(p)


def _projected(p: Tensor, theta: Tensor) -> Tensor:
    """p, where it is longer than θ shortened to θ."""
    square = p.abs().square().sum(0)
    shorter = square <= theta * theta
    length = torch.where(shorter, torch.ones_like(square), square).sqrt()  # no slope of √0
    return torch.where(shorter, p, p * (theta / length))


def filter_bank(z: Tensor, filters: Tensor, theta: Tensor) -> Tensor:
    """z − Σ_i f̃_i ∗ ψ_i(f_i ⋆ z) with filters (count, h, h); ψ clips to θ, which broadcasts with (N, count, H, W)."""
    parts = torch.stack([z.real, z.imag]) if z.is_complex() else z[None]
    kernels = filters[:, None]
    c = channels_last(conv2d(parts.reshape(-1, 1, *z.shape[-2:]), kernels))
    clipped = _clipped(c.unflatten(0, (len(parts), -1)), theta)
    found = conv_transpose2d(clipped.flatten(0, 1), kernels).reshape(parts.shape)
    return z - (torch.complex(*found.to(parts.dtype).unbind()) if z.is_complex() else found[0])


def _clipped(c: Tensor, theta: Tensor) -> Tensor:
    """Real numbers (1, …) clipped to [−θ, θ], or real and imaginary parts (2, …) whose modulus is clipped to θ."""
    if len(c) == 1:
        return torch.clamp(c, -theta, theta)
    square = c.square().sum(0)
    shorter = square <= theta * theta  # false of NaN, which shows
    modulus = torch.where(shorter, torch.ones_like(square), square).sqrt()  # no slope of √0
    return torch.where(shorter, c, c * (theta / modulus))


def channels_last(x: Tensor) -> Tensor:
    """A batch (N, C, H, W) in the format in which convolutions are fast; torch.func has no formats."""
    if torch._C._are_functorch_transforms_active():
        return x
    return x.contiguous(memory_format=torch.channels_last)


def proximal_step(
    z: Tensor, prior: str, theta: Tensor | None, low: float = 0.0, high: float = 0.0, iterations: int = 0,
    filters: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The proximal step of a compiled prior of pictures."""
    if prior == "box":
        return z.clamp(low, high)
    if theta is None:
        return z
    if prior == "total_variation":
        return total_variation(z, theta, iterations)
    if filters is not None:
        return filter_bank(z, filters, theta[:, None, None])
    return reference.soft_threshold(z, theta) if prior == "soft" else torch.relu(z - theta)
