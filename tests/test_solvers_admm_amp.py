"""ADMM and AMP against short references, and with operators."""

from __future__ import annotations

from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from problems import Blur, Opaque, gap, sparse_problem
from torch import Tensor


def plain_admm(A: Tensor, y: Tensor, lam: Tensor, rho: float, relaxation: float, iterations: int) -> Tensor:
    """By the normal equations."""
    M = torch.linalg.inv(A.mH @ A + rho * torch.eye(A.shape[1], dtype=A.dtype))
    z = u = torch.zeros(len(y), A.shape[1], dtype=A.dtype)
    for _ in range(iterations):
        x = (y @ A.conj() + rho * (z - u)) @ M.mT
        v = relaxation * x + (1 - relaxation) * z + u
        z = fu.reference.soft_threshold(v, lam / rho)
        u = v - z
    return z


def plain_amp(A: Tensor, y: Tensor, alpha: float, damping: float, iterations: int) -> Tensor:
    m, n = A.shape
    x, v = torch.zeros(len(y), n, dtype=A.dtype), y
    for _ in range(iterations):
        z = x + v @ A
        new = fu.reference.soft_threshold(z, alpha * v.norm(dim=-1, keepdim=True) / m**0.5)
        x = x + damping * (new - x)
        v = v + damping * (y - x @ A.mT + (new != 0).to(v).sum(-1, keepdim=True) / m * v - v)
    return x


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("relaxation", [1.0, 1.6])
@pytest.mark.parametrize(("m", "n", "batch"), [(1, 1, 2), (1, 17, 3), (17, 5, 2), (33, 70, 5)])
def test_admm(m: int, n: int, batch: int, relaxation: float, dtype: torch.dtype) -> None:
    A, y, lam = sparse_problem(m, n, batch, dtype)
    options: dict[str, Any] = {"rho": 0.7, "relaxation": relaxation, "iterations": 17, "adaptive": False}
    wanted = plain_admm(A, y, lam, 0.7, relaxation, 17)
    assert relative_error(fu.solvers.admm(A, y, lam, **options), wanted) <= 1e-10
    exact = {"solve": lambda b, rho: b @ torch.linalg.inv(A.mH @ A + rho * torch.eye(n, dtype=dtype)).mT}
    assert relative_error(fu.solvers.admm(Opaque(A), y, lam, **options, **exact), wanted) <= 1e-10
    inexact = fu.solvers.admm(Opaque(A), y, lam, **options, inner_iterations=2 * n)
    assert relative_error(inexact, wanted) <= 1e-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("rho", [None, 0.02, 50.0])
def test_admm_reaches_the_tolerance(rho: float | None, dtype: torch.dtype) -> None:
    """From a bad ρ too, since it adapts."""
    A, y, lam = sparse_problem(50, 100, 70, dtype)
    history = fu.solvers.History()
    z = fu.solvers.admm(A, y, lam, rho=rho, tol=1e-4, iterations=1000, history=history)
    assert history.samples is not None
    assert gap(z, y, A, lam).max() <= 1.1e-4
    assert (history.samples.gap - gap(z, y, A, lam)).abs().max() <= (1e-6 if dtype == torch.float32 else 1e-14)
    assert history.samples.iterations.max() <= 250
    assert relative_error(z, fu.solvers.fista(A, y, lam, tol=1e-6, iterations=9000, restart=True)) <= 0.02
    if rho is not None:
        assert abs(history.rho[-1] - 1) < abs(history.rho[0] - 1)
        with pytest.warns(fu.solvers.ConvergenceWarning):
            fu.solvers.admm(A, y, lam, rho=rho, tol=1e-4, iterations=250, adaptive=False)
    assert len(history.primal) == len(history.dual) == len(history.gap) == len(history.iteration)


def test_admm_by_samples() -> None:
    """With a fixed ρ a sample does not depend on its batch, nor on those that stop before it."""
    A, y, lam = sparse_problem(23, 50, 30)
    options: dict[str, Any] = {"tol": 1e-5, "iterations": 600, "adaptive": False}
    whole = fu.solvers.admm(A, y, lam, **options)
    for rows in ([4], [29, 3, 3], list(range(10, 20))):
        assert torch.equal(fu.solvers.admm(A, y[rows], lam[rows], **options), whole[rows])


def test_admm_of_an_operator() -> None:
    op = Blur(6, 8)
    y = op(torch.randn(5, 6, 8, dtype=torch.float64) * (torch.rand(5, 6, 8) < 0.2))
    wanted = fu.solvers.fista(op.matrix(), y.reshape(5, 48), 0.01, tol=1e-7, iterations=9000, restart=True)
    for options in ({"solve": op.solve}, {}, {"inner_iterations": 3}):
        history = fu.solvers.History()
        z = fu.solvers.admm(op, y, 0.01, tol=1e-5, iterations=900, history=history, **options)
        assert relative_error(z.reshape(5, 48), wanted) <= 0.01
        assert history.samples is not None
        assert history.samples.converged.all()
        assert fu.solvers.duality_gap(z, y, op, 0.01).max() <= 1e-5


def test_admm_where_rho_is_small() -> None:
    """In single precision too, where the normal equations would lose all digits."""
    A, y, lam = sparse_problem(50, 100, 20, torch.float32)
    options: dict[str, Any] = {"rho": 1e-5, "iterations": 3, "adaptive": False}
    wanted = fu.solvers.admm(A.double(), y.double(), lam.double(), **options)
    assert relative_error(fu.solvers.admm(A, y, lam, **options), wanted) <= 1e-3


@pytest.mark.parametrize("damping", [1.0, 0.6])
@pytest.mark.parametrize(("m", "n", "batch"), [(1, 1, 2), (1, 17, 3), (17, 5, 2), (60, 110, 5)])
def test_amp(m: int, n: int, batch: int, damping: float) -> None:
    A, y, _ = sparse_problem(m, n, batch)
    wanted = plain_amp(A, y, 1.4, damping, 7)
    options: dict[str, Any] = {"alpha": 1.4, "damping": damping, "iterations": 7}
    for call in (A, Opaque(A), fu.operators.Dense(A)):
        assert relative_error(fu.solvers.amp(call, y, **options), wanted) <= 1e-9
    history = fu.solvers.History()
    assert relative_error(fu.solvers.amp(A, y, **options, history=history), wanted) <= 1e-9
    assert history.iteration == [7]
    v = history.residual[0]
    assert history.threshold == pytest.approx([1.4 * v / m**0.5])


def test_amp_recovers_in_few_iterations() -> None:
    """What it is for: Gaussian matrices."""
    A = torch.randn(250, 500) / 250**0.5
    x = torch.randn(64, 500) * (torch.rand(64, 500) < 0.05)
    y, history = x @ A.mT, fu.solvers.History()
    assert fu.losses.nmse_db(fu.solvers.amp(A, y, iterations=12), x) < -30
    found = fu.solvers.amp(A, y, tol=1e-3, iterations=200, history=history)
    assert fu.losses.nmse_db(found, x) < -35
    assert history.samples is not None
    assert history.samples.converged.all()
    assert history.samples.gap.max() <= 1e-3
    assert history.objective == history.gap == []


def test_differentiable_by_unrolling() -> None:
    A, y, lam = sparse_problem(5, 7, 3)
    rho, alpha = torch.tensor(0.8, dtype=torch.float64), torch.tensor(1.3, dtype=torch.float64)
    leaves = [t.clone().requires_grad_() for t in (A, y, lam, rho)]

    def admm(A: Tensor, y: Tensor, lam: Tensor, rho: Tensor) -> Tensor:
        return fu.solvers.admm(A, y, lam, rho=rho, iterations=6, adaptive=False)

    def inexact(A: Tensor, y: Tensor, lam: Tensor, rho: Tensor) -> Tensor:
        return fu.solvers.admm(Opaque(A), y, lam, rho=rho, iterations=4, adaptive=False, inner_iterations=3)

    def amp(A: Tensor, y: Tensor, alpha: Tensor) -> Tensor:
        return fu.solvers.amp(A, y, alpha=alpha, iterations=4)

    def damped(A: Tensor, y: Tensor, alpha: Tensor) -> Tensor:
        return fu.solvers.amp(A, y, alpha=alpha, iterations=4, damping=0.7)

    assert torch.autograd.gradcheck(admm, leaves)
    assert torch.autograd.gradcheck(inexact, leaves)
    assert torch.autograd.gradcheck(amp, (*leaves[:2], alpha.requires_grad_()))
    assert torch.autograd.gradcheck(damped, (*leaves[:2], alpha))
