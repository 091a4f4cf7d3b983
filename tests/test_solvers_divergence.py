"""Iterations that go away from the solution say so; those that converge, from anywhere and by any step, do not."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import fastunroll as fu
import pytest
import torch
from problems import Opaque, objective, sparse_problem
from torch import Tensor

S = fu.solvers


def watching(solver: Callable[..., Tensor], **options: Any) -> Callable[..., Tensor]:
    return lambda *a, **o: solver(*a, **o, **options, history=S.History())


def of_operator(solver: Callable[..., Tensor], **options: Any) -> Callable[..., Tensor]:
    return lambda A, *a, **o: solver(Opaque(A), *a, **o, **options)


STEPPING: dict[str, Callable[..., Tensor]] = {
    "ista": S.ista,
    "fista": S.fista,
    "iterates of ista": lambda *a, **o: S.ista(*a, **o, return_iterates=True)[-1],
    "iterates of fista": lambda *a, **o: S.fista(*a, **o, return_iterates=True)[-1],
    "ista that watches": watching(S.ista),
    "fista that watches": watching(S.fista),
    "restart": watching(S.fista, restart=True),
    "ista of an operator": of_operator(S.ista),
    "fista of an operator": of_operator(S.fista),
}
MESSAGE = (
    r"^{name}: {count} of 6 samples diverged, to an objective above that of where they started or to no number: give "
    r"a step of at most 1/‖A‖², and check that A.adjoint is the adjoint of A$"
)


def lipschitz(A: Tensor) -> float:
    return float(torch.linalg.matrix_norm(A.to(torch.complex128), 2)) ** 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128], ids=str)
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("factor", "iterations"), [(2.5, 100), (10.0, 16), (1e3, 200), (1e8, 4)])
@pytest.mark.parametrize("name", STEPPING)
def test_a_step_that_is_too_large(name: str, factor: float, iterations: int, plain: bool, dtype: torch.dtype) -> None:
    A, y, lam = sparse_problem(20, 40, 6, dtype)
    y[2] = 0  # whose solution is zero at once
    one = float(lam.max())
    solver = name.split()[2 if "iterates" in name else 0].replace("restart", "fista")
    rule = MESSAGE.format(name=solver, count=5)
    with fu.ops.plain() if plain else torch.no_grad(), pytest.warns(S.ConvergenceWarning, match=rule) as record:
        STEPPING[name](A, y, one / 10, iterations=iterations, step=factor / lipschitz(A))
    assert len(record) == 1
    assert record[0].filename == __file__


def test_a_diverged_sample_is_counted_alone() -> None:
    """Of blocks of A that need different steps, each sample meets one."""
    A = torch.block_diag(torch.eye(5), 10 * torch.eye(5)).double()
    y = torch.zeros(6, 10, dtype=torch.float64)
    y[:4, :5], y[4:, 5:] = 1.0, 1.0
    for solver in (S.ista, watching(S.ista)):
        with pytest.warns(S.ConvergenceWarning, match=MESSAGE.format(name="ista", count=2)):
            solver(A, y, 0.01, iterations=40, step=1.0)


def test_diverged_and_not_converged_is_one_warning() -> None:
    """With a tolerance too, and where a callback ended the run; what has converged has not diverged."""
    A, y, lam = sparse_problem(20, 40, 6)
    history = S.History()
    options: dict[str, Any] = {"step": 10 / lipschitz(A), "iterations": 50, "tol": 1e-4}
    for more in ({"history": history}, {"callback": lambda i, x: i == 20}):
        with pytest.warns(S.ConvergenceWarning) as record:
            S.fista(A, y, lam, **options, **more)
        assert [str(w.message).split(",")[0] for w in record] == ["fista: 6 of 6 samples diverged"]
    assert history.samples is not None
    assert not history.samples.converged.any()


def test_amp_on_a_matrix_that_it_is_not_for() -> None:
    A, y, _ = sparse_problem(20, 40, 6)
    rule = "^amp: 6 of 6 samples diverged, .*: AMP is for large A with .*: damp it with damping < 1, or use fista$"
    for call in (
        lambda: S.amp(3 * A, y, iterations=40),
        lambda: S.amp(3 * A, y, iterations=40, history=S.History()),
        lambda: S.amp(Opaque(3 * A), y, iterations=40),
        lambda: S.amp(3 * A, 1e200 * y, iterations=40),
    ):
        with pytest.warns(S.ConvergenceWarning, match=rule):
            call()


def test_admm_whose_solve_is_wrong() -> None:
    A, y, _ = sparse_problem(20, 40, 6)
    with pytest.warns(S.ConvergenceWarning, match=r"^admm: 6 of 6 samples diverged, .*solve\(b, rho\) solves"):
        S.admm(Opaque(A), y, 0.1, rho=0.1, adaptive=False, iterations=60, solve=lambda b, rho: 30 * b)


def test_what_is_not_finite_before_is_no_divergence() -> None:
    """NaN of y or of a start stays in its sample, and A with NaN is no matter of steps."""
    A, y, _ = sparse_problem(20, 40, 6)
    x0 = torch.zeros(6, 40, dtype=torch.float64)
    y[1, 3], x0[2, 5] = torch.nan, torch.inf
    for solver in (S.ista, S.fista, watching(S.ista), lambda *a, **o: S.amp(*a[:2], **o)):
        assert torch.isfinite(solver(A, y, 0.1, iterations=9, x0=x0)[[0, 3, 4, 5]]).all()
    nothing = torch.full_like(A, torch.nan)
    assert S.fista(nothing, y, 0.1, iterations=9, step=0.1).isnan().any()
    assert S.amp(nothing, y, iterations=9).isnan().any()


MATRICES: dict[str, Callable[[], Tensor]] = {
    "random": lambda: torch.randn(30, 60) / 30**0.5,
    "tall": lambda: torch.randn(60, 30),
    "ill-conditioned": lambda: torch.linalg.qr(torch.randn(40, 30))[0] @ torch.diag(torch.logspace(0, -5, 30)),
    "positive": lambda: torch.rand(30, 60),
    "coherent": lambda: torch.exp(-(torch.arange(50.0)[:, None] - torch.arange(50.0)).square() / 18),
    "duplicates": lambda: torch.randn(20, 15).repeat(1, 3),
    "of rank one": lambda: torch.randn(20, 1) @ torch.randn(1, 40),
    "large": lambda: 1e6 * torch.randn(20, 40),
    "small": lambda: 1e-6 * torch.randn(20, 40),
}


def converging(A: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """y, λ and starts, far from and near to the solution, and at it."""
    n = A.shape[1]
    truth = torch.randn(4, n) * (torch.rand(4, n) < 0.1)
    for y in (truth @ A.mT, truth @ A.mT + 0.1 * torch.randn(4, A.shape[0])):
        most = (y @ A).abs().amax(-1, keepdim=True)
        for share in (0.0, 0.1):
            lam = share * most
            solution = S.fista(A, y, lam, tol=1e-30, iterations=200, restart=True)
            for x0 in (None, truth, truth + 1e-3 * torch.randn(4, n), 10 * torch.randn(4, n), solution):
                yield y, lam, x0


@pytest.mark.parametrize("name", MATRICES)
def test_no_false_alarm(name: str) -> None:
    """The objective is never above that of zero and of the start, to rounding, by what is taken for divergence."""
    A = MATRICES[name]()
    largest = lipschitz(A)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*diverged", category=S.ConvergenceWarning)
        warnings.filterwarnings("ignore", message=".*did not reach", category=S.ConvergenceWarning)
        for y, lam, x0 in converging(A):
            one = float(lam.mean())
            for iterations in (1, 25):
                options: dict[str, Any] = {"iterations": iterations, "x0": x0}
                for factor in (None, 1.0, 1.9):
                    S.ista(A, y, one, **options, step=None if factor is None else factor / largest)
                for factor in (None, 0.1, 1.05):
                    x = S.fista(A, y, one, **options, step=None if factor is None else factor / largest)
                    highest = objective(torch.zeros_like(x), y, A, one)
                    if x0 is not None:
                        highest = torch.maximum(highest, objective(x0, y, A, one))
                    assert (objective(x, y, A, one) <= 1.001 * highest + 1e-30).all()
            S.fista(A, y, lam, iterations=30, x0=x0, restart=True, monotone=True)
            for rho in (None, 1e-3 * largest, 10 * largest):
                S.admm(A, y, lam, iterations=7, x0=x0, rho=rho, relaxation=1.9)
            for ratio in (1e-4, 0.1, 1.0, 10.0, 1e4):
                S.primal_dual(A, y, lam, iterations=9, x0=x0, tau=ratio / largest**0.5)


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.5])
@pytest.mark.parametrize("damping", [1.0, 0.5])
def test_no_false_alarm_of_amp(alpha: float, damping: float) -> None:
    """On matrices that it is for, with and without noise."""
    A = torch.randn(100, 200) / 10
    truth = torch.randn(8, 200) * (torch.rand(8, 200) < 0.05)
    for noise in (0.0, 0.1, 1.0):
        y = truth @ A.mT + noise * torch.randn(8, 100)
        for x0 in (None, truth, 10 * torch.randn(8, 200)):
            for iterations in (1, 2, 5, 40):
                S.amp(A, y, alpha=alpha, damping=damping, iterations=iterations, x0=x0)


@pytest.mark.parametrize("name", ["ista", "fista"])
def test_unrolled_gradients_are_as_before(name: str) -> None:
    """The look at the result is no part of the graph."""
    A, y, _ = sparse_problem(5, 7, 3)
    leaves = [t.clone().requires_grad_() for t in (A, y)]
    solve = STEPPING[name]
    assert torch.autograd.gradcheck(lambda A, y: solve(A, y, 0.05, iterations=5, step=0.1), leaves)
