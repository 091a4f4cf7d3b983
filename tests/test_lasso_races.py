"""A matrix, or weights, that change while a solver packs them: every call after that sees the change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from fastunroll import sklearn as coding
from fastunroll.solvers import lasso_batched, lasso_cached
from torch import Tensor

# What is made of a matrix, and what the solver reads of it only where that is made.
MADE: dict[str, tuple[Any, str, bool, torch.dtype]] = {
    "native": (lasso_cached.ops, "Dictionary", False, torch.float64),
    "plain": (lasso_cached, "Batched", True, torch.float64),
    "in double precision": (lasso_batched.Problem, "double", False, torch.float32),
}


def interrupted(make: Callable[..., Any], update: Callable[[], object], first: bool) -> Callable[..., Any]:
    """``make``, in the first call of which ``update`` happens before or after its argument is read."""
    updates = [update]

    def call(*arguments: Any, **options: Any) -> Any:
        if first and updates:
            updates.pop()()
        made = make(*arguments, **options)
        if updates:
            updates.pop()()
        return made

    return call


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("of", ["A", "weights"])
@pytest.mark.parametrize("name", MADE)
def test_update_while_a_matrix_is_packed(monkeypatch: pytest.MonkeyPatch, name: str, of: str, first: bool) -> None:
    owner, attribute, plain, dtype = MADE[name]
    A, y, weights = (torch.randn(shape, dtype=dtype) for shape in ((20, 50), (4, 20), (50,)))
    weights.abs_().add_(0.5)
    changed: Tensor = {"A": A, "weights": weights}[of]
    if plain:
        monkeypatch.setattr(lasso_cached, "LARGEST_GRAM", 0)
    solver = fu.solvers.Lasso(A, weights=weights)
    with monkeypatch.context() as patch:
        wrapped = interrupted(getattr(owner, attribute), lambda: changed.mul_(2), first)
        patch.setattr(owner, attribute, wrapped)
        solver.solve(y, 0.5, tol=1e-9)
    found = solver.solve(y, 0.5, tol=1e-9).x
    assert torch.equal(found, fu.solvers.Lasso(A.clone(), weights=weights.clone()).solve(y, 0.5, tol=1e-9).x)


def test_a_solver_that_is_prepared_by_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another thread prepared in the meantime, of a matrix that was the newer one, changes no call under way."""
    A, y = torch.randn(20, 50), torch.randn(4, 20)
    solver, wanted = fu.solvers.Lasso(A), fu.solvers.Lasso(A.clone()).solve(y, 0.5).x
    solver.solve(y, 0.5)
    is_current = lasso_cached.CachedLasso.is_current

    def forgotten(self: lasso_cached.CachedLasso) -> bool:
        answer = is_current(self)
        solver._cached = None
        return answer

    monkeypatch.setattr(lasso_cached.CachedLasso, "is_current", forgotten)
    assert torch.equal(solver.solve(y, 0.5).x, wanted)


def test_a_dictionary_that_changes_while_its_coder_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    D, X = rng.standard_normal((30, 12)), rng.standard_normal((5, 12))
    coder = coding.SparseCoder(D, transform_algorithm="lasso_cd", transform_alpha=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(coding, "Lasso", interrupted(coding.Lasso, lambda: np.multiply(D, 2, out=D), False))
        coder.transform(X)
    found = coder.transform(X)
    assert np.array_equal(found, coding.sparse_encode(X, D, alpha=0.5))
