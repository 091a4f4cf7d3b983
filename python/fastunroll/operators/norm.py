"""Upper bounds of ‖A‖², the Lipschitz constant of the gradient Aᴴ(A x − y)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._precision import own_precision
from ..samples import column, inner, norm, random_directions, safe_divisor
from .dot_test import examine

_STEPS = 40
_RISK = 1e-9


def spectral_norm(A: Tensor) -> float:
    """‖A‖, the largest singular value, computed in double precision; 1 for a matrix without values.

    Of matrices (B, m, n) it is the largest of all.
    """
    if A.is_meta or A.numel() == 0:
        return 1.0
    A = A.detach().to(torch.complex128 if A.is_complex() else torch.float64)
    largest = float(A.abs().max())
    if not math.isfinite(largest):
        raise ValueError("A must be finite, but it holds NaN or infinity: check how it was computed")
    unit = 2.0 ** min(max(math.frexp(largest)[1], -1000), 1000)  # in which squares neither overflow nor vanish
    A = A / unit
    gram = A @ A.mH if A.shape[-2] <= A.shape[-1] else A.mH @ A
    return unit * float(torch.linalg.eigvalsh(gram)[..., -1].max().clamp_min(0).sqrt())


def certified_bound(A: Tensor) -> float:
    """An upper bound of ‖A‖²: certified, and wider than it by about 1e-11 of it. It holds for all of (B, m, n).

    The largest eigenvalue of the smaller Gram matrix in double precision, plus what the errors of both may be: the sums
    of the Gram matrix are off by at most k·u·‖A‖_F², k terms with the unit roundoff u, and LAPACK's eigenvalues by a
    modest multiple of the size (taken as 10 times it) of u·‖A‖².
    """
    if A.is_meta or A.numel() == 0:
        return 1.0
    terms = (4 if A.is_complex() else 1) * max(A.shape[-2:]) + 10 * min(A.shape[-2:])
    squares = A.detach().abs().double().square().flatten(-2).sum(-1)
    return spectral_norm(A) ** 2 + terms * 2.0**-53 * float(squares.max())


@torch.no_grad()
def lanczos_bound(normal: Callable[[Tensor], Tensor], like: Tensor) -> float:
    """An upper bound of ‖A‖² for every sample, from products with AᴴA alone.

    From a random start, k steps of Lanczos find an eigenvalue θ ≤ ‖A‖², and ‖A‖² ≤ θ / (1 − ε) but with a
    probability of at most 1.648 √n exp(−√ε (2k − 1)), which is set to 1e-9. (A residual certifies that there is an
    eigenvalue near θ, not that it is the largest: no method of products alone is certain.) With k = 40 and n = 65536
    the bound is about 12 % wider than θ. All samples are run, each from a start of its own, as an operator may hold
    something for each.

    Args:
        normal: AᴴA, for batches of the shape and type of ``like``.
        like: (B, ...), any numbers.

    Reference: Kuczyński and Woźniakowski, *Estimating the largest eigenvalue by the power and Lanczos algorithms with a
    random start*, 1992.
    """
    with own_precision(like):
        return _lanczos(normal, like)


@torch.no_grad()
def estimated_norm(op: Any) -> float:
    """The norm of an operator by :func:`lanczos_bound`, after the dot test: without an adjoint it means nothing."""
    like = op.sample()
    examine(op, op, like, op(like))
    return float(lanczos_bound(op.normal, like) ** 0.5)


def _lanczos(normal: Callable[[Tensor], Tensor], like: Tensor) -> float:
    real = like.real.dtype if like.is_complex() else like.dtype
    size, batch = like[0].numel(), like.shape[0]
    v, before = random_directions(like, torch.Generator().manual_seed(0)), torch.zeros_like(like)
    steps = min(_STEPS, size)
    diagonal, beside = [], [torch.zeros(batch, dtype=real, device=like.device)]
    for _ in range(steps):
        w = normal(v) - column(beside[-1], v) * before
        diagonal.append(inner(v, w))
        w = w - column(diagonal[-1], v) * v
        beside.append(norm(w))
        # Where nothing is left an invariant subspace has been found: zeros from here on.
        v, before = w / column(safe_divisor(beside[-1]), w), v
    matrices = torch.diag_embed(torch.stack(diagonal, 1).double().cpu())
    for i, b in enumerate(beside[1:steps], start=1):
        matrices[:, i - 1, i] = matrices[:, i, i - 1] = b.double().cpu()
    if not bool(torch.isfinite(matrices).all()):
        raise ValueError("A must be finite, but its products hold NaN or infinity: check how it was computed")
    theta = float(torch.linalg.eigvalsh(matrices)[:, -1].max())
    if theta <= 0:
        raise ValueError("A must not be zero: the step size 1/‖A‖² would be infinite")
    epsilon = 0.0 if steps == size else (math.log(1.648 * math.sqrt(size) / _RISK) / (2 * steps - 1)) ** 2
    rounding = 100 * torch.finfo(real).eps
    return theta * (1 + rounding) / (1 - min(epsilon, 0.9))
