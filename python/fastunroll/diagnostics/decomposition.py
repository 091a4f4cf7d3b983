"""Decomposes the error of a network into the error of the ideal algorithm and the deviations of the layers from it."""

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

_ITERATIONS_PER_RESTART, _MAX_RESTARTS = 500, 20  # of FISTA
CONVERGED = 1e-10  # a Lasso solution with at most this KKT residual counts as exact


@dataclass(frozen=True)
class Decomposition:
    """Compares a network, with iterates x_0 = 0, x_1, …, x_K, with the ideal algorithm x⁺ = T(x) that it unrolls.

    Layer k deviates from the ideal algorithm by ε_k = ‖x_k − T(x_{k−1})‖. With a reference solution x*, the triangle
    inequality bounds the error of each layer:

        ‖x_k − x*‖ ≤ ε_k + ‖T(x_{k−1}) − x*‖ = ε_k + ρ_k ‖x_{k−1} − x*‖,   ρ_k = ‖T(x_{k−1}) − x*‖ / ‖x_{k−1} − x*‖,

    With the largest rate ρ = max ρ_k, this gives

        ‖x_k − x*‖ ≤ ρ^k ‖x_0 − x*‖ + Σ_{j ≤ k} ρ^(k−j) ε_j.

    All norms run over the whole batch. The rates ρ_k are measured at the iterates x_0, …, x_{K−1} of the network, so
    the bound holds for any T. A rate exceeds 1 if the ideal step leads away from x*. This happens near a ground truth
    that is not a fixed point of T, and the bound with a single ρ then grows fast. ``own_bound`` uses the rate of each
    layer instead: b_k = ρ_k b_{k−1} + ε_k with b_0 = ‖x_0 − x*‖. It is never larger than ``bound``. A deviation is not
    an error: a trained network beats its algorithm because it deviates.

    Attributes:
        reference: the reference solution x*: ``"x_true"``, or ``"lasso"`` for the converged Lasso solution.
        reference_kkt: the largest KKT residual of the Lasso solution over samples; None for ``"x_true"``.
        start_error: ‖x_0 − x*‖ = ‖x*‖.
        rho: the largest ρ_k.
        rho_median: the median of ρ_k.
        ideal_rho: the largest rate along the iterates T(x_0), T(T(x_0)), … of the ideal algorithm.
        ideal_rho_median: the median of these rates.
        layers: a table with one row for each layer k = 1, …, K. Its columns are ``error`` ‖x_k − x*‖; ``ideal_error``,
            the error of the ideal algorithm after k steps; ``rate`` ρ_k; ``deviation`` ε_k; ``start``, the first term
            ρ^k‖x_0 − x*‖ of the bound; ``accumulated``, the sum in the bound; ``bound``; ``bound/error``; and
            ``own_bound``.

    A rate 0/0 counts as 0: the iterate is x* and T keeps it. A rate a/0 is infinite, and the bound is then undefined
    (None). A ratio 0/0 of bound to error counts as 1.
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
    """Returns the decomposition of the iterates ``layers`` (K, ..., n) against the solution x* (..., n)."""
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
        rows.append({"layer": k + 1, **{name: none_if_nan(value) for name, value in row.items()}})
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
    """Returns the step of ISTA, S_{λt}(x − t·Aᴴ(A x − y)) with t = 1/‖A‖², in the precision of ``y`` and ``x``."""
    step = _step_size(A)
    return lambda x_k, y_k: ista_step(x_k.to(x.dtype), y_k.to(y.dtype), A, step, lam * step)


def lasso_solution(y: Tensor, A: Tensor | LinearOperator, lam: Tensor) -> tuple[Tensor, float]:
    """Returns the Lasso solution by FISTA, and its largest KKT residual. Restarts make FISTA converge faster."""
    step, x, residual = _step_size(A), None, math.inf
    for _ in range(_MAX_RESTARTS):
        x = fista(A, y, lam, iterations=_ITERATIONS_PER_RESTART, step=step, x0=x)
        residual = float(kkt_residual(x, y, A, lam).max())
        if residual <= CONVERGED:
            break
    assert x is not None
    return x, residual


def to_double(t: Tensor) -> Tensor:
    """Returns ``t`` in double precision."""
    return t.to(torch.promote_types(t.dtype, torch.float64))


def distance(a: Tensor, b: Tensor) -> float:
    """Returns ‖a − b‖ over the whole batch, in double precision."""
    return float(norm((to_double(a) - to_double(b)).reshape(-1)))


def ratio(a: float, b: float, of_zeros: float = 0.0) -> float:
    """Returns a/b for a, b ≥ 0. The ratio 0/0 is ``of_zeros``, and a/0 is infinite for a > 0."""
    if b == 0:
        return of_zeros if a == 0 else math.nan if math.isnan(a) else math.inf
    return a / b


def none_if_nan(value: float) -> float | None:
    """Returns ``value``, or None if it is NaN."""
    return None if math.isnan(value) else value


def _step(ideal: Step, x: Tensor, y: Tensor) -> Tensor:
    out = _checks.tensor("the output of ideal", ideal(x, y))
    if out.shape != x.shape:
        raise ValueError(
            f"ideal must return an iterate of the shape of x, {_checks.shape_text(x.shape)}, "
            f"got {_checks.shape_text(out.shape)}"
        )
    if not bool(torch.isfinite(out).all()):
        raise ValueError("ideal must return finite values, got NaN or infinity: check its step size, or omit ideal")
    return out
