"""Sums, norms and numbers of each sample of a batch (B, ...)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rows(t: Tensor) -> Tensor:
    """A sample in each row: ``t.flatten(1)``, which PyTorch does not know of several gradients at once."""
    return t.reshape(t.shape[0], math.prod(t.shape[1:]))


def total(t: Tensor) -> Tensor:
    """The sum over all of a sample: (B, ...) to (B,)."""
    return rows(t).sum(1)


def column(values: Tensor, like: Tensor) -> Tensor:
    """A value for each sample, to multiply a batch with."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Re⟨a, b⟩ for each sample."""
    return total((a.conj() * b).real if a.is_complex() else a * b)


AT_ONCE = 1 << 18  # numbers whose products stay in a cache


def inner_by_parts(a: Tensor, b: Tensor) -> Tensor:
    """Re⟨a, b⟩ for each sample, some numbers after the others: memory for all products takes longer than the sums."""
    a, b = (rows(torch.view_as_real(t.resolve_conj()) if t.is_complex() else t) for t in (a, b))
    if a.numel() <= AT_ONCE:
        return inner(a, b)
    sums = []
    for group in zip(*(t.split(max(1, AT_ONCE // t.shape[1])) for t in (a, b)), strict=True):
        parts = zip(*(t.split(AT_ONCE, 1) for t in group), strict=True)
        sums.append(torch.stack([inner(*part) for part in parts]).sum(0))
    return torch.cat(sums)


def energy(t: Tensor) -> Tensor:
    """‖t‖² for each sample, by parts."""
    return inner_by_parts(t, t)


def norm(t: Tensor) -> Tensor:
    """‖t‖₂ for each sample."""
    return torch.linalg.vector_norm(rows(t), dim=1)


def safe_divisor(size: Tensor) -> Tensor:
    """What to divide by: the size, or 1 where it is zero."""
    return torch.where(size > 0, size, torch.ones_like(size))


def random_directions(like: Tensor, generator: torch.Generator) -> Tensor:
    """A random vector of norm 1 for each sample, of the shape, dtype and device of ``like``."""
    dtype = torch.complex64 if like.is_complex() else torch.float32
    v = torch.randn(like.shape, generator=generator, dtype=dtype).to(like)
    return v / column(safe_divisor(norm(v)), v)
