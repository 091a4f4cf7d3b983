"""The contestants of SPAMS, which is least angle regression in C++ and the fastest rival."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np
import torch
from lasso_problems import Array, Problem
from lasso_solver import Solver, unscaled
from numpy.typing import NDArray

MISSING = None if find_spec("spams") else "SPAMS left out: not installed; pip install '.[bench]'"

TURN = 0.7  # time of a turn in seconds, long enough for DᵀD to be a small part


def _read(found: Any, problem: Problem) -> Array:
    return unscaled(found.T.toarray(), problem)


def _solver(problem: Problem, single: bool, dtype: type, cholesky: bool) -> Solver:
    import spams

    D: NDArray[Any] = np.asfortranarray(problem.A, dtype)
    gram = np.asfortranarray(D.T @ D)
    threads = 1 if single else torch.get_num_threads()  # for one sample, a second one only costs
    options = {"lambda1": 1.0, "mode": 2, "numThreads": threads, "cholesky": cholesky}

    def load(part: Problem) -> Any:
        return np.asfortranarray(part.scaled().T, dtype)

    def plain(y: Any) -> Any:
        return spams.lasso(y, D=D, **options)

    def prepared(y: Any) -> Any:
        return spams.lasso(y, Q=gram, q=np.asfortranarray(D.T @ y), **options)

    if single:
        # It tells OpenMP, and so PyTorch, that there is but one thread.
        after = partial(torch.set_num_threads, torch.get_num_threads())
        return Solver(load, prepared, _read, note="given DᵀD; 1 thread", after=after)
    return Solver(load, plain, _read, turn=TURN, note="given D")


def solvers(problem: Problem, single: bool) -> dict[str, Solver]:
    """It has no tolerance, as its path is exact.

    It makes DᵀD in each call where it is not given: for one sample that is most of the time, in a batch it is nothing,
    and there the products with D are quicker from inside. By default it updates the inverse of a part of DᵀD, and fails
    on some patches; with a Cholesky factor it does not.
    """
    kinds = {"SPAMS": False, "SPAMS Cholesky": True}
    precisions = {"": np.float64, " float32": np.float32}
    return {
        kind + precision: _solver(problem, single, dtype, cholesky)
        for (kind, cholesky), (precision, dtype) in product(kinds.items(), precisions.items())
    }
