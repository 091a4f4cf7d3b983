"""Step sizes: upper bounds of ‖A‖², the Lipschitz constant of the gradient Aᴴ(A x − y)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .. import _checks
from .._precision import own_precision
from ..operators.dense import spectral_norm
from .problem import Problem, positive_scalar
from .samples import column, inner, norm, or_one, random_directions

_STEPS = 40
_RISK = 1e-9


def of_matrix(A: Tensor) -> float:
    """An upper bound of ‖A‖²: certified, and wider than it by about 1e-11 of it.

    The largest eigenvalue of the smaller Gram matrix in double precision, plus what the errors of both may be: the sums
    of the Gram matrix are off by at most k·u·‖A‖_F², k terms with the unit roundoff u, and LAPACK's eigenvalues by a
    modest multiple of the size (taken as 10 times it) of u·‖A‖².
    """
    if A.is_meta:
        return 1.0
    terms = (4 if A.is_complex() else 1) * max(A.shape) + 10 * min(A.shape)
    sizes = A.detach().abs().double()
    return spectral_norm(A) ** 2 + terms * 2.0**-53 * float(sizes.square().sum())


def of_operator(p: Problem) -> float:
    """An upper bound of ‖A‖² for every sample: ``op.norm()``², where there is one, else by Lanczos' method.

    It is found once for an operator, and again where it has changed (:mod:`.known`).

    From a random start, k steps of Lanczos find an eigenvalue θ ≤ ‖A‖², and ‖A‖² ≤ θ / (1 − ε) but with a
    probability of at most 1.648 √n exp(−√ε (2k − 1)), which is set to 1e-9. (A residual certifies that there is an
    eigenvalue near θ, not that it is the largest: no method of products alone is certain.) With k = 40 and n = 65536
    the bound is about 12 % wider than θ. All samples are run, each from a start of its own, as an operator may hold
    something for each.

    Reference: Kuczyński and Woźniakowski, *Estimating the largest eigenvalue by the power and Lanczos algorithms with a
    random start*, 1992.
    """
    norm_of = getattr(p.operator, "norm", None)
    if callable(norm_of):  # a method that was put in its place is another
        return p.kept(("norm", id(getattr(norm_of, "__func__", norm_of))), lambda: _stated(norm_of))
    return p.kept("Lanczos", lambda: _lanczos(p)) if p.batch else 1.0


def _stated(norm_of: Callable[[], float]) -> float:
    bound = float(norm_of()) ** 2 * (1 + 1e-6)
    if not math.isfinite(bound) or bound <= 0:
        raise ValueError(f"A.norm() must be a finite number > 0 for a step size, got {bound**0.5!r}: give step")
    return bound


@torch.no_grad()
def _lanczos(p: Problem) -> float:
    with own_precision(p.y):
        return _widened(p)


def _widened(p: Problem) -> float:
    """The largest eigenvalue that 40 steps find, with what it may lack."""
    like = p.start()
    real = like.real.dtype if like.is_complex() else like.dtype
    size = like[0].numel()
    v, before = random_directions(like, torch.Generator().manual_seed(0)), torch.zeros_like(like)
    steps = min(_STEPS, size)
    diagonal, beside = [], [torch.zeros(p.batch, dtype=real, device=like.device)]
    for _ in range(steps):
        w = p.adjoint(p.forward(v)) - column(beside[-1], v) * before
        diagonal.append(inner(v, w))
        w = w - column(diagonal[-1], v) * v
        beside.append(norm(w))
        # Where nothing is left an invariant subspace has been found: zeros from here on.
        v, before = w / column(or_one(beside[-1]), w), v
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


def step_of(p: Problem, step: Tensor | float | None) -> Tensor:
    """1/‖A‖² where no step is given, rounded down; shape ()."""
    if step is not None:
        return positive_scalar("step", step, p.y)
    bound = of_operator(p) if p.A is None else of_matrix(_checks.nonzero_matrix("A", p.A))
    return rounded_down(1 / bound, p.y)


def rounded_down(value: float, like: Tensor) -> Tensor:
    """``value`` rounded down to 24 bits, in the real type of ``like``.

    In double precision too: the last bits of an eigenvalue depend on the number of threads, and must not show.
    """
    mantissa, exponent = math.frexp(value)
    down = math.ldexp(math.floor(mantissa * 2**24), exponent - 24)
    return torch.tensor(down, dtype=like.real.dtype if like.is_complex() else like.dtype, device=like.device)
