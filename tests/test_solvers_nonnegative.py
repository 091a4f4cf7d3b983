"""The solvers over x ≥ 0: the iterations of the papers, the solution, and its certificate."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import product
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from closeness import relative_error
from problems import Opaque, sparse_problem
from refusals import check_refused
from torch import Tensor

S = fu.solvers
SOLVERS: dict[str, Callable[..., Tensor]] = {
    "ista": S.ista,
    "fista": S.fista,
    "restart": lambda *a, **o: S.fista(*a, **o, restart=True),
    "monotone": lambda *a, **o: S.fista(*a, **o, monotone=True),
    "admm": S.admm,
    "primal_dual": S.primal_dual,
}
FORMS: dict[str, Callable[[Tensor], Any]] = {"matrix": lambda A: A, "operator": Opaque}


def instance(lead: tuple[int, ...], dtype: torch.dtype = torch.float64, m: int = 20, n: int = 40) -> Any:
    """A, y and λ, a number a sample, for which the least x without the constraint has negative values."""
    batch = int(np.prod(lead))
    A, y, lam = sparse_problem(m, n, batch, dtype)
    return A, y.reshape(*lead, m), lam.reshape(*lead, 1)


def plain(name: str, A: Tensor, y: Tensor, lam: Tensor, iterations: int, x: Tensor | None, step: float) -> Tensor:
    """As in the papers."""
    x = y.new_zeros(*y.shape[:-1], A.shape[1]) if x is None else x.clamp_min(0)
    before, t, beta = x, 1.0, 0.0
    if name == "admm":  # with ρ = 1 / step, and no relaxation
        inverse = torch.linalg.inv(A.mT @ A + torch.eye(A.shape[1], dtype=A.dtype) / step)
        u = torch.zeros_like(x)
        for _ in range(iterations):
            solution = (y @ A + (x - u) / step) @ inverse
            x = (solution + u - lam * step).clamp_min(0)
            u = u + solution - x
        return x
    for _ in range(iterations):
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        v = x + (0 if name == "ista" else beta) * (x - before)
        x, before = (v - step * (v @ A.mT - y) @ A - step * lam).clamp_min(0), x
        beta, t = (t - 1) / following, following
    return x


def by_definition(x: Tensor, y: Tensor, A: Tensor, lam: Tensor) -> Tensor:
    """Primal minus dual over ½‖y‖² in double precision: over x ≥ 0, at the best multiple of y − A x that is dual."""
    x, y, A, lam = (t.double() for t in (x, y, A, lam))
    R = y - x @ A.mT
    c = R @ A
    most = torch.where(c > 0, lam / c, torch.inf).amin(-1)
    least = -torch.where(c < 0, lam / -c, torch.inf).amin(-1)
    s = torch.minimum(torch.maximum((R * y).sum(-1) / R.square().sum(-1), least), most)[..., None]
    assert (s * c <= lam * (1 + 1e-12)).all()
    primal = R.square().sum(-1) / 2 + (lam * x).sum(-1)
    dual = (y.square().sum(-1) - (y - s * R).square().sum(-1)) / 2
    return (primal - dual) / (y.square().sum(-1) / 2)


@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["ista", "fista", "admm"])
def test_iterations_of_the_papers(name: str, form: str, lead: tuple[int, ...], starts: bool) -> None:
    """In one call and watched, natively and not, every iterate too."""
    A, y, lam = instance(lead)
    step = 0.9 / float(torch.linalg.matrix_norm(A, 2)) ** 2
    x0 = torch.randn(*lead, 40, dtype=A.dtype) if starts else None
    op = FORMS[form](A)
    if form == "operator":
        op.shape_out = (20,)
    options: dict[str, Any] = {"iterations": 17, "x0": x0, "nonnegative": True}
    options |= {"step": step} if name != "admm" else {"rho": 1 / step, "relaxation": 1.0, "adaptive": False}
    if name == "admm" and form == "operator":
        inverse = torch.linalg.inv(A.mT @ A + torch.eye(40, dtype=A.dtype) / step)
        options["solve"] = lambda b, rho: b @ inverse
    one = lam.mean()
    for given in (one, lam):
        wanted = plain(name, A, y, given, 17, x0, step)
        assert (wanted > 0).any()
        for more, slow in product(({}, {"history": S.History()}), (False, True)):
            with fu.ops.plain() if slow else torch.no_grad():
                assert relative_error(SOLVERS[name](op, y, given, **options, **more), wanted) <= 1e-10
    if name != "admm" and form == "matrix":
        every = SOLVERS[name](A, y, one, **options, return_iterates=True)
        assert (every >= 0).all()
        assert relative_error(every[-1], plain(name, A, y, one, 17, x0, step)) <= 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SOLVERS)
def test_the_solution_and_its_certificate(name: str, form: str, slow: bool, dtype: torch.dtype) -> None:
    A, y, lam = instance((7,), dtype)
    history = S.History()
    with fu.ops.plain() if slow else torch.no_grad():
        x = SOLVERS[name](FORMS[form](A), y, lam, nonnegative=True, tol=1e-5, iterations=20000, history=history)
    assert x.dtype == dtype
    assert (x >= 0).all()
    assert history.samples is not None
    assert history.samples.converged.all()
    rounding = 1e-14 if dtype == torch.float64 else 1e-6
    gaps = by_definition(x, y, A, lam)
    assert (history.samples.gap - gaps).abs().max() <= rounding
    assert history.gap[-1] == pytest.approx(float(gaps.mean()), abs=rounding)
    found = S.duality_gap(x, y, FORMS[form](A), lam, nonnegative=True)
    assert (found - gaps).abs().max() <= rounding
    assert gaps.max() <= 1e-5 + rounding
    solution = S.Lasso(A, nonnegative=True).solve(y, lam[:, 0], tol=1e-9).x
    assert relative_error(x, solution) <= 0.02
    # what is asked of both signs is asked of more, and is another problem
    assert (S.duality_gap(x, y, A, lam) >= found - rounding).all()
    assert (S.fista(A, y, lam, iterations=500) < 0).any()


@pytest.mark.parametrize("form", FORMS)
def test_the_gap_of_any_point_is_a_bound(form: str) -> None:
    """Of random x ≥ 0 too, where R points both ways; where x is negative there is none."""
    A, y, lam = instance((50,))
    optimum = fu.losses.lasso_objective(S.Lasso(A, nonnegative=True).solve(y, lam[:, 0], tol=1e-12).x, y, A, lam)
    for scale in (0.0, 0.01, 1.0, 100.0):
        x = scale * torch.rand(50, 40, dtype=A.dtype)
        gaps = S.duality_gap(x, y, FORMS[form](A), lam, nonnegative=True)
        assert torch.allclose(gaps, by_definition(x, y, A, lam), rtol=1e-9)
        above = fu.losses.lasso_objective(x, y, A, lam) - optimum
        assert (above <= gaps * y.square().sum(-1) / 2 * (1 + 1e-9)).all()
    x[3, 5] = -1e-9
    gaps = S.duality_gap(x, y, FORMS[form](A), lam, nonnegative=True)
    assert torch.isinf(gaps).nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SOLVERS)
def test_differentiable_by_unrolling(name: str, form: str) -> None:
    A, y, lam = instance((3,), m=5, n=7)
    leaves = [t.clone().requires_grad_() for t in (A, y, lam)]
    numbers: dict[str, dict[str, Any]] = {
        "admm": {"rho": 2.0, "adaptive": False}, "primal_dual": {"tau": 0.4, "sigma": 0.5},
    }  # fmt: skip
    options = numbers.get(name, {"step": 0.15})

    def run(A: Tensor, y: Tensor, lam: Tensor) -> Tensor:
        return SOLVERS[name](FORMS[form](A), y, lam, iterations=6, nonnegative=True, **options)

    assert (run(*leaves) > 0).any()
    assert torch.autograd.gradcheck(run, leaves)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("watched", [False, True])
def test_nan_stays_in_its_sample(name: str, form: str, watched: bool) -> None:
    A, y, lam = instance((4,))
    one = float(lam.mean())
    options: dict[str, Any] = {"iterations": 30, "nonnegative": True, **({"adaptive": False} if name == "admm" else {})}

    def run(y: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", S.ConvergenceWarning)
            return SOLVERS[name](FORMS[form](A), y, one, **options, **({"tol": 1e-9} if watched else {}))

    wanted = run(y)
    y[2, 3] = float("nan")
    found = run(y)
    assert found[2].isnan().all()
    assert relative_error(found[[0, 1, 3]], wanted[[0, 1, 3]]) <= 1e-12


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [*SOLVERS, "duality_gap"])
def test_complex_numbers_are_refused(name: str, form: str) -> None:
    A, y, _ = sparse_problem(6, 9, 3, torch.complex64)
    fix = "leave out nonnegative" if form == "matrix" else "let A.adjoint return the real part, if x is real"
    rule = f"nonnegative needs real numbers, since complex ones have no order, but x is torch.complex64: {fix}"

    def call() -> Tensor:
        if name == "duality_gap":
            return S.duality_gap(torch.zeros(3, 9, dtype=y.dtype), y, FORMS[form](A), 0.1, nonnegative=True)
        return SOLVERS[name](FORMS[form](A), y, 0.1, nonnegative=True)

    check_refused((call, TypeError, rule))


def test_real_pictures_of_complex_measurements() -> None:
    """y may be complex where x is real."""

    class Fourier:
        def __call__(self, x: Tensor) -> Tensor:
            return torch.fft.fft(x, norm="ortho")

        def adjoint(self, y: Tensor) -> Tensor:
            return torch.fft.ifft(y, norm="ortho").real

    truth = torch.randn(3, 16, dtype=torch.float64)
    x = S.fista(Fourier(), Fourier()(truth), 0.1, nonnegative=True, step=1.0, iterations=50)
    assert torch.allclose(x, (truth - 0.1).clamp_min(0))


def test_arrays() -> None:
    A, y, lam = (t.numpy() for t in instance((3,)))
    for solver in (S.ista, S.fista, S.admm, S.primal_dual):
        x = solver(A, y, lam, nonnegative=True, iterations=20)
        assert isinstance(x, np.ndarray)
        assert (x >= 0).all()
