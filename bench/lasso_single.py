"""Times a single Lasso problem with a new matrix, including everything that the call does."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import Any

import fastunroll as fu
import harness
import numpy as np
import torch
from lasso_problems import Array, Problem

# m, n, the correlation of neighbouring columns
PROBLEMS = {
    "gaussian 250×500": (250, 500, 0.0),
    "gaussian 500×5000": (500, 5000, 0.0),
    "AR(0.9) 500×5000": (500, 5000, 0.9),
    "gaussian 1000×10000": (1000, 10000, 0.0),
    "gaussian 100×20000": (100, 20000, 0.0),
}
SHARES = 0.1, 0.02, 0.005  # λ over λ_max
TOL = 1e-6  # the gap, over ½‖y‖²
NOISE = 0.1  # norm of the noise relative to that of A x
NEAR = 1.25  # a gap of at most 1.25 times the tolerance counts, because rivals measure gaps in another way
RIVALS = {"scikit-learn": "sklearn.linear_model", "celer": "celer", "skglm": "skglm"}
MISSING = [f"{name} left out: not installed; pip install '.[bench]'" for name, m in RIVALS.items()
           if not find_spec(m.split(".")[0])]  # fmt: skip
LEFT_OUT = [*MISSING, "adelie left out: it needs NumPy below 2, and with it another environment"]
TIGHTER = 7  # largest number of times that the tolerance of a rival is divided by √10 until its gap is small enough
PASSES = 100_000  # largest number of passes of rivals, whose defaults are too small for small λ


def problem(name: str, share: float, seed: int) -> Problem:
    """Returns a problem of a sample with 5 % nonzeros, whose λ is a share of λ_max."""
    m, n, correlation = PROBLEMS[name]
    random = np.random.default_rng(seed)
    A = random.standard_normal((m, n))
    for j in range(1, n if correlation else 1):
        A[:, j] = correlation * A[:, j - 1] + np.sqrt(1 - correlation**2) * A[:, j]
    x = np.zeros(n)
    count = max(1, min(n, m) // 20)
    x[random.choice(n, count, replace=False)] = random.standard_normal(count)
    y = A @ x
    noise = random.standard_normal(m)
    y += NOISE * np.linalg.norm(y) / np.linalg.norm(noise) * noise
    return Problem(A, y[None], np.array([share * np.abs(A.T @ y).max()]))


def _rival(p: Problem, model: Callable[..., Any], tol: float) -> harness.Contestant:
    A, y = np.asfortranarray(p.A), p.Y[0].copy()
    alpha = float(p.lam[0]) / len(A)

    def run() -> Any:
        return model(alpha=alpha, fit_intercept=False, tol=tol).fit(A, y).coef_

    return harness.Contestant(run, lambda x: np.asarray(x).reshape(1, -1), own_threads=True, note=f"tol={tol:.0e}")


def _tuned(p: Problem, model: Callable[..., Any]) -> harness.Contestant:
    """Returns a contestant with the largest tolerance whose gap is small enough. Each rival defines its tolerance."""
    for step in range(TIGHTER):
        rival = _rival(p, model, TOL * 10 ** (-step / 2))
        if float(p.gaps(rival.read(rival.run()))[0]) <= NEAR * TOL:
            break
    return rival


def _ours(p: Problem, dtype: torch.dtype, kept: bool) -> harness.Contestant:
    A, y = torch.from_numpy(np.asfortranarray(p.A)).to(dtype), torch.from_numpy(p.Y).to(dtype)
    lam = float(p.lam[0])
    solver = fu.solvers.Lasso(A)
    solve = partial(solver.solve, y, lam, tol=TOL) if kept else partial(fu.solvers.lasso, A, y, lam, tol=TOL)
    solve()
    return harness.Contestant(solve, lambda r: r.x.double().numpy(), own_threads=True, ours=True)


def build(case: harness.Case, seed: int) -> harness.Comparison:
    warnings.filterwarnings("ignore", module="(sklearn|celer|skglm)")  # who does not converge is told from the gap
    p = problem(str(case["problem"]), float(case["λ/λ_max"]), seed)
    contestants = {"fastunroll": _ours(p, torch.float64, False), "fastunroll float32": _ours(p, torch.float32, False),
                   "fastunroll, kept": _ours(p, torch.float64, True)}  # fmt: skip
    for name, module in RIVALS.items():
        if find_spec(module.split(".")[0]):
            options = {"max_iter": PASSES} if name == "scikit-learn" else {}
            contestants[name] = _tuned(p, partial(import_module(module).Lasso, **options))

    def check(found: Array) -> dict[str, float]:
        gap = float(p.gaps(found)[0])
        return {"median": gap, "largest": gap, "missed": float(not gap <= TOL), "of": 1, "reached": gap <= NEAR * TOL}

    return harness.Comparison(contestants, check=check)


CASES: list[harness.Case] = [{"problem": name, "λ/λ_max": share} for name, share in product(PROBLEMS, SHARES)]
BENCHMARK = harness.Benchmark(
    name="lasso_single",
    question="How fast is one Lasso problem solved, from the matrix to a duality gap of 1e-6?",
    cases=CASES,
    quick_cases=CASES[:2],
    build=build,
    baseline="scikit-learn",
    checked="duality gap relative to ½‖y‖², in float64",
    x="λ/λ_max",
    panels=("problem",),
    packages=("scikit-learn", "celer", "skglm"),
    left_out=LEFT_OUT,
)

if __name__ == "__main__":
    sys.exit(harness.main(BENCHMARK))
