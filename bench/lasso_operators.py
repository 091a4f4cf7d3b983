"""FISTA of pylops and pyproximal, with the matrix as an operator on a whole batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import numpy as np
from lasso_problems import Array, Problem
from lasso_solver import AIM, PROBE, Solver, unscaled
from numpy.typing import NDArray

PACKAGES = "pylops", "pyproximal"
MISSING = [f"{p} left out: not installed; pip install '.[bench]'" for p in PACKAGES if not find_spec(p)]
MOST, EVERY = 5000, 20  # largest number of iterations, and iterations between two gaps in tuning
CHUNK = 50  # samples in a call, which is faster than single samples and than all samples together
SINGLE = 1e-5  # smallest tolerance for float32

Iterate = Callable[..., Any]  # operator, y, iterations, callback or None: x


class _Reached(Exception):
    """Raised when the gap is small enough."""


def _pylops(step: float) -> Iterate:
    import pylops

    def run(operator: Any, y: Any, iterations: int, callback: Callable[[Any], None] | None) -> Any:
        # Its penalty is eps/2.
        return pylops.optimization.sparsity.fista(
            operator, y, niter=iterations, eps=2.0, alpha=step, tol=0.0, callback=callback, preallocate=True
        )[0]

    return run


def _pyproximal(step: float) -> Iterate:
    import pyproximal

    def run(operator: Any, y: Any, iterations: int, callback: Callable[[Any], None] | None) -> Any:
        return pyproximal.optimization.primal.ProximalGradient(
            pyproximal.L2(Op=operator, b=y),
            pyproximal.L1(),
            x0=np.zeros(operator.shape[1], operator.dtype),
            tau=step,
            acceleration="fista",
            niter=iterations,
            callback=callback,
        )

    return run


def _read(found: Any, problem: Problem) -> Array:
    return unscaled(found.reshape(-1, len(problem)).T, problem)


def _load(problem: Problem, dtype: type) -> Any:
    import pylops

    A: NDArray[Any] = problem.A.astype(dtype)
    return pylops.MatrixMult(A, otherdims=(len(problem),), dtype=dtype), problem.scaled().T.astype(dtype).ravel()


def _iterations(problem: Problem, iterate: Iterate, dtype: type, tol: float) -> int:
    """Returns the number of iterations that brings the median gap to ``tol``."""
    probe, count = problem.part(0, PROBE[0]), 0

    def look(x: Any) -> None:
        nonlocal count
        count += 1
        if count % EVERY == 0 and np.median(probe.gaps(_read(np.asarray(x), probe))) <= AIM * tol:
            raise _Reached

    with suppress(_Reached):
        iterate(*_load(probe, dtype), MOST, look)
    return count


def solvers(problem: Problem, tol: float) -> dict[str, Solver]:
    """Makes both contestants. Both run the same iteration without restarts, and the same number of iterations."""
    if not find_spec("pylops"):  # pyproximal builds on it
        return {}
    dtype = np.float32 if tol >= SINGLE else np.float64
    step = float(1 / np.linalg.norm(problem.A, 2) ** 2)
    ways = {"pylops FISTA": _pylops(step)}
    count = _iterations(problem, ways["pylops FISTA"], dtype, tol)
    if find_spec("pyproximal"):
        ways["pyproximal FISTA"] = _pyproximal(step)

    def solver(iterate: Iterate) -> Solver:
        return Solver(
            lambda part: _load(part, dtype),
            lambda data: iterate(*data, count, None),
            _read,
            chunk=CHUNK,
            note=f"{count} iterations, {dtype.__name__}",
        )

    return {name: solver(iterate) for name, iterate in ways.items()}
