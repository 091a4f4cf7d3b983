"""Samples of any scale: certificates that hold where squares overflow or vanish, and the same bits in other units."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import fastunroll as fu
import pytest
import torch
from forms import covering
from problems import Opaque, gap, sparse_problem
from torch import Tensor

S = fu.solvers
# 2**-100 and 2**100 are about 1e-30 and 1e30: their squares are nothing and infinite in single precision.
SCALES = [(torch.float32, -100), (torch.float32, -76), (torch.float32, 64), (torch.float32, 100),
          (torch.float64, -700), (torch.float64, 700)]  # fmt: skip
SOLVERS: dict[str, Callable[..., Tensor]] = {
    "ista": S.ista,
    "fista": S.fista,
    "restart": lambda *a, **o: S.fista(*a, **o, restart=True),
    "monotone": lambda *a, **o: S.fista(*a, **o, monotone=True),
    "operator": lambda A, *a, **o: S.fista(Opaque(A), *a, **o),
    "admm": lambda *a, **o: S.admm(*a, **o, adaptive=False),
    "admm of an operator": lambda A, *a, **o: S.admm(Opaque(A), *a, **o, adaptive=False),
    "primal_dual": S.primal_dual,
    "primal_dual of an operator": lambda A, *a, **o: S.primal_dual(Opaque(A), *a, **o),
    "amp": lambda A, y, lam, **o: S.amp(A, y, **o),
}


@pytest.mark.parametrize(("name", "plain", "scale"), covering([*product(SOLVERS, (False, True), SCALES)], 2), ids=str)
@pytest.mark.filterwarnings("ignore::fastunroll.solvers.ConvergenceWarning")
def test_scale_changes_no_bit(name: str, plain: bool, scale: tuple[torch.dtype, int]) -> None:
    """A power of two: all that is seen of a run is the same, in the user's units."""
    dtype, exponent = scale
    A, y, lam = sparse_problem(20, 40, 6, dtype, share=0.05)
    factor = 2.0**exponent
    runs = []
    for by in (1.0, factor):
        history, seen = S.History(), []  # type: ignore[var-annotated]
        with fu.ops.plain() if plain else torch.no_grad():
            x = SOLVERS[name](
                A, by * y, by * lam, x0=by * torch.ones(6, 40, dtype=dtype), tol=1e-3, iterations=300, history=history,
                callback=lambda i, z, seen=seen: seen.append(z),
            )  # fmt: skip
        runs.append((x, history, seen))
    (wanted, before, watched), (found, after, seen) = runs
    assert torch.equal(found, factor * wanted)
    assert all(torch.equal(z, factor * w) for z, w in zip(seen, watched, strict=True))
    assert after.iteration == before.iteration
    assert after.gap == before.gap
    assert after.kkt == pytest.approx(before.kkt, rel=1e-6)
    assert after.residual == pytest.approx([factor * v for v in before.residual], rel=1e-6)
    if dtype == torch.float32:  # of double precision they are no numbers
        assert after.objective == pytest.approx([factor**2 * v for v in before.objective], rel=1e-6)
    assert before.samples is not None
    assert after.samples is not None
    assert torch.equal(after.samples.gap, before.samples.gap)
    assert torch.equal(after.samples.converged, before.samples.converged)
    assert after.samples.converged.any()


@pytest.mark.parametrize("exponent", [-100, 100])
def test_adaptive_admm(exponent: int) -> None:
    """ρ, which all samples share, adapts to those of the user's units; residuals are in them too."""
    A, y, lam = sparse_problem(20, 40, 6, torch.float32)
    factor, histories = 2.0**exponent, [S.History(), S.History()]
    for by, history in zip((1.0, factor), histories, strict=True):
        S.admm(A, by * y, by * lam, rho=0.02, tol=1e-4, iterations=1000, history=history)
    before, after = histories
    assert after.rho == before.rho
    assert after.gap == before.gap
    assert after.primal == pytest.approx([factor * v for v in before.primal], rel=1e-5)
    assert after.dual == pytest.approx([factor * v for v in before.dual], rel=1e-5)


@pytest.mark.parametrize("scale", [1e-36, 1e-30, 1e-23, 1e-19, 1e19, 1e30, 1e36])
def test_gap_of_any_scale(scale: float) -> None:
    A, y, lam = sparse_problem(20, 40, 6, torch.float32)
    y, lam = scale * y, scale * lam
    start = torch.zeros(6, 40)
    assert torch.allclose(S.duality_gap(start, y, A, lam).double(), gap(start, y, A, lam), rtol=1e-5)
    with pytest.warns(S.ConvergenceWarning, match="6 of 6 samples"):
        S.fista(A, y, lam, tol=1e-4, iterations=1)
    result = S.certified(lambda y: torch.zeros(6, 40), A, lambda y: lam[:, 0], 1e-4)(y)
    assert result.refined.all()
    assert result.converged.all()
    assert gap(result.x, y, A, lam).max() <= 1.1e-4


def test_samples_of_several_scales() -> None:
    """Each as it would be alone."""
    A, y, lam = sparse_problem(20, 40, 5, torch.float32)
    scales = 2.0 ** torch.tensor([0.0, -100.0, 90.0, 3.0, -60.0])[:, None]
    options: dict[str, Any] = {"tol": 1e-4, "iterations": 2000}
    for solver in (S.fista, S.admm, S.primal_dual):
        wanted = [solver(A, y[i], scales[i] * lam[i] / scales[i], **options, **more(solver)) for i in range(5)]
        found = solver(A, scales * y, scales * lam, **options, **more(solver))
        assert torch.equal(found, scales * torch.stack(wanted))
    y[1] = 0
    y[2, 3] = torch.nan
    with pytest.warns(S.ConvergenceWarning, match="1 of 5 samples"):
        x = S.fista(A, scales * y, scales * lam, **options)
    assert not x[1].any()
    assert x[2].isnan().all()


def more(solver: Callable[..., Tensor]) -> dict[str, Any]:
    return {"adaptive": False} if solver is S.admm else {}


@pytest.mark.parametrize("lam", [0.01, torch.full((40,), 0.01)], ids=["number", "coordinates"])
def test_gradients_in_units(lam: Any) -> None:
    A, y, _ = sparse_problem(20, 40, 4, torch.float32)
    gradients = []
    for factor in (1.0, 2.0**-100):
        leaf = (factor * y).requires_grad_()
        x = S.fista(A, leaf, factor * lam, tol=1e-4, iterations=3000)
        gradients.append(torch.autograd.grad(x.sum(), leaf)[0])
    assert torch.equal(*gradients)


def test_lambda_that_is_infinite_in_units() -> None:
    """λ of 10 is, where y is 1e-38; then zero is the solution."""
    A, y, _ = sparse_problem(20, 40, 4, torch.float32)
    y = 1e-37 * y
    for solver in (S.fista, S.admm, S.primal_dual):
        assert not solver(A, y, 1e3, tol=1e-4, iterations=20).any()
    assert (S.duality_gap(torch.zeros(4, 40), y, A, 1e3) == 0).all()


def test_solution_that_overflows_is_not_converged() -> None:
    """In the units of y, though not in those it is solved in."""
    A, y, lam = sparse_problem(20, 40, 4, torch.float32)
    history = S.History()
    with pytest.warns(S.ConvergenceWarning, match="4 of 4 samples"):
        x = S.fista(1e-6 * A, 1e36 * y, 1e30 * lam, tol=1e-4, iterations=2000, history=history)
    assert not torch.isfinite(x).all(1).any()
    assert history.samples is not None
    assert not history.samples.converged.any()
