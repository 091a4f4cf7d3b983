"""The solvers with another R than the ℓ₁ norm: every convex proximal operator, against what defines a solution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from fastunroll import prox, schemes
from problems import Opaque
from refusals import Refused, check_refused
from torch import Tensor

LAM, DOUBLE = 0.05, torch.float64


class Ridge(prox.Proximal):
    """A user's operator: R(x) = ½‖x‖²."""

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        return z / (1 + theta)

    def value(self, x: Tensor) -> Tensor:
        return x.square().flatten(1).sum(1) / 2


class Bare(prox.Proximal):
    """Without a value."""

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        return torch.sgn(z) * torch.relu(z.abs() - theta)


CONVEX: dict[str, Callable[[], prox.Proximal]] = {
    "L1": prox.L1,
    "nonnegative": prox.NonNegativeL1,
    "group": lambda: prox.GroupL1(3),
    "elastic net": lambda: prox.ElasticNet(0.5),
    "box": lambda: prox.Box(-0.1, 0.1),
    "ridge": Ridge,
    "bare": Bare,
}
SOLVERS: dict[str, Callable[..., Any]] = {
    "ista": fu.solvers.ista, "fista": fu.solvers.fista, "admm": fu.solvers.admm,
    "primal_dual": fu.solvers.primal_dual,
}  # fmt: skip


def problem() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    A = torch.randn(18, 12, generator=g, dtype=DOUBLE) / 18**0.5
    return A, torch.randn(4, 18, generator=g, dtype=DOUBLE)


@pytest.mark.parametrize("is_operator", [False, True], ids=["matrix", "operator"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", CONVEX)
def test_a_solution_is_a_fixed_point(name: str, solver: str, is_operator: bool) -> None:
    A, y = problem()
    operator, history = CONVEX[name](), fu.solvers.History()
    given = Opaque(A) if is_operator else A
    x = SOLVERS[solver](given, y, LAM, prox=operator, iterations=5000, tol=1e-9, history=history)
    moved = operator.prox(x - (x @ A.mT - y) @ A, torch.tensor(LAM, dtype=DOUBLE)) - x
    assert moved.norm() < 1e-4 * x.norm()
    assert history.samples is not None
    assert history.samples.converged.all()
    assert bool(history.gap) == operator.has_duality_gap
    assert bool(history.objective) == operator.has_value
    if operator.has_value:

        def objective(x: Tensor) -> Tensor:
            return (x @ A.mT - y).square().sum(1) / 2 + LAM * operator.value(x)

        least = objective(x)
        for scale in (1e-3, 1e-2, 0.1):
            assert (objective(x + scale * torch.randn_like(x)) >= least - 1e-8).all()


@pytest.mark.parametrize("name", ["L1", "nonnegative", "group"])
def test_the_gap_bounds_the_distance_to_the_minimum(name: str) -> None:
    A, y = problem()
    operator = CONVEX[name]()
    best = fu.solvers.fista(A, y, LAM, prox=operator, iterations=20_000, tol=1e-12)
    assert fu.solvers.duality_gap(best, y, A, LAM, prox=operator).max() < 1e-11

    def objective(x: Tensor) -> Tensor:
        return (x @ A.mT - y).square().sum(1) / 2 + LAM * operator.value(x)

    g = torch.Generator().manual_seed(1)
    for scale in (0.0, 1e-3, 0.1, 1.0):
        x = operator.prox(best + scale * torch.randn(best.shape, generator=g, dtype=DOUBLE), torch.tensor(0.01))
        gap = fu.solvers.duality_gap(x, y, A, LAM, prox=operator) * y.square().sum(1) / 2
        assert (objective(x) - objective(best) <= gap + 1e-10).all()
        scaled = fu.solvers.duality_gap(1e150 * x, 1e150 * y, A, 1e150 * LAM, prox=operator)
        assert torch.allclose(scaled * y.square().sum(1) / 2, gap, rtol=1e-9)


@pytest.mark.parametrize("name", CONVEX)
def test_networks_of_the_same_pieces_have_the_same_iterates(name: str) -> None:
    A, y = problem()
    operator, step = CONVEX[name](), 1 / float(torch.linalg.matrix_norm(A, 2)) ** 2
    runs: dict[schemes.Scheme, Callable[[], Tensor]] = {
        schemes.ProximalGradient(): lambda: fu.solvers.ista(A, y, LAM, prox=operator, iterations=7, step=step),
        schemes.FISTA(): lambda: fu.solvers.fista(A, y, LAM, prox=operator, iterations=7, step=step),
        schemes.ADMM(): lambda: fu.solvers.admm(
            A, y, LAM, prox=operator, iterations=7, rho=1 / step, relaxation=1.0, adaptive=False
        ),
        schemes.PrimalDual(): lambda: fu.solvers.primal_dual(
            A, y, LAM, prox=operator, iterations=7, tau=step**0.5, sigma=step**0.5
        ),
    }
    for scheme, run in runs.items():
        net = fu.nn.Unrolled(scheme, A, operator, 7, lam=LAM, step=step, dtype=DOUBLE)
        assert relative_error(net(y), run()) < 1e-12, scheme


def test_gradients_reach_what_the_prior_learns() -> None:
    A, y = problem()
    network = torch.nn.Sequential(torch.nn.Linear(12, 12, bias=False)).double()
    x = fu.solvers.fista(A, y, LAM, prox=prox.Denoiser(network), iterations=3, step=0.1)
    (found,) = torch.autograd.grad(x.sum(), [network[0].weight])
    assert found.abs().sum() > 0


def test_samples_of_any_scale_with_a_prior_that_is_no_norm() -> None:
    """A box is not scaled with the data."""
    A, y = problem()
    x = fu.solvers.fista(A, 1e160 * y, LAM, prox=prox.Box(-0.1, 0.1), iterations=50)
    assert x.abs().max() <= 0.1


A, Y = problem()
BAD: dict[str, Refused] = {
    "a word": (lambda: fu.solvers.fista(A, Y, LAM, prox="L1"), TypeError, "prox must be a fu.prox.Proximal"),  # type: ignore[arg-type]
    "two priors": (
        lambda: fu.solvers.fista(A, Y, LAM, prox=prox.L1(), nonnegative=True), ValueError,
        "nonnegative belongs to the ℓ₁ norm: use prox=fu.prox.NonNegativeL1()",
    ),
    "two priors of a gap": (
        lambda: fu.solvers.duality_gap(A[:4], Y, A, LAM, prox=prox.L1(), nonnegative=True), ValueError,
        "nonnegative belongs to the ℓ₁ norm",
    ),
    "λ for each coordinate": (
        lambda: fu.solvers.admm(A, Y, torch.rand(12, dtype=DOUBLE), prox=prox.GroupL1(3)), ValueError,
        "lam must be one number, or one for each sample, with prox=GroupL1, got shape (12,)",
    ),
    "no gap": (
        lambda: fu.solvers.duality_gap(A[:4], Y, A, LAM, prox=prox.ElasticNet()), ValueError,
        "a duality gap needs the dual norm of R, which ElasticNet lacks",
    ),
    "no value": (
        lambda: fu.solvers.fista(A, Y, LAM, prox=Bare(), monotone=True), ValueError,
        "monotone compares objectives, for which Bare must define value(x)",
    ),
    "groups": (lambda: fu.solvers.fista(A, Y, LAM, prox=prox.GroupL1(5)), ValueError, "group size must divide"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    check_refused(BAD[name])


PICTURES: dict[str, Callable[[], prox.Proximal]] = {
    "total variation": prox.TotalVariation,
    "wavelets": lambda: prox.WaveletL1("haar", 1),
    "bank": lambda: prox.FilterBank(2, 3),
    "transform": lambda: prox.LearnedTransform(2),
    "one for each layer": lambda: prox.PerLayer(prox.TotalVariation(), 2),
}


@pytest.mark.parametrize("name", PICTURES)
def test_priors_of_pictures_refuse_vectors(name: str) -> None:
    """They would take the samples of a batch as the rows of a picture."""
    R, A = PICTURES[name](), torch.randn(5, 8)
    says = r"is of pictures \(H, W\), but a sample of x has the shape \(8,\): give y\[None\] if y is one picture"
    with pytest.raises(ValueError, match=says):
        fu.nn.Unrolled(schemes.FISTA(), A, R, layers=2)
    for solve in (fu.solvers.fista, fu.solvers.ista, fu.solvers.admm, fu.solvers.primal_dual):
        with pytest.raises(ValueError, match=says):
            solve(A, torch.randn(4, 5), 0.1, prox=R, iterations=2)
    with pytest.raises(ValueError, match=says):
        fu.solvers.fista((lambda x: 2 * x, lambda y: 2 * y), torch.randn(4, 8), 0.1, prox=R, iterations=2)
