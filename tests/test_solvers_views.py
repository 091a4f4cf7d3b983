"""Tensors that torch negates or conjugates only when they are read: solvers read what the views stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from problems import Opaque, sparse_problem
from torch import Tensor

S = fu.solvers


def solve_lasso(**given: Any) -> Tensor:
    solver = S.Lasso(given["A"], weights=given["weights"])
    return solver.solve(given["y"], given["lam"][:, 0], tol=1e-4, x0=given["x0"]).x


def solve_lasso_later(**given: Any) -> Tensor:
    """From a matrix that was something else when the solver was made."""
    solver = S.Lasso(given["A"], weights=given["weights"])
    given["A"].mul_(2)
    found = solver.solve(given["y"], given["lam"][:, 0], tol=1e-4, x0=given["x0"]).x
    given["A"].div_(2)
    return found


def gradient_of_lasso(**given: Any) -> Tensor:
    leaf = given["y"].clone().requires_grad_()
    solver = S.Lasso(given["A"], weights=given["weights"])
    x = solver.solve(leaf, given["lam"][:, 0], tol=1e-4, x0=given["x0"]).x
    return torch.autograd.grad((x * given["x0"]).sum(), leaf)[0]


def gradient_of_fista(**given: Any) -> Tensor:
    leaf = given["y"].clone().requires_grad_()
    x = S.fista(given["A"], leaf, given["lam"], x0=given["x0"], iterations=5)
    return torch.autograd.grad((x * given["x0"].conj()).sum().abs(), leaf)[0]


def certified(**given: Any) -> Tensor:
    start = given["x0"]
    return S.certified(lambda y: start, given["A"], lambda y: given["lam"][:, 0], 1e-4)(given["y"]).x


def iterations(solver: Callable[..., Tensor], **options: Any) -> Callable[..., Tensor]:
    def call(A: Tensor, y: Tensor, lam: Tensor, x0: Tensor, **_: Any) -> Tensor:
        return solver(A, y, lam, x0=x0, iterations=15, **options)

    return call


def operator(solver: Callable[..., Tensor], **options: Any) -> Callable[..., Tensor]:
    def call(A: Tensor, y: Tensor, lam: Tensor, x0: Tensor, **_: Any) -> Tensor:
        return solver(Opaque(A), y, lam, x0=x0, iterations=15, **options)

    return call


def amp(A: Tensor, y: Tensor, lam: Tensor, **options: Any) -> Tensor:
    return S.amp(A, y, **options)


REAL_ONLY: dict[str, Callable[..., Tensor]] = {
    "lasso": solve_lasso,
    "lasso of a matrix that changes": solve_lasso_later,
    "gradient of lasso": gradient_of_lasso,
    "lambda_max": lambda A, y, **_: S.lambda_max(A, y),
    "lasso_path": lambda A, y, weights, **_: S.lasso_path(A, y, count=3, weights=weights, tol=1e-4)[1][-1].x,
    "certified": certified,
    "amp": iterations(amp),
    "damped amp": iterations(amp, damping=0.8),
    "amp of an operator": operator(amp),
}
ANY: dict[str, Callable[..., Tensor]] = {
    "ista": iterations(S.ista),
    "fista": iterations(S.fista),
    "fista that watches": iterations(S.fista, restart=True, monotone=True),
    "fista of an operator": operator(S.fista),
    "gradient of fista": gradient_of_fista,
    "admm": iterations(S.admm),
    "admm of an operator": operator(S.admm),
    "primal_dual": iterations(S.primal_dual),
    "primal_dual of an operator": operator(S.primal_dual),
    "duality_gap": lambda A, y, lam, x0, **_: S.duality_gap(x0, y, A, lam),
    "Dense": lambda A, y, x0, **_: fu.operators.Dense(A).gradient(x0, y),
    "kkt_residual": lambda A, y, lam, x0, **_: fu.losses.kkt_residual(x0, y, A, lam),
}
ARGUMENTS = ["A", "y", "lam", "x0", "weights", "all"]


def arguments(dtype: torch.dtype) -> dict[str, Tensor]:
    A, y, lam = sparse_problem(12, 20, 4, dtype)
    lam = lam.real if lam.is_complex() else lam
    weights = 0.5 + torch.rand(20, dtype=lam.dtype)
    return {"A": A, "y": y, "lam": lam, "x0": 0.1 * torch.randn(4, 20, dtype=dtype), "weights": weights}


def negated(value: Tensor) -> Tensor:
    """``value``, in memory its opposite."""
    view = torch._neg_view(-value)
    assert view.is_neg()
    return view


def conjugated(value: Tensor) -> Tensor:
    """``value``, in memory its conjugate."""
    view = value.conj().resolve_conj().conj() if value.is_complex() else negated(value)
    assert view.is_conj() == value.is_complex()
    return view


def both(value: Tensor) -> Tensor:
    return negated(conjugated(value)) if value.is_complex() else negated(value)


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("name", [*REAL_ONLY, *ANY])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.filterwarnings("ignore::fastunroll.solvers.ConvergenceWarning")
def test_negated_views(name: str, argument: str, plain: bool) -> None:
    check(name, argument, plain, torch.float64, negated)


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("name", ANY)
@pytest.mark.parametrize("view", [negated, conjugated, both])
@pytest.mark.filterwarnings("ignore::fastunroll.solvers.ConvergenceWarning")
def test_views_of_complex_numbers(name: str, argument: str, view: Callable[[Tensor], Tensor]) -> None:
    check(name, argument, False, torch.complex128, view)


def check(name: str, argument: str, plain: bool, dtype: torch.dtype, view: Callable[[Tensor], Tensor]) -> None:
    solve, given = {**REAL_ONLY, **ANY}[name], arguments(dtype)
    lazy = {key: view(value) if argument in (key, "all") else value for key, value in given.items()}
    with fu.ops.plain() if plain else torch.no_grad(), torch.enable_grad():
        wanted = solve(**given)
        found = solve(**lazy)
    assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-12)
    assert wanted.abs().max() > 1e-3


def test_what_the_solver_keeps_of_a_view_follows_it() -> None:
    """A matrix that is changed through the memory behind its view is packed anew."""
    A, y, _ = sparse_problem(12, 20, 4)
    opposite = -A
    solver = S.Lasso(torch._neg_view(opposite))
    before = solver.solve(y, 0.05, tol=1e-8).x
    assert torch.equal(before, S.lasso(A, y, 0.05, tol=1e-8).x)
    opposite.mul_(2)
    assert torch.equal(solver.solve(y, 0.05, tol=1e-8).x, S.lasso(2 * A, y, 0.05, tol=1e-8).x)


def test_a_step_that_is_a_view_of_pictures() -> None:
    """Momenta are made beside a step, which torch may negate only when it is read."""
    A = fu.operators.Fourier(torch.ones(4, 6))
    y, step = A(torch.rand(2, 4, 6)), torch.tensor(0.5)
    view = (-step).clone()._neg_view()
    wanted = fu.solvers.fista(A, y, 0.1, iterations=3, step=step)
    assert view.is_neg()
    assert torch.equal(fu.solvers.fista(A, y, 0.1, iterations=3, step=view), wanted)
