"""The Lasso: gaps that hold, the answers of others, and bits that depend on a sample alone."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from fastunroll.solvers import lasso_cached
from hypothesis import given
from hypothesis import strategies as st

Array = np.ndarray[Any, np.dtype[Any]]
KINDS = ["plain", "coherent", "duplicates", "zeros", "scaled", "integers", "low rank"]
# The share of rounding in a gap that is calculated in single precision: of ½‖y‖², and of the gap.
ROUNDING = {np.float32: (1e-9, 2e-3), np.float64: (1e-12, 1e-6)}


@dataclass(frozen=True)
class Problem:
    A: Array
    Y: Array  # (samples, m)
    lam: Array
    options: dict[str, Any]

    def solver(self) -> fu.solvers.Lasso:
        return fu.solvers.Lasso(self.A, **self.options)

    def one(self, i: int) -> tuple[Array, Array, Array, float, float, bool]:
        """A, y, λw, λ, μ and whether x ≥ 0, of sample i, in double precision."""
        weights = self.options.get("weights", np.ones(self.A.shape[1]))
        lam = float(self.lam[i])
        ridge, nonnegative = self.options.get("ridge", 0.0), self.options.get("nonnegative", False)
        return self.A.astype(float), self.Y[i].astype(float), lam * weights.astype(float), lam, ridge, nonnegative

    def primal(self, i: int, x: Array) -> float:
        A, y, limit, _, ridge, _ = self.one(i)
        residual, x = y - A @ x, x.astype(float)
        return float((residual @ residual + ridge * x @ x) / 2 + limit @ np.abs(x))

    def dual(self, i: int, x: Array) -> float:
        """The dual objective at the best multiple of the residual of x, that of the rows √μ I, 0 of the ridge in it."""
        A, y, limit, _, ridge, nonnegative = self.one(i)
        x = x.astype(float)
        residual = y - A @ x
        r = residual @ A - ridge * x
        power, along = residual @ residual + ridge * x @ x, residual @ y
        size = r if nonnegative else np.abs(r)
        bound = min((b / s for b, s in zip(limit, size, strict=True) if s > 0), default=np.inf)
        s = max(0.0, min(along / power if power > 0 else 1.0, bound))
        return float(s * along - s * s * power / 2)

    def gap(self, i: int, x: Array, other: Array | None = None) -> float:
        """How far x is from the optimum at most, over ½‖y‖²: every dual point is a bound, that of ``other`` too."""
        energy = float(self.Y[i].astype(float) @ self.Y[i].astype(float)) / 2
        dual = self.dual(i, x) if other is None else max(self.dual(i, x), self.dual(i, other))
        return (self.primal(i, x) - dual) / (energy or 1.0)


def dictionary(rng: np.random.Generator, kind: str, m: int, n: int) -> Array:
    A = rng.standard_normal((m, n))
    if kind == "coherent":
        A += 5 * rng.standard_normal((m, 1))
    elif kind == "duplicates":
        A[:, n // 2 :] = A[:, : n - n // 2]
    elif kind == "zeros":
        A[:, ::3] = 0
    elif kind == "scaled":
        A *= 10.0 ** rng.uniform(-6, 6, n)
    elif kind == "integers":
        A = rng.integers(-1, 2, (m, n)).astype(float)
    elif kind == "low rank":
        A = rng.standard_normal((m, 2)) @ rng.standard_normal((2, n))
    return A


@st.composite
def problems(draw: st.DrawFn, dtypes: tuple[type, ...] = (np.float32, np.float64), kinds: list[str] = KINDS) -> Problem:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind, dtype = draw(st.sampled_from(kinds)), draw(st.sampled_from(dtypes))
    m, n = draw(st.sampled_from([1, 2, 7, 40, 130])), draw(st.sampled_from([1, 2, 17, 65, 200]))
    samples = draw(st.sampled_from([1, 3, 70]))
    A = dictionary(rng, kind, m, n).astype(dtype)
    if draw(st.booleans()):
        Y = rng.standard_normal((samples, m))
    else:
        x = rng.standard_normal((samples, n)) * (rng.random((samples, n)) < 0.1)
        Y = x @ A.T.astype(float) + 0.01 * np.abs(A).max() * rng.standard_normal((samples, m))
    if kind != "scaled" and draw(st.booleans()):
        Y = Y * 10.0 ** rng.uniform(-20, 20, (samples, 1))
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        options["weights"] = rng.uniform(0.1, 3, n).astype(dtype)
    if draw(st.booleans()):
        options["nonnegative"] = True
    if draw(st.booleans()):
        options["ridge"] = draw(st.sampled_from([1e-3, 1.0]))
    Y = Y.astype(dtype)
    largest = fu.solvers.Lasso(A, **options).lambda_max(Y)
    lam = largest * np.array(draw(st.sampled_from([1.5, 0.999, 0.5, 0.1, 0.01, 0.001])), dtype)
    return Problem(A, Y, np.where(lam > 0, lam, 1 + np.abs(Y).max(1)), options)


def check(p: Problem, result: Any, tol: float) -> None:
    assert result.x.dtype == result.gap.dtype == p.A.dtype
    assert result.converged.all(), (result, result.gap, result.iterations)
    # Single precision rounds x: what bounds the objective is then the dual point of what it was rounded from.
    wide = {name: v.astype(float) if name == "weights" else v for name, v in p.options.items()}
    exact = fu.solvers.lasso(p.A.astype(float), p.Y.astype(float), p.lam.astype(float), tol=1e-12, **wide).x
    absolute, share = ROUNDING[p.A.dtype.type]
    for i, x in enumerate(result.x):
        gap, said = p.gap(i, x, exact[i]), float(result.gap[i])
        assert gap <= tol * (1 + share) + absolute
        assert said >= gap * (1 - share) - absolute
        assert not p.options.get("nonnegative") or (x >= 0).all()
        assert not x[~p.A.any(0)].any()


@pytest.mark.parametrize("tol", [1e-6, 1e-9])
@given(p=problems())
def test_gap(tol: float, p: Problem) -> None:
    """To 1e-9 single precision is finished in double."""
    check(p, p.solver().solve(p.Y, p.lam, tol=tol), tol)


@given(p=problems(dtypes=(np.float64,), kinds=["plain", "duplicates", "zeros", "integers"]))
def test_gap_close_to_rounding(p: Problem) -> None:
    check(p, p.solver().solve(p.Y, p.lam, tol=1e-11), 1e-11)


@given(p=problems(), start=st.sampled_from(["near", "dense", "far", "overflowing", "NaN", "negative"]))
def test_start(p: Problem, start: str) -> None:
    """Whatever it starts from, the solution is as good."""
    rng = np.random.default_rng(0)
    x0 = p.solver().solve(p.Y, p.lam).x
    noise = rng.standard_normal(x0.shape).astype(x0.dtype)
    size = np.abs(p.Y).max(1, keepdims=True)
    if start == "near":
        x0 = x0 * (1 + noise / 100)
    elif start == "dense":
        x0 = noise * size
    elif start == "far":
        x0 = 1e6 * noise * size
    elif start == "overflowing":
        x0 = np.full_like(x0, np.finfo(x0.dtype).max / 4)
    elif start == "NaN":
        x0 = np.where(noise > 0, np.nan, x0)
    else:
        x0 = -np.abs(x0) - size
    check(p, p.solver().solve(p.Y, p.lam, x0=x0.astype(p.A.dtype)), 1e-6)


def sparse(m: int, n: int, samples: int, dtype: type = np.float64, seed: int = 0, **options: Any) -> Problem:
    rng = np.random.default_rng(seed)
    A, Y = rng.standard_normal((m, n)).astype(dtype), rng.standard_normal((samples, m)).astype(dtype)
    largest = fu.solvers.Lasso(A, **options).lambda_max(Y)
    return Problem(A, Y, largest * np.array(0.1, dtype), options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_start_from_the_solution(dtype: type) -> None:
    p = sparse(40, 200, 20, dtype)
    solver = p.solver()
    first = solver.solve(p.Y, p.lam)
    again = solver.solve(p.Y, p.lam, x0=first.x)
    assert (first.iterations > 20).all()
    assert (again.iterations <= 3).all()
    assert again.converged.all()
    nearby = solver.solve(p.Y, p.lam * np.array(0.97, dtype), x0=first.x)
    assert nearby.iterations.sum() < first.iterations.sum() / 2


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lambda_max(dtype: type, nonnegative: bool) -> None:
    p = sparse(30, 70, 50, dtype, nonnegative=nonnegative, weights=np.linspace(0.5, 2, 70).astype(dtype))
    solver = p.solver()
    largest = solver.lambda_max(p.Y)
    assert largest.shape == (50,)
    assert not solver.solve(p.Y, largest).x.any()
    assert not solver.solve(p.Y, largest * np.array(2, dtype)).x.any()
    assert (solver.solve(p.Y, largest * np.array(0.99, dtype), tol=1e-7).x != 0).any(1).all()
    correlation = (p.Y @ p.A) / p.options["weights"]
    wanted = (correlation if nonnegative else np.abs(correlation)).max(1)
    np.testing.assert_allclose(largest, wanted, rtol=1e-5)
    np.testing.assert_array_equal(fu.solvers.lambda_max(p.A, p.Y), sparse_max(p.A, p.Y))


def sparse_max(A: Array, Y: Array) -> Array:
    return fu.solvers.Lasso(A, weights=np.ones(A.shape[1], A.dtype)).lambda_max(Y)


@pytest.mark.parametrize("together", [False, True])
def test_path(monkeypatch: pytest.MonkeyPatch, together: bool) -> None:
    """As one batch, or each λ from the one before."""
    monkeypatch.setattr(sys.modules["fastunroll.solvers.lasso"], "pays", lambda A, samples: together)
    p = sparse(30, 70, 5)
    lams, results = fu.solvers.lasso_path(p.A, p.Y, count=12, least=0.02, tol=1e-8)
    assert lams.shape == (12, 5)
    assert (np.diff(lams, axis=0) < 0).all()
    np.testing.assert_allclose(lams[-1], 0.02 * lams[0])
    np.testing.assert_array_equal(lams[0], p.solver().lambda_max(p.Y))
    cold = 0
    for lam, found in zip(lams, results, strict=True):
        check(Problem(p.A, p.Y, lam, {}), found, 1e-8)
        cold += p.solver().solve(p.Y, lam, tol=1e-8).iterations.sum()
    assert not results[0].x.any()
    made = sum(found.iterations.sum() for found in results)
    assert made == cold if together else made < cold
    _, positive = fu.solvers.lasso_path(p.A, p.Y, count=3, nonnegative=True, ridge=0.5, max_iter=5000)
    assert all((found.x >= 0).all() and found.converged.all() for found in positive)
    own, two = fu.solvers.lasso_path(p.A, p.Y[0], lams=[1.0, 0.5])
    assert own == [1.0, 0.5]
    lazy = [*torch._neg_view(torch.tensor([-1.0, -0.5]))]  # a list of tensors is none of numbers for NumPy
    np.testing.assert_array_equal(fu.solvers.lasso_path(p.A, p.Y[0], lams=lazy)[1][1].x, two[1].x)
    np.testing.assert_array_equal(two[0].x, p.solver().solve(p.Y[0], 1.0).x)


PLAIN = ["plain", "duplicates", "zeros"]


@given(p=problems(dtypes=(np.float64,), kinds=PLAIN))
def test_scikit_learn(p: Problem) -> None:
    """It divides the square by 2m: ½‖Ax − y‖²/m + α ρ‖x‖₁ + ½α(1 − ρ)‖x‖², so α = (λ + μ)/m and ρ = λ/(λ + μ)."""
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    from sklearn.linear_model import ElasticNet, Lasso

    assert_agrees(p, lambda A, y, lam, ridge, positive: (
        ElasticNet((lam + ridge) / len(y), l1_ratio=lam / (lam + ridge), fit_intercept=False, positive=positive,
                   tol=1e-12, max_iter=20000).fit(A, y).coef_
        if ridge else Lasso(lam / len(y), fit_intercept=False, positive=positive, tol=1e-12, max_iter=20000)
        .fit(A, y).coef_
    ))  # fmt: skip


@given(p=problems(dtypes=(np.float64,), kinds=["plain", "zeros"]))
def test_celer(p: Problem) -> None:
    celer = pytest.importorskip("celer", reason="needs celer, an independent solver with working sets")
    plain = Problem(p.A, p.Y, p.lam, {k: v for k, v in p.options.items() if k == "nonnegative"})
    assert_agrees(plain, lambda A, y, lam, ridge, positive: (
        celer.Lasso(lam / len(y), fit_intercept=False, positive=positive, tol=1e-10).fit(A, y).coef_
    ))  # fmt: skip


def assert_agrees(p: Problem, solve: Any) -> None:
    """The objectives, to what both are certified to."""
    options = {name: value for name, value in p.options.items() if name != "weights"}
    p = Problem(p.A, p.Y, p.lam, options)
    tol = 1e-9
    for i in range(min(3, len(p.Y))):
        size = np.abs(p.Y[i]).max() or 1  # others stop at sizes that are not relative to the data
        one = Problem(p.A, p.Y[i : i + 1] / size, p.lam[i : i + 1] / size, options)
        A, y, _, lam, ridge, nonnegative = one.one(0)
        ours = one.solver().solve(y, lam, tol=tol)
        assert bool(ours.converged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it does not converge, which its gap says too
            theirs = np.asarray(solve(A, y, lam, ridge, nonnegative), dtype=float)
        difference = abs(one.primal(0, ours.x) - one.primal(0, theirs))
        assert difference <= (tol + one.gap(0, theirs, ours.x)) * (y @ y / 2) + 1e-14
        assert one.gap(0, theirs, ours.x) < 1e-2  # or it says nothing


@pytest.mark.parametrize("gram", [False, True])
@pytest.mark.parametrize("options", [{}, {"nonnegative": True}, {"ridge": 0.5}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_bits(native: Any, dtype: torch.dtype, options: dict[str, Any], gram: bool) -> None:
    """Of a sample, whatever is beside it, on whatever threads and instruction set; its second precision too."""
    A, Y = torch.randn(37, 133, dtype=dtype), torch.randn(150, 37, dtype=dtype)
    Y[::3] *= 1e-12
    lam = 0.05 * fu.solvers.Lasso(A, **options).lambda_max(Y)
    x0 = torch.where(torch.rand(150, 133) < 0.1, 0.1 * torch.randn(150, 133), 0.0).to(dtype) * Y.abs().amax(1)[:, None]

    kept = fu.solvers.Lasso(A, gram=gram, **options)  # which finds columns of other samples, perhaps

    def found(rows: list[int], tol: float, start: bool) -> list[torch.Tensor]:
        solver = kept if len(rows) % 2 else fu.solvers.Lasso(A, gram=gram, **options)
        r = solver.solve(Y[rows], lam[rows], tol=tol, x0=x0[rows] if start else None)
        return [r.x, r.gap, r.iterations]

    everything = list(range(150))
    for tol, start in ((1e-6, False), (1e-9, False), (1e-6, True)):
        torch.set_num_threads(1)
        whole = found(everything, tol, start)
        for rows in ([0], [149], [3, 77], [5, 4, 3], list(range(17, 90)), everything[::-1], [8] * 130):
            assert all(torch.equal(a, b[rows]) for a, b in zip(found(rows, tol, start), whole, strict=True))
        for threads in (2, 3, 7):
            torch.set_num_threads(threads)
            assert all(torch.equal(a, b) for a, b in zip(found(everything, tol, start), whole, strict=True))
        torch.set_num_threads(2)
        chosen = native.instruction_set()
        for name in native.compiled_instruction_sets():
            try:
                native.use_instruction_set(name)
            except ValueError:
                continue  # this processor does not have it
            other = found(everything, tol, start)
            assert (other[1] <= tol).all()
            if name != "baseline":  # which has no fused multiply-add on x86-64
                assert all(torch.equal(a, b) for a, b in zip(other, whole, strict=True))
        native.use_instruction_set(chosen)


@pytest.mark.parametrize("options", [{}, {"nonnegative": True}, {"ridge": 0.3}, {"weights": True}], ids=str)
@pytest.mark.parametrize(("dtype", "tol"), [(np.float64, 1e-8), (np.float32, 1e-6)])
def test_without_a_gram_matrix(monkeypatch: pytest.MonkeyPatch, dtype: type, tol: float, options: Any) -> None:
    """Plain PyTorch, which solves what is on other devices."""
    if "weights" in options:
        options = {"weights": np.linspace(0.5, 2, 70).astype(dtype)}
    p = sparse(30, 70, 20, dtype, **options)
    native = p.solver().solve(p.Y, p.lam, tol=tol)
    monkeypatch.setattr(lasso_cached, "is_supported", lambda A: False)
    plain = p.solver().solve(p.Y, p.lam, tol=tol)
    check(p, plain, tol)
    assert (plain.iterations != native.iterations).any()
    for i in range(20):
        energy = p.Y[i].astype(float) @ p.Y[i].astype(float) / 2
        assert abs(p.primal(i, plain.x[i]) - p.primal(i, native.x[i])) <= 2 * tol * energy
    dense = p.solver().solve(p.Y, p.lam, tol=tol, x0=np.ones_like(native.x))
    check(p, dense, tol)


def test_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain PyTorch takes samples some at a time, and so gathers columns."""
    p = sparse(30, 70, 50, nonnegative=True)
    monkeypatch.setattr(lasso_cached, "is_supported", lambda A: False)
    whole = p.solver().solve(p.Y, p.lam, tol=1e-8)
    monkeypatch.setattr("fastunroll.solvers.lasso_batched.CHUNK", 1000)
    parts = p.solver().solve(p.Y, p.lam, tol=1e-8)
    check(p, parts, 1e-8)
    np.testing.assert_allclose(parts.x, whole.x, atol=1e-3)
