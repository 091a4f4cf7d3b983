"""Lasso problems at the limits of a precision: of small λ, of large and small numbers, and wrong starts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
from fastunroll.solvers import lasso_cached
from hypothesis import given
from hypothesis import strategies as st

Array = np.ndarray[Any, np.dtype[Any]]
pytestmark = pytest.mark.filterwarnings("ignore::fastunroll.solvers.ConvergenceWarning")


def cosines_and_patches(samples: int, seed: int = 0) -> tuple[Array, Array]:
    """An overcomplete cosine transform of smooth 8×8 patches without their means."""
    waves = np.cos(np.pi * (np.arange(8)[:, None] + 0.5) * np.arange(16) / 16)
    D = np.kron(waves, waves)
    walks = np.random.default_rng(seed).standard_normal((samples, 8, 8)).cumsum(1).cumsum(2).reshape(samples, 64)
    return (D / np.linalg.norm(D, axis=0)).astype(np.float32), (walks - walks.mean(1, keepdims=True)).astype(np.float32)


def true_gaps(A: Array, Y: Array, lam: Array, x: Array) -> Array:
    A, Y, lam, x = (v.astype(float) for v in (A, Y, lam, x))
    residual = Y - x @ A.T
    r, power = residual @ A, (residual**2).sum(1)
    s = np.minimum((residual * Y).sum(1) / power, lam / np.abs(r).max(1))
    primal = power / 2 + lam * np.abs(x).sum(1)
    dual = s * (residual * Y).sum(1) - s**2 * power / 2
    return (primal - dual) / ((Y**2).sum(1) / 2)


@pytest.mark.parametrize("share", [1e-3, 1e-4, 1e-5])
def test_small_lambda(share: float) -> None:
    """Newton's steps diverge in single precision for some samples; the others' bits do not depend on them."""
    D, P = cosines_and_patches(1500)
    lam = (share * fu.solvers.lambda_max(D, P)).astype(np.float32)
    result = fu.solvers.lasso(D, P, lam, max_iter=20_000)
    assert result.converged.all()
    assert np.abs(result.x).max() < 100
    assert true_gaps(D, P, lam, result.x).max() <= 1.1e-6


@pytest.mark.parametrize("tol", [1e-1, 1e-6])
def test_more_steps_never_make_it_worse(tol: float) -> None:
    rng = np.random.default_rng(1)
    A = rng.standard_normal((250, 500)).astype(np.float32) / np.float32(250**0.5)
    Y = rng.standard_normal((24, 250)).astype(np.float32)
    gaps = [fu.solvers.lasso(A, Y, 2e-6, tol=tol, max_iter=most).gap for most in (500, 2000, 10_000)]
    assert all((np.maximum(after, tol) <= np.maximum(before, tol)).all() for before, after in pairwise(gaps))
    assert (gaps[-1] <= tol).all()


def test_lambda_below_what_double_precision_can_do() -> None:
    """What is returned is the best that was seen, with its gap, and finite."""
    rng = np.random.default_rng(1)
    A, Y = rng.standard_normal((100, 200)), rng.standard_normal((50, 100))
    lam = 1e-13 * fu.solvers.lambda_max(A, Y)
    result = fu.solvers.lasso(A, Y, lam, tol=1e-13, max_iter=3000)
    assert np.isfinite(result.x).all()
    assert (result.gap <= 1).all()
    assert (result.converged == (result.gap <= 1e-13)).all()
    np.testing.assert_allclose(result.gap, true_gaps(A, Y, lam, result.x), rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("start", [None, 1e6])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("options", [{}, {"nonnegative": True}, {"ridge": 1e-30}, {"weights": 1}], ids=str)
@pytest.mark.parametrize("lam", [1e-15, 1e-30])
def test_nothing_is_worse_than_zero(
    monkeypatch: pytest.MonkeyPatch, lam: float, options: dict[str, Any], plain: bool, start: float | None, dtype: type
) -> None:
    """However small λ and however bad the start: the gap between x = 0 and the dual point 0 is 1."""
    if plain:
        monkeypatch.setattr(lasso_cached, "LARGEST_GRAM", 0)
    rng = np.random.default_rng(0)
    A, Y = (rng.standard_normal(shape).astype(dtype) for shape in ((30, 60), (12, 30)))
    x0 = None if start is None else (start * np.abs(rng.standard_normal((12, 60)))).astype(dtype)
    weights = {"weights": np.ones(60, dtype)} if "weights" in options else options
    result = fu.solvers.lasso(A, Y, lam, x0=x0, max_iter=1000, **weights)
    primal = ((Y - result.x.astype(float) @ A.T) ** 2).sum(1) / (Y.astype(float) ** 2).sum(1)
    assert (result.gap <= 1).all()
    assert (primal <= 1 + 1e-6).all()


@pytest.mark.parametrize("most", [1, 2, 5])
def test_a_start_of_no_use_gives_no_larger_gap_than_zero(most: int) -> None:
    """The gap of x = 0 is (1 − λ/λ_max)²."""
    rng = np.random.default_rng(0)
    A, Y = rng.standard_normal((20, 40)), rng.standard_normal((2000, 20))
    share = 10 ** rng.uniform(-8, -0.005, 2000)
    x0 = rng.standard_normal((2000, 40)) * 10 ** rng.uniform(-2, 3, (2000, 1))
    found = fu.solvers.lasso(A, Y, share * fu.solvers.lambda_max(A, Y), x0=x0, tol=1e-12, max_iter=most)
    assert (found.gap <= (1 - share) ** 2 * (1 + 1e-12)).all()


@given(
    columns=st.integers(-300, 300),
    rows=st.integers(-300, 300),
    plain=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_units(columns: int, rows: int, plain: bool, dtype: type) -> None:
    """A and y of any size: the same problem in other units."""
    largest = 300 if dtype is np.float64 else 36
    columns, rows = (v * largest // 300 for v in (columns, rows))
    if abs(rows - columns) > largest or abs(rows + columns) > largest:
        rows = 0  # x, of size y/A, or λ, of size A y, would not be a number
    rng = np.random.default_rng(0)
    A, Y = rng.standard_normal((10, 20)), rng.standard_normal((4, 10))
    with pytest.MonkeyPatch.context() as patch:
        if plain:  # whose columns have no scales of their own
            columns = max(-largest // 3, min(columns, largest // 3))
            patch.setattr(lasso_cached, "LARGEST_GRAM", 0)
        solver = fu.solvers.Lasso((A * 10.0**columns).astype(dtype))
        y = (Y * 10.0**rows).astype(dtype)
        result = solver.solve(y, np.array(0.1, dtype) * solver.lambda_max(y))
    wanted = fu.solvers.lasso(A, Y, 0.1 * fu.solvers.lambda_max(A, Y), tol=1e-12).x
    assert result.converged.all()
    assert result.x.any(1).all()
    np.testing.assert_allclose(result.x.astype(float) * 10.0 ** float(columns) / 10.0**rows, wanted, atol=0.02)


def test_a_solution_that_is_no_number() -> None:
    rng = np.random.default_rng(0)
    A, Y = (1e-3 * rng.standard_normal((30, 60))).astype(np.float32), np.full((4, 30), 3e37, np.float32)
    result = fu.solvers.lasso(A, Y, 0.1 * fu.solvers.lambda_max(A, Y))
    assert np.isnan(result.gap).all()
    assert not result.converged.any()
    assert repr(result) == "LassoResult(x=(4, 60), 0 of 4 converged, 4 of them NaN)"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, -1e30])
@pytest.mark.parametrize("plain", [False, True])
def test_wrong_start(monkeypatch: pytest.MonkeyPatch, value: float, plain: bool) -> None:
    """Of no consequence: it is dropped."""
    if plain:
        monkeypatch.setattr(lasso_cached, "LARGEST_GRAM", 0)
    rng = np.random.default_rng(0)
    A, Y = rng.standard_normal((30, 60)).astype(np.float32), rng.standard_normal((4, 30)).astype(np.float32)
    x0 = np.zeros((4, 60), np.float32)
    x0[:, 7] = value
    result = fu.solvers.lasso(A, Y, 1.0, x0=x0)
    assert result.converged.all()
    np.testing.assert_allclose(result.x, fu.solvers.lasso(A, Y, 1.0).x, atol=1e-3)
