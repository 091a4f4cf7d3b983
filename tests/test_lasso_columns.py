"""The Lasso from those columns that matter: few samples, wide and sparse matrices, and how they lie in memory."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from fastunroll.solvers import lasso_cached
from hypothesis import given
from test_lasso import Problem, check, problems

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.mark.parametrize("gram", [False, True])
@given(p=problems())
def test_both_ways(gram: bool, p: Problem) -> None:
    """Whatever the number of samples."""
    check(p, fu.solvers.Lasso(p.A, gram=gram, **p.options).solve(p.Y, p.lam, tol=1e-8), 1e-8)


def _wide(m: int, n: int, dtype: type = np.float64, density: float = 1.0, seed: int = 0) -> tuple[Array, Array, float]:
    rng = np.random.default_rng(seed)
    A = (rng.standard_normal((m, n)) * (rng.random((m, n)) < density)).astype(dtype)
    y = (A[:, :5].sum(1) + 0.1 * rng.standard_normal(m)).astype(dtype)
    return A, y, float(0.05 * np.abs(A.T @ y).max())


def _gap(A: Array, y: Array, lam: float, x: Array) -> float:
    A, y, x = A.astype(float), y.astype(float), x.astype(float)
    residual = y - A @ x
    scale = min(1, lam / np.abs(A.T @ residual).max())
    primal = residual @ residual / 2 + lam * np.abs(x).sum()
    dual = y @ y / 2 - (y - scale * residual) @ (y - scale * residual) / 2
    return float((primal - dual) / (y @ y / 2))


def _padded(A: Array) -> Array:
    return np.hstack([A, np.full((len(A), 3), np.nan, A.dtype)])[:, : A.shape[1]]


LAYOUTS: dict[str, Callable[[Array], Any]] = {
    "rows": np.ascontiguousarray,
    "columns": np.asfortranarray,
    "part of rows": _padded,
    "part of columns": lambda A: np.vstack([A, np.full((3, A.shape[1]), np.nan, A.dtype)]).copy("F")[: len(A)],
    "every second": lambda A: np.repeat(A, 2, axis=1)[:, ::2],
    "backwards": lambda A: np.ascontiguousarray(A[:, ::-1])[:, ::-1],
    "tensor": torch.from_numpy,
    "negated tensor": lambda A: torch._neg_view(torch.from_numpy(-A)),
    "expanded": lambda A: torch.from_numpy(A),
}
SPARSE: dict[str, Callable[[Array], Any]] = {
    "csc": sp.csc_array,
    "csc matrix": sp.csc_matrix,
    "csr": sp.csr_array,
    "coo": sp.coo_array,
    "lil": sp.lil_array,
    "bsr": sp.bsr_array,
    "64-bit indices": lambda A: _with_indices(sp.csc_array(A), np.int64),
    "explicit zeros": lambda A: _with_zeros(sp.csc_array(A)),
    "unsorted": lambda A: _backwards(sp.csc_array(A)),
    "duplicates": lambda A: sp.coo_array(
        (np.tile(sp.coo_array(A).data / 2, 2), np.tile(np.vstack(sp.coo_array(A).coords), 2)), A.shape
    ),
    "torch csc": lambda A: torch.from_numpy(A).to_sparse_csc(),
    "torch csr": lambda A: torch.from_numpy(A).to_sparse_csr(),
    "torch coo": lambda A: torch.from_numpy(A).to_sparse_coo(),
}


def _with_indices(A: Any, dtype: type) -> Any:
    A.indices, A.indptr = A.indices.astype(dtype), A.indptr.astype(dtype)
    return A


def _with_zeros(A: Any) -> Any:
    A.data[::7] = 0
    A.data[::7] += 0
    return A


def _backwards(A: Any) -> Any:
    for j in range(A.shape[1]):
        part = slice(A.indptr[j], A.indptr[j + 1])
        A.indices[part], A.data[part] = A.indices[part][::-1].copy(), A.data[part][::-1].copy()
    A.has_sorted_indices = A.has_canonical_format = False
    return A


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", [*LAYOUTS, *SPARSE])
def test_layouts(layout: str, dtype: type) -> None:
    A, y, lam = _wide(40, 301, dtype, density=0.3 if layout in SPARSE else 1.0)
    given = {**LAYOUTS, **SPARSE}[layout](A)
    A = A if layout != "explicit zeros" else given.toarray()
    before = given.copy() if hasattr(given, "indices") and not isinstance(given, torch.Tensor) else None
    result = fu.solvers.lasso(given, torch.from_numpy(y), lam, tol=1e-7)
    assert bool(result.converged)
    assert _gap(A, y, lam, result.x.numpy()) <= 1.01e-7
    if before is not None:  # what is sorted or summed up is a copy
        np.testing.assert_array_equal(given.indices, before.indices)
    largest = fu.solvers.lambda_max(given, torch.from_numpy(y))
    np.testing.assert_allclose(float(largest), np.abs(A.T @ y).max(), rtol=1e-5)


@pytest.mark.parametrize("layout", ["rows", "columns", "part of rows", "part of columns", "csc"])
def test_no_copy(layout: str) -> None:
    A, y, lam = _wide(40, 301)
    given = {**LAYOUTS, **SPARSE}[layout](A)
    solver = fu.solvers.Lasso(given)
    solver.solve(y, lam)
    held = solver._cached._columns._held[0]  # type: ignore[union-attr]
    at = given.data if sp.issparse(given) else given
    assert held.data_ptr() == at.__array_interface__["data"][0]


def test_what_is_held_lives() -> None:
    """The matrix lives as long as the solver, whose native part reads it where it lies."""
    A, y, lam = _wide(40, 301)
    solver = fu.solvers.Lasso(A.copy())
    first = solver.solve(y, lam).x
    gc.collect()
    np.testing.assert_array_equal(solver.solve(y, lam).x, first)
    gone = weakref.ref(solver)
    del solver
    gc.collect()
    assert gone() is None


@pytest.mark.filterwarnings("ignore:lasso. 1 of 4 samples .* NaN or infinity")
def test_batches_of_sparse() -> None:
    A, y, lam = _wide(40, 301, density=0.2)
    Y = np.stack([y, 2 * y, np.zeros_like(y), np.full_like(y, np.nan)]).reshape(2, 2, 40)
    result = fu.solvers.lasso(sp.csc_array(A), Y, lam, nonnegative=True, ridge=0.1, weights=np.linspace(1, 2, 301))
    dense = fu.solvers.lasso(A, Y, lam, nonnegative=True, ridge=0.1, weights=np.linspace(1, 2, 301))
    np.testing.assert_allclose(result.x, dense.x, atol=1e-4)
    assert result.converged.tolist() == [[True, True], [True, False]]
    lams, found = fu.solvers.lasso_path(sp.csc_array(A), y, count=5, tol=1e-8)
    assert all(bool(r.converged) for r in found)
    assert all(_gap(A, y, float(lam), r.x) <= 1.01e-8 for lam, r in zip(lams, found, strict=True))


@pytest.mark.parametrize("width", [0.005, 0.02, 0.03])
@pytest.mark.parametrize("share", [0.1, 0.003, 0.001])
def test_neighbours_nearly_alike(width: float, share: float) -> None:
    """Columns of a blur: as few steps as from the Gram matrix, or not many more."""
    A = np.exp(-((np.linspace(0, 1, 300)[:, None] - np.linspace(0, 1, 1500)) ** 2) / (2 * width**2))
    y = A[:, ::97].sum(1) + 0.01 * np.random.default_rng(0).standard_normal(300)
    lam = share * np.abs(A.T @ y).max()
    results = [fu.solvers.Lasso(A, gram=gram).solve(y, lam) for gram in (False, True)]
    assert all(bool(r.converged) for r in results)
    assert results[0].iterations < 1000 + 2 * results[1].iterations


@pytest.mark.parametrize("size", [1e-300, 1e-155, 1e-20, 1.0, 1e20, 1e150])
@pytest.mark.parametrize("of_y", [1e-150, 1.0, 1e150])
def test_scales(size: float, of_y: float) -> None:
    """No square overflows, or vanishes, of a matrix or of x."""
    A, y, lam = _wide(20, 60)
    wanted = fu.solvers.lasso(A, y, lam, tol=1e-9).x
    largest = np.abs(wanted).max() * (of_y / size)
    if not np.finfo(float).tiny < lam * size * of_y or not largest < np.finfo(float).max:
        return  # there is no such λ, or no such x
    found = fu.solvers.Lasso(A * size, gram=False).solve(y * of_y, lam * size * of_y, tol=1e-9)
    assert bool(found.converged)
    np.testing.assert_allclose(found.x * (size / of_y), wanted, atol=1e-4)


def test_lambda_of_almost_nothing() -> None:
    A = np.random.default_rng(0).standard_normal((20, 60))
    result = fu.solvers.lasso(A, 1e10 * A[:, 0], 3e-308)
    assert bool(result.converged)


@pytest.mark.parametrize("kept", [False, True])
def test_start_of_zeros(kept: bool) -> None:
    A, y, lam = _wide(40, 301)
    solver = fu.solvers.Lasso(A, gram=False)
    if kept:
        solver.solve(y, lam)
    np.testing.assert_array_equal(solver.solve(y, lam, x0=np.zeros(301)).x, fu.solvers.lasso(A, y, lam).x)


@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_use() -> None:
    """Copies, spare room, and a change in place that PyTorch counts."""
    A, y, lam = _wide(40, 301, density=0.3)
    csc = sp.csc_array(A)
    wanted = fu.solvers.lasso(csc, y, lam).x
    for again in (copy.deepcopy, lambda solver: pickle.loads(pickle.dumps(solver))):
        np.testing.assert_array_equal(again(fu.solvers.Lasso(csc)).solve(y, lam).x, wanted)
    roomy = csc.copy()
    roomy.indices = np.concatenate([csc.indices, np.full(7, -1, csc.indices.dtype)])
    roomy.data = np.concatenate([csc.data, np.full(7, np.nan)])
    np.testing.assert_array_equal(fu.solvers.lasso(roomy, y, lam).x, wanted)
    tensor = torch.from_numpy(A).to_sparse_csc()
    solver = fu.solvers.Lasso(tensor)
    solver.solve(torch.from_numpy(y), lam)
    tensor.mul_(2)
    found = solver.solve(torch.from_numpy(y), lam)
    assert bool(found.converged)
    assert _gap(2 * A, y, lam, found.x.numpy()) <= 1.01e-6


def test_small_lambda_on_a_wide_matrix() -> None:
    """λ = 0.005 λ_max, where as many columns are active as there are rows, nearly."""
    A, y, lam = _wide(60, 4000)
    result = fu.solvers.lasso(A, y, lam / 10, tol=1e-8)
    assert bool(result.converged)
    assert _gap(A, y, lam / 10, result.x) <= 1.01e-8


def test_threads_share_what_is_kept() -> None:
    A, _, lam = _wide(60, 900)
    Y = np.random.default_rng(1).standard_normal((16, 60))
    solver = fu.solvers.Lasso(A, gram=False)
    wanted = [fu.solvers.Lasso(A, gram=False).solve(y, lam / 3).x for y in Y]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for found, x in zip(pool.map(lambda y: solver.solve(y, lam / 3).x, Y), wanted, strict=True):
                np.testing.assert_array_equal(found, x)


def test_which_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first samples from columns, the others from the Gram matrix, as soon as it pays; or as one asks for."""
    A, y, lam = _wide(40, 512)
    monkeypatch.setattr(lasso_cached, "SHARE", 1024)  # of 4096 bytes: a fourth sample pays

    def has_gram(solver: fu.solvers.Lasso) -> bool:
        return solver._cached._dictionary is not None  # type: ignore[union-attr]

    solver = fu.solvers.Lasso(A)
    found = []
    for _ in range(5):
        solver.solve(y, lam)
        found.append(has_gram(solver))
    assert found == [False, False, False, True, True]
    for gram in (False, True):
        solver = fu.solvers.Lasso(A, gram=gram)
        solver.solve(np.tile(y, (30, 1)), lam)
        assert has_gram(solver) is gram


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "integers": (lambda: sp.csc_array(np.eye(4, dtype=int)), TypeError, "must be float32 or float64, got int64"),
    "booleans": (lambda: sp.csc_array(np.eye(4, dtype=bool)), TypeError, "must be float32 or float64, got bool"),
    "NaN": (lambda: sp.csc_array(np.diag([1, np.nan, 1, 1])), ValueError, "must be finite"),
    "empty": (lambda: sp.csc_array((4, 0)), ValueError, r"with m, n ≥ 1, got shape \(4, 0\)"),
    "indices": (lambda: _wrong(sp.csc_array(np.eye(4))), ValueError, "not a sparse matrix by columns that makes sense"),
    "half": (lambda: torch.eye(4).half().to_sparse_csc(), TypeError, "must be float32 or float64"),
    "gradient": (lambda: torch.eye(4).to_sparse_coo().requires_grad_(), ValueError, "requires a gradient"),
    "blocks": (lambda: torch.eye(4).to_sparse_bsr((2, 2)), TypeError, "COO, CSR or CSC"),
}


def _wrong(A: Any) -> Any:
    A.indices[2] = 10**6
    A.has_canonical_format = True
    return A


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    make, kind, rule = REFUSED[what]
    with pytest.raises(kind, match=rule):
        fu.solvers.Lasso(make())


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_refused_for_sparse() -> None:
    A = sp.csc_array(np.eye(4))
    with pytest.raises(ValueError, match="leave out gram=True"):
        fu.solvers.Lasso(A, gram=True)
    with pytest.raises(TypeError, match="gram must be"):
        fu.solvers.Lasso(A, gram="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a solution for a sparse A has no gradient"):
        fu.solvers.lasso(A, torch.ones(4, dtype=torch.float64, requires_grad=True), 0.1)  # type: ignore[type-var]
    with torch.no_grad():
        fu.solvers.lasso(A, torch.ones(4, dtype=torch.float64, requires_grad=True), 0.1)  # type: ignore[type-var]
    ones = torch.ones(4, dtype=torch.float64)
    for differentiate in (
        lambda f: torch.func.grad(lambda y: f(y).sum())(ones),
        lambda f: torch.func.jvp(f, (ones,), (ones,)),
    ):
        with pytest.raises(ValueError, match="a solution for a sparse A has no gradient"):
            differentiate(lambda y: fu.solvers.lasso(A, y, 0.1).x)


def test_no_memory_for_a_dense_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before the memory is gone."""
    A, y, lam = _wide(200, 3000)
    monkeypatch.setattr(lasso_cached, "most_columns", lambda m, n: 90)
    with pytest.raises(MemoryError, match=r"more than about 90 nonzeros, .*: use a larger lam"):
        fu.solvers.lasso(A, y, lam / 1000)
    assert bool(fu.solvers.lasso(A, y, 10 * lam).converged)
