"""Step sizes: 1/L with an upper bound L of ‖A‖², the Lipschitz constant of the gradient Aᴴ(A x − y)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import _checks
from ..operators.norm import certified_bound, lanczos_bound
from .problem import Problem, positive_scalar


def of_operator(p: Problem) -> float:
    """An upper bound of ‖A‖² for every sample: ``op.norm()``², where a formula gives it, else by Lanczos' method.

    It is found once for an operator, and again where it has changed (:mod:`fastunroll.operators.known`).
    """
    assert p.operator is not None
    method = getattr(p.operator.source, "norm", None)
    kind = getattr(method, "__func__", method)  # a method that was put in its place is another
    stated = p.kept(("norm", id(kind)), p.operator.stated_norm)
    if stated is None:
        return p.kept("Lanczos", lambda: lanczos_bound(p.normal, p.start())) if p.batch else 1.0
    bound = stated**2 * (1 + 1e-6)
    if not math.isfinite(bound) or bound <= 0:
        raise ValueError(f"A.norm() must be a finite number > 0 for a step size, got {stated!r}: give the step size")
    return bound


def step_of(p: Problem, step: Tensor | float | None) -> Tensor:
    """1/‖A‖² where no step is given, rounded down; shape ()."""
    if step is not None:
        return positive_scalar("step", step, p.y)
    return rounded_down(1 / squared_norm(p), p.y)


def squared_norm(p: Problem) -> float:
    """A certified upper bound of ‖A‖²."""
    return of_operator(p) if p.A is None else certified_bound(_checks.nonzero_matrix("A", p.A))


def rounded_down(value: float, like: Tensor) -> Tensor:
    """``value`` rounded down to 24 bits, in the real type of ``like``.

    In double precision too: the last bits of an eigenvalue depend on the number of threads, and must not show.
    """
    mantissa, exponent = math.frexp(value)
    down = math.ldexp(math.floor(mantissa * 2**24), exponent - 24)
    return torch.tensor(down, dtype=like.real.dtype if like.is_complex() else like.dtype, device=like.device)
