"""celer and skglm: coordinate descent with working sets, made for one large problem, here in a loop over samples."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from lasso_problems import Problem
from lasso_solver import Solver, loosest, unscaled, with_threads

PACKAGES = "celer", "skglm"
LOOSEST = 30  # tuning begins at 30 times the gap; with looser tolerances some samples stop far from the solution
MISSING = [f"{p} left out: not installed; pip install '.[bench]'" for p in PACKAGES if not find_spec(p)]


def _loop(problem: Problem, model: Callable[..., Any], tol: float) -> Solver:
    A = np.asfortranarray(problem.A)

    def solve(samples: Any) -> Any:
        return [model(alpha=1 / len(A), fit_intercept=False, tol=tol).fit(A, y).coef_ for y in samples]

    return Solver(lambda part: list(part.scaled()), solve, unscaled, note=f"tol={tol:.0e}")


def solvers(problem: Problem, tol: float, single: bool) -> dict[str, Solver]:
    """Makes both contestants in float64. celer stops too early in float32, and skglm always computes in float64."""
    warnings.filterwarnings("ignore", module="(celer|skglm)")  # who does not converge is told from the gap
    found = {}
    for package in PACKAGES:
        if find_spec(package):
            ways = partial(_loop, problem, import_module(package).Lasso)
            way = ways(loosest(ways, problem, tol, LOOSEST * tol))
            found[package] = with_threads(way, problem, single)
    return found
