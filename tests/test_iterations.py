"""Single steps, solvers and the dense operator, against the reference."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fastunroll as fu
import numpy as np
import pytest
import torch
from closeness import relative_error, tolerance
from fastunroll import reference
from forks import printed
from hypothesis import given
from hypothesis import strategies as st

SIZES = [(1, 1, (1,)), (1, 17, (2,)), (5, 3, (0,)), (11, 17, (2, 3)), (64, 128, (64,)), (33, 129, (70,))]
DTYPES = [torch.float32, torch.float64]


def draw(m: int, n: int, batch: tuple[int, ...], dtype: torch.dtype) -> list[torch.Tensor]:
    """x, y, A, step and theta, all of them asking for a gradient."""
    x = torch.randn(*batch, n, dtype=dtype)
    tensors = [
        x * (x.abs() > 0.5), torch.randn(*batch, m, dtype=dtype), torch.randn(m, n, dtype=dtype) / m**0.5,
        torch.tensor(0.3, dtype=dtype), torch.rand(n, dtype=dtype),
    ]  # fmt: skip
    return [t.requires_grad_() for t in tensors]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("m", "n", "batch"), SIZES, ids=str)
def test_steps(m: int, n: int, batch: tuple[int, ...], dtype: torch.dtype) -> None:
    x, y, A, step, theta = draw(m, n, batch, dtype)
    pairs = [
        (fu.gradient_step(x, y, A, step), reference.gradient_step(x, y, A, step), [x, y, A, step]),
        (
            fu.ista_step(x, y, A, step, theta),
            reference.ista_step(x, y, A, step, theta),
            [x, y, A, step, theta],
        ),
        (
            fu.ista_step(x, y, A, step, theta[0]),
            reference.ista_step(x, y, A, step, theta[0]),
            [x, y, A, step, theta],
        ),
    ]
    for found, wanted, leaves in pairs:
        assert found.shape == (*batch, n)
        assert relative_error(found, wanted) <= tolerance(dtype)
        weight = torch.randn_like(found)
        for f, w in zip(
            torch.autograd.grad(found, leaves, weight),
            torch.autograd.grad(wanted, leaves, weight),
            strict=True,
        ):
            assert relative_error(f, w) <= 10 * tolerance(dtype)


def test_step_gradcheck() -> None:
    x, y, A, step, theta = draw(5, 7, (3,), torch.float64)
    assert torch.autograd.gradcheck(fu.gradient_step, (x, y, A, step))
    assert torch.autograd.gradcheck(fu.ista_step, (x, y, A, step, theta))
    op = fu.operators.Dense(A)
    assert torch.autograd.gradcheck(op, x)
    assert torch.autograd.gradcheck(op.adjoint, y)
    assert torch.autograd.gradcheck(op.gradient, (x, y))


def test_threshold_a_sample() -> None:
    x, y, A, step, _ = draw(5, 7, (3,), torch.float64)
    theta = torch.rand(3, 1, dtype=torch.float64)
    assert torch.allclose(fu.ista_step(x, y, A, step, theta), reference.ista_step(x, y, A, step, theta))


@pytest.mark.parametrize("dtype", [*DTYPES, torch.complex128], ids=str)
@pytest.mark.parametrize(("m", "n", "batch"), SIZES, ids=str)
def test_dense(m: int, n: int, batch: tuple[int, ...], dtype: torch.dtype) -> None:
    x, y = torch.randn(*batch, n, dtype=dtype), torch.randn(*batch, m, dtype=dtype)
    A = torch.randn(m, n, dtype=dtype)
    op = fu.operators.Dense(A)
    assert relative_error(op(x), x @ A.mT) <= tolerance(dtype)
    assert relative_error(op.adjoint(y), y @ A.conj()) <= tolerance(dtype)
    assert relative_error(op.gradient(x, y), (x @ A.mT - y) @ A.conj()) <= 10 * tolerance(dtype)
    inner = (op(x).conj() * y).sum() - (x.conj() * op.adjoint(y)).sum()
    assert abs(inner) <= 10 * tolerance(dtype) * (1 + x.norm() * y.norm() * A.norm())
    assert op.norm() == pytest.approx(np.linalg.norm(A.numpy(), 2), rel=1e-6)


def test_dense_behaves_as_a_module() -> None:
    op = fu.operators.Dense(torch.randn(3, 5))
    assert repr(op) == "Dense(m=3, n=5, dtype=torch.float32)"
    before = op.norm()
    op.A.mul_(2)
    assert op.norm() == pytest.approx(2 * before)
    assert op.double()(torch.ones(5, dtype=torch.float64)).dtype == torch.float64
    assert list(op.state_dict()) == ["A"]


@given(
    m=st.integers(1, 30), n=st.integers(1, 140), batch=st.integers(0, 70), adjoint=st.booleans(),
    transposed=st.booleans(), start=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_any_product(m: int, n: int, batch: int, adjoint: bool, transposed: bool, start: bool, seed: int) -> None:
    torch.manual_seed(seed)
    A = torch.randn(n, m, dtype=torch.float64).T if transposed else torch.randn(m, n, dtype=torch.float64)
    x = torch.randn(batch, m if adjoint else n, dtype=torch.float64).relu()
    s = torch.randn(batch, n if adjoint else m, dtype=torch.float64) if start else None
    found = fu.ops.product(x, A, adjoint, s)
    assert relative_error(found, reference.product(x, A, adjoint=adjoint, start=s)) <= 1e-12
    g = torch.randn(batch, 5, dtype=torch.float64).relu()
    assert relative_error(torch.ops.fastunroll.outer(g, x), reference.outer(g, x)) <= 1e-12


@pytest.mark.parametrize("name", ["ista", "fista"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_solver(name: str, dtype: torch.dtype) -> None:
    A, y, lam = torch.randn(20, 50, dtype=dtype), torch.randn(2, 3, 20, dtype=dtype), 0.5
    solver = getattr(fu.solvers, name)
    x0 = torch.randn(2, 3, 50, dtype=dtype)
    t, beta, step = 1.0, [0.0], 1 / np.linalg.norm(A.double().numpy(), 2) ** 2
    for _ in range(8):
        t, before = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
        beta.append((before - 1) / t if name == "fista" else 0.0)
    step_t = torch.tensor(step, dtype=dtype)
    wanted = reference.ista(y, A, x0, step_t, step_t * lam, beta)
    found = solver(A, y, lam, iterations=9, x0=x0, return_iterates=True)
    assert relative_error(found, wanted) <= 10 * tolerance(dtype)
    assert torch.equal(solver(A, y, lam, iterations=9, x0=x0), found[-1])
    assert torch.equal(solver(A, y, lam, iterations=9), solver(A, y, lam, iterations=9, x0=torch.zeros_like(x0)))


def test_solvers_converge_to_a_solution() -> None:
    A, y, lam = torch.randn(20, 50, dtype=torch.float64), torch.randn(4, 20, dtype=torch.float64), 2.0
    x = fu.solvers.fista(A, y, lam, iterations=20000)
    assert fu.losses.kkt_residual(x, y, A, lam).max() < 1e-9
    objective = fu.losses.lasso_objective(fu.solvers.ista(A, y, lam, iterations=200, return_iterates=True),
                                          y.expand(200, 4, 20), A, lam)  # fmt: skip
    assert (objective.diff(dim=0) <= 1e-12).all()
    assert (objective[-1] >= fu.losses.lasso_objective(x, y, A, lam) - 1e-9).all()


def test_solver_is_differentiable_by_unrolling() -> None:
    A = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    y = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    lam = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        wanted = fu.solvers.fista(A, y, lam, iterations=4, step=0.1)
    assert torch.allclose(fu.solvers.fista(A, y, lam, iterations=4, step=0.1), wanted)
    assert torch.autograd.gradcheck(lambda A, y, lam: fu.solvers.fista(A, y, lam, iterations=4, step=0.1), (A, y, lam))


def test_complex_matrix() -> None:
    A, y = torch.randn(6, 9, dtype=torch.complex128), torch.randn(4, 6, dtype=torch.complex128)
    x = fu.solvers.fista(A, y, 0.5, iterations=3000)
    assert fu.losses.kkt_residual(x, y, A, 0.5).max() < 1e-9


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_ista_layer(dtype: torch.dtype) -> None:
    A, y = torch.randn(6, 9, dtype=dtype), torch.randn(4, 6, dtype=dtype)
    layer = fu.nn.ISTALayer(A, lam=0.2)
    x = torch.zeros(4, 9, dtype=dtype)
    for _ in range(3):
        x = layer(x, y)
    assert torch.allclose(x, fu.solvers.ista(A, y, 0.2, iterations=3))
    x.abs().sum().backward()
    assert layer.step.grad.shape == layer.theta.grad.shape == (1,)
    assert repr(layer) == "ISTALayer(m=6, n=9)"


def test_step_in_any_form() -> None:
    A, y = torch.randn(5, 7), torch.randn(3, 5)
    wanted = fu.solvers.ista(A, y, 0.1, iterations=5, step=0.05)
    for step in (torch.tensor(0.05), torch.tensor([0.05]), torch.tensor(0.05, dtype=torch.float64), np.float32(0.05)):
        assert torch.allclose(fu.solvers.ista(A, y, 0.1, iterations=5, step=step), wanted)
        x = torch.zeros(3, 7)
        assert torch.allclose(fu.gradient_step(x, y, A, step), fu.reference.gradient_step(x, y, A, 0.05))


def test_ctrl_c_ends_a_long_solve(tmp_path: Path) -> None:
    """Not after the days that all its iterations would take."""
    code = """
import signal, threading, os, torch, fastunroll as fu
A, y = torch.randn(64, 256), torch.randn(500, 64)
threading.Timer(0.4, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    fu.solvers.fista(A, y, 0.1, iterations=100_000_000)
except KeyboardInterrupt:
    fu.solvers.fista(A, y, 0.1, iterations=10)
    print("stopped")
"""
    assert printed(tmp_path, code) == "stopped\n"


def test_fewer_threads_than_asked_for() -> None:
    """OpenMP may give a region fewer threads; nothing may depend on how many came."""
    code = """
import torch, fastunroll as fu
torch.manual_seed(0)
def results():
    net = fu.nn.LISTA(torch.randn(20, 300, generator=torch.Generator().manual_seed(1)), layers=3)
    y = torch.randn(200, 20, generator=torch.Generator().manual_seed(2))
    g = torch.randn(70, 333, generator=torch.Generator().manual_seed(3)).relu()
    loss = fu.soft_threshold(net(y), 0.01).square().sum()
    return [*torch.autograd.grad(loss, list(net.parameters())), fu.ops.outer(g, g), fu.ops.product(g, g, False, None)]
torch.set_num_threads(1)
one = results()
torch.set_num_threads(7)
assert all(torch.equal(a, b) for a, b in zip(one, results()))
print("same")
"""
    env = {**os.environ, "OMP_THREAD_LIMIT": "2"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert out.stdout == "same\n", out.stderr
