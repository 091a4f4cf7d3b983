"""ISTA and FISTA of a y that is infinite somewhere: as in the papers, where A v − y is computed at v itself."""

from __future__ import annotations

from itertools import product

import fastunroll as fu
import pytest
import torch
from problems import sparse_problem
from test_solvers_nonnegative import FORMS

OPTIONS: dict[str, dict[str, bool]] = {"fista": {}, "restart": {"restart": True}, "monotone": {"monotone": True}}
SOLVERS = ["ista", *OPTIONS]


@pytest.mark.parametrize(
    ("name", "form", "lam_by_sample", "learns", "dtype"),
    list(product(SOLVERS, FORMS, (False, True), (False, True), (torch.float32, torch.float64))),
)
def test_infinite_y(name: str, form: str, lam_by_sample: bool, learns: bool, dtype: torch.dtype) -> None:
    """Every entry of Aᵀ y is −∞: with x ≥ 0 the iterates are zero, and the other samples have their own bits."""
    A, y, lam = sparse_problem(9, 7, 5, dtype)
    A = -A.abs()
    lam = lam.reshape(-1, 1) if lam_by_sample else 0.05
    step = 1 / float(torch.linalg.matrix_norm(A, 2)) ** 2
    solve = fu.solvers.ista if name == "ista" else fu.solvers.fista

    def solution(y: torch.Tensor) -> torch.Tensor:
        options = {"step": step, "iterations": 12, "nonnegative": True, **OPTIONS.get(name, {})}
        return solve(FORMS[form](A), y.clone().requires_grad_(learns), lam, **options).detach()

    finite = solution(-y)
    assert finite.any()
    spoiled = -y
    spoiled[2] = torch.inf
    found = solution(spoiled)
    assert torch.equal(found[2], torch.zeros_like(found[2]))
    others = [0, 1, 3, 4]
    assert torch.equal(found[others], finite[others])


def test_infinite_y_of_an_operator_is_seen() -> None:
    """Where iterates are infinite too, they become NaN, as ∞ − ∞ in A x − y is: nothing hides it."""
    A, y, _ = sparse_problem(9, 7, 5, torch.float64)
    y[2, 3] = torch.inf
    for form in FORMS.values():
        found = fu.solvers.fista(form(A), y, 0.05, step=0.01, iterations=5)
        assert found[2].isnan().all()
        assert found[[0, 1, 3, 4]].isfinite().all()
