"""Times how fast a batch of Lasso problems, or a single one, is solved to the same duality gap."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import product
from typing import Any

import fastunroll as fu
import harness
import lasso_fista
import lasso_loops
import lasso_operators
import lasso_sklearn
import lasso_spams
import numpy as np
import torch
from lasso_problems import BATCH, NAMES, PATCHES, Array, Problem, problem
from lasso_solver import SINGLES, Solver, contestant

PER_SAMPLE, COMMON = "0.1 λ_max of each", "one for all"
TOLERANCES = "1e-4", "1e-6"
NEAR = (
    1.25  # a median gap of at most 1.25 times the tolerance counts, because solvers are tuned on a part of the samples
)
OURS = 3.0  # largest time of a call of fastunroll in seconds, for all samples


def _ours(problem: Problem, dtype: torch.dtype, tol: float) -> Solver:
    solver = fu.solvers.Lasso(torch.from_numpy(problem.A).to(dtype), gram=True)

    def load(part: Problem) -> Any:
        return torch.from_numpy(part.Y).to(dtype), torch.from_numpy(part.lam).to(dtype)

    def read(found: Any, part: Problem) -> Array:
        return np.asarray(found.x.double().numpy())

    return Solver(load, lambda data: solver.solve(*data, tol=tol), read, turn=OURS)


def _solvers(p: Problem, tol: float, single: bool) -> dict[str, Solver]:
    found = {"fastunroll": _ours(p, torch.float32, tol), "fastunroll float64": _ours(p, torch.float64, tol)}
    if not lasso_spams.MISSING:
        found |= lasso_spams.solvers(p, single)
    if not lasso_sklearn.MISSING:
        found |= lasso_sklearn.solvers(p, tol, single)
    return found | lasso_fista.solvers(p, tol) | lasso_loops.solvers(p, tol, single) | lasso_operators.solvers(p, tol)


def build(case: harness.Case, seed: int) -> harness.Comparison:
    name, tol, single = str(case["problem"]), float(case["tol"]), case["B"] == 1
    p = problem(name, case["λ"] == COMMON, SINGLES if single else int(case["B"]), seed)

    def check(found: Array) -> dict[str, float]:
        gaps = p.part(0, len(found)).gaps(found)
        return {
            "median": float(np.median(gaps)),
            "largest": float(gaps.max()),
            "missed": float((~(gaps <= tol)).sum()),
            "of": len(gaps),
            "reached": bool(np.median(gaps) <= NEAR * tol),
        }

    contestants = {name: contestant(solver, p, single) for name, solver in _solvers(p, tol, single).items()}
    contestants |= {name: replace(c, ours=True) for name, c in contestants.items() if name.startswith("fastunroll")}
    return harness.Comparison(contestants, check=check)


def _cases(batches: dict[str, int]) -> list[harness.Case]:
    """A single sample has only one kind of λ."""
    kinds = [(name, lam, batch) for name, batch in batches.items() for lam in (PER_SAMPLE, COMMON)]
    kinds += [(name, PER_SAMPLE, 1) for name in batches]
    return [
        {"problem": name, "λ": lam, "B": batch, "tol": tol} for (name, lam, batch), tol in product(kinds, TOLERANCES)
    ]


BENCHMARK = harness.Benchmark(
    name="lasso",
    question="How fast is a batch of Lasso problems solved to an equal duality gap?",
    cases=_cases({name: BATCH[name] for name in NAMES}),
    quick_cases=[{"problem": PATCHES, "λ": PER_SAMPLE, "B": batch, "tol": "1e-4"} for batch in (200, 1)],
    build=build,
    baseline="scikit-learn Lasso",
    checked="duality gap relative to ½‖y‖², in float64",
    unit=("µs a problem", 1e6),
    x="tol",
    panels=("problem", "B"),
    packages=("spams-bin", "scikit-learn", "jax", *lasso_loops.PACKAGES, *lasso_operators.PACKAGES),
    left_out=[
        *(line for line in (lasso_spams.MISSING, lasso_sklearn.MISSING, lasso_fista.MISSING) if line),
        *lasso_loops.MISSING,
        *lasso_operators.MISSING,
    ],
)

if __name__ == "__main__":
    sys.exit(harness.main(BENCHMARK))
