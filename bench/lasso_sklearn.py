"""The contestants of scikit-learn: coordinate descent with the Gram matrix, and least angle regression."""

from __future__ import annotations

import warnings
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from lasso_problems import Problem
from lasso_solver import Solver, loosest, unscaled, with_threads
from numpy.typing import NDArray

MISSING = None if find_spec("sklearn") else "scikit-learn left out: not installed; pip install '.[bench]'"
MOST = 10000  # largest number of passes over the coordinates; coherent dictionaries need more than the default 1000


def _lasso(problem: Problem, dtype: type, tol: float) -> Solver:
    """Makes all samples the targets of a single fit with λ = 1."""
    from sklearn.linear_model import Lasso

    A: NDArray[Any] = np.asfortranarray(problem.A, dtype)
    gram = np.ascontiguousarray(A.T @ A)
    model = partial(Lasso, 1 / len(A), fit_intercept=False, precompute=gram, copy_X=False, max_iter=MOST, tol=tol)

    def load(part: Problem) -> Any:
        return np.asfortranarray(part.scaled().T, dtype)

    return Solver(load, lambda y: model().fit(A, y, check_input=False).coef_, unscaled, note=f"tol={tol:.0e}")


def _encode(problem: Problem, algorithm: str) -> Solver:
    from sklearn.decomposition import sparse_encode

    D = np.ascontiguousarray(problem.A.T)
    options = {"gram": D @ D.T, "algorithm": algorithm, "alpha": 1.0, "max_iter": MOST}

    return Solver(Problem.scaled, lambda y: sparse_encode(y, D, check_input=False, **options), unscaled)


def solvers(problem: Problem, tol: float, single: bool) -> dict[str, Solver]:
    """``sparse_encode`` has no tolerance to set, but 1e-8; so in float32 it would run until ``max_iter``.

    Its ``n_jobs`` starts processes, which costs more than threads do: coordinate descent lets go of Python's lock.
    """
    warnings.filterwarnings("ignore", module="sklearn")  # who does not converge is told from the gap
    found = {}
    for name, dtype in (("scikit-learn Lasso", np.float64), ("scikit-learn Lasso float32", np.float32)):
        way = _lasso(problem, dtype, loosest(partial(_lasso, problem, dtype), problem, tol, 30 * tol))
        found[name] = with_threads(way, problem, single)
    for algorithm in ("lasso_cd", "lasso_lars"):
        found[f"sparse_encode {algorithm}"] = with_threads(_encode(problem, algorithm), problem, single)
    return found
