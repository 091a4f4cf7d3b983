"""How the error of an unrolled network comes about: what the ideal algorithm leaves, and what each layer adds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor

from .. import _checks
from ..functional import ista_step
from ..losses import kkt_residual
from ..norms import norm
from ..operators.linear_operator import LinearOperator
from ..operators.norm import spectral_norm
from ..solvers.fista import fista
from ..table import Table

Step = Callable[[Tensor, Tensor], Tensor]

_CHUNK, _CHUNKS = 500, 20  # iterations of FISTA between restarts, and the most of those
CONVERGED = 1e-10  # KKT residual


@dataclass(frozen=True)
class Decomposition:
    """The error of each layer against the ideal algorithm x⁺ = T(x), which the network x_0 = 0, …, x_K imitates.

    With a reference solution x* and deviations ε_k = ‖x_k − T(x_{k−1})‖, the triangle inequality gives for each layer

        ‖x_k − x*‖ ≤ ε_k + ‖T(x_{k−1}) − x*‖ = ε_k + ρ_k ‖x_{k−1} − x*‖,   ρ_k = ‖T(x_{k−1}) − x*‖ / ‖x_{k−1} − x*‖,

    and so, with ρ the largest of all ρ_k,

        ‖x_k − x*‖ ≤ ρ^k ‖x_0 − x*‖ + Σ_{j ≤ k} ρ^(k−j) ε_j.

    All norms are over the whole batch. The rates ρ_k are measured, at the network's own iterates x_0, …, x_{K−1}, so
    the bound holds for the numbers shown, whatever T is. They exceed 1 where the ideal step leads away from x*, as
    happens near a truth that is no fixed point of T: the bound with one ρ then grows fast. ``own_bound`` keeps each
    layer its own rate, b_k = ρ_k b_{k−1} + ε_k from b_0 = ‖x_0 − x*‖, and is never larger. A deviation need not be
    bad: a network beats its algorithm by deviating well.

    Attributes:
        reference: what x* is: ``"x_true"``, or ``"lasso"`` for the converged Lasso solution.
        reference_kkt: the largest KKT residual of that solution over samples; None for ``"x_true"``.
        start_error: ‖x_0 − x*‖ = ‖x*‖.
        rho: the largest ρ_k.
        rho_median: the median of ρ_k.
        ideal_rho: the largest such ratio along the ideal algorithm's own iterates T(x_0), T(T(x_0)), …
        ideal_rho_median: their median.
        layers: a row for each layer k = 1, …, K: ``error`` ‖x_k − x*‖; ``ideal_error``, that of the ideal algorithm
            after k steps; ``rate`` ρ_k; ``deviation`` ε_k; ``start`` ρ^k‖x_0 − x*‖; ``accumulated``, the sum;
            ``bound``; ``bound/error``; ``own_bound``.

    A rate of 0/0 (at x*, which T keeps) is 0, one of a/0 infinite; the bound is then undefined: None. A 0/0 of bound to
    error is 1.
    """

    reference: str
    reference_kkt: float | None
    start_error: float
    rho: float
    rho_median: float
    ideal_rho: float
    ideal_rho_median: float
    layers: Table


def decompose(layers: Tensor, y: Tensor, solution: Tensor, ideal: Step, reference_kkt: float | None) -> Decomposition:
    """The decomposition for the iterates ``layers`` (K, ..., n) against ``solution`` (..., n)."""
    x = ideal_x = torch.zeros_like(layers[0])
    errors, ideal_errors, rates, deviations = [distance(x, solution)], [distance(x, solution)], [], []
    for after in layers:
        target, ideal_x = _step(ideal, x, y), _step(ideal, ideal_x, y)
        rates.append(ratio(distance(target, solution), errors[-1]))
        deviations.append(distance(after, target))
        errors.append(distance(after, solution))
        ideal_errors.append(distance(ideal_x, solution))
        x = after
    ideal_rates = [ratio(after, before) for before, after in pairwise(ideal_errors)]

    rho, rows = max(rates), []
    remaining, accumulated, own = errors[0], 0.0, errors[0]
    for k, deviation in enumerate(deviations):
        remaining, accumulated, own = rho * remaining, rho * accumulated + deviation, rates[k] * own + deviation
        row = {"error": errors[k + 1], "ideal_error": ideal_errors[k + 1], "rate": rates[k], "deviation": deviation}
        row |= {"start": remaining, "accumulated": accumulated, "bound": remaining + accumulated}
        row |= {"bound/error": ratio(remaining + accumulated, errors[k + 1], 1.0), "own_bound": own}
        rows.append({"layer": k + 1, **{name: defined(value) for name, value in row.items()}})
    return Decomposition(
        reference="x_true" if reference_kkt is None else "lasso",
        reference_kkt=reference_kkt,
        start_error=errors[0],
        rho=rho,
        rho_median=median(rates),
        ideal_rho=max(ideal_rates),
        ideal_rho_median=median(ideal_rates),
        layers=Table(rows),
    )


def _step_size(A: Tensor | LinearOperator) -> float:
    return 1 / (spectral_norm(A) if isinstance(A, Tensor) else A.norm()) ** 2


def ista(A: Tensor | LinearOperator, lam: Tensor, y: Tensor, x: Tensor) -> Step:
    """The step of ISTA, S_{λt}(x − t·Aᴴ(A x − y)) with t = 1/‖A‖², in the precision of ``y`` and ``x``."""
    step = _step_size(A)
    return lambda x_k, y_k: ista_step(x_k.to(x.dtype), y_k.to(y.dtype), A, step, lam * step)


def lasso_solution(y: Tensor, A: Tensor | LinearOperator, lam: Tensor) -> tuple[Tensor, float]:
    """The solution by FISTA, restarted now and then, which makes it converge faster; and its largest KKT residual."""
    step, x, residual = _step_size(A), None, math.inf
    for _ in range(_CHUNKS):
        x = fista(A, y, lam, iterations=_CHUNK, step=step, x0=x)
        residual = float(kkt_residual(x, y, A, lam).max())
        if residual <= CONVERGED:
            break
    assert x is not None
    return x, residual


def wide(t: Tensor) -> Tensor:
    """``t`` in double precision."""
    return t.to(torch.promote_types(t.dtype, torch.float64))


def distance(a: Tensor, b: Tensor) -> float:
    """‖a − b‖ over the whole batch, in double precision."""
    return float(norm((wide(a) - wide(b)).reshape(-1)))


def ratio(a: float, b: float, of_zeros: float = 0.0) -> float:
    """a/b for a, b ≥ 0: ``of_zeros`` for 0/0, infinite for other a/0."""
    if b == 0:
        return of_zeros if a == 0 else math.nan if math.isnan(a) else math.inf
    return a / b


def defined(value: float) -> float | None:
    """``value``, or None for NaN."""
    return None if math.isnan(value) else value


def _step(ideal: Step, x: Tensor, y: Tensor) -> Tensor:
    out = _checks.tensor("the output of ideal", ideal(x, y))
    if out.shape != x.shape:
        raise ValueError(
            f"ideal must return an iterate of the shape of x, {_checks.shape_text(x.shape)}, "
            f"got {_checks.shape_text(out.shape)}"
        )
    if not bool(torch.isfinite(out).all()):
        raise ValueError("ideal returned NaN or infinity: check its step size, or leave it out for a step of ISTA")
    return out
