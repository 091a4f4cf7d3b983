"""Operators in every solver, step, loss and report; a matrix for every sample; and what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from refusals import Refused, check_refused
from torch import Tensor, nn
from user_operators import OPERATORS, Blur, FourierMask, H, Haar, M, N, Sums, W, dense, kernel, mask, shape_of
from user_operators import matrix as some_matrix

lin = fu.operators


@pytest.mark.parametrize("lead", [(3,), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_a_matrix_for_every_sample(dtype: torch.dtype, lead: tuple[int, ...]) -> None:
    """Every solver and loss: as each sample alone with its matrix."""
    S = fu.solvers
    A, y = some_matrix(dtype, 3), torch.randn(*lead, M, dtype=dtype)
    x0 = torch.randn(*lead, N, dtype=dtype)
    step = 0.9 / float(torch.linalg.matrix_norm(A, 2).max()) ** 2
    lam = 0.1 * S.lambda_max(A, y)[..., None]
    calls: dict[str, Callable[[Any, Tensor, Tensor, Tensor], Any]] = {
        "ista": lambda A, y, lam, x: S.ista(A, y, lam, step=step, iterations=20),
        "fista": lambda A, y, lam, x: S.fista(A, y, lam, step=step, iterations=20, x0=x),
        "admm": lambda A, y, lam, x: S.admm(A, y, lam, rho=0.5, adaptive=False, iterations=20),
        "primal_dual": lambda A, y, lam, x: S.primal_dual(
            A, y, lam, tau=step**0.5, sigma=step**0.5, iterations=20, x0=x
        ),
        "duality_gap": lambda A, y, lam, x: S.duality_gap(x, y, A, lam),
        "lambda_max": lambda A, y, lam, x: S.lambda_max(A, y),
        "gradient_step": lambda A, y, lam, x: fu.gradient_step(x, y, A, step),
        "ista_step": lambda A, y, lam, x: fu.ista_step(x, y, A, step, lam),
        "kkt_residual": lambda A, y, lam, x: fu.losses.kkt_residual(x, y, A, lam),
        "lasso_objective": lambda A, y, lam, x: fu.losses.lasso_objective(x, y, A, lam),
    }
    if not dtype.is_complex:
        calls["amp"] = lambda A, y, lam, x: S.amp(A, y, damping=0.5, iterations=5)
        calls["lasso"] = lambda A, y, lam, x: S.lasso(A, y, lam).x
        calls["lasso_path"] = lambda A, y, lam, x: S.lasso_path(A, y, lams=[2 * lam, lam])[1][1].x
        calls["certified"] = lambda A, y, lam, x: (
            S.certified(lambda y: torch.zeros_like(x), A, lambda y: lam[..., 0], 1e-8)(y).x
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", S.ConvergenceWarning)
        for name, call in calls.items():
            for op in (A, lin.Dense(A)):
                found = call(op, y, lam, x0)
                for i in np.ndindex(*lead):
                    alone = call(A[i[-1]], y[i][None], lam[i][None], x0[i][None])[0]
                    tolerance = 1e-3 if name in ("lasso", "lasso_path", "certified") else 1e-9
                    assert torch.allclose(found[i], alone, rtol=tolerance, atol=tolerance), (name, i)
                if name in ("lasso", "lasso_path"):
                    break
    assert S.fista(A, y, lam, tol=1e-6, iterations=5000, restart=True).shape == (*lead, N)


def test_gradients_of_solvers_with_operators() -> None:
    """By unrolling, though SciPy makes the products; and in an operator that learns."""
    op, y = Sums(), torch.randn(2, N, dtype=torch.float64)
    A = dense(op, (N,), torch.float64)
    for solver in (fu.solvers.ista, fu.solvers.fista):
        leaf, other = y.clone().requires_grad_(), y.clone().requires_grad_()
        solver(op, leaf, 0.1, iterations=15, step=0.01).square().sum().backward()
        solver(A, other, 0.1, iterations=15, step=0.01).square().sum().backward()
        assert leaf.grad is not None
        assert other.grad is not None
        assert torch.allclose(leaf.grad, other.grad)
    blur = Blur(kernel(torch.float64), learn=True)
    fu.solvers.fista(blur, torch.randn(2, H, W, dtype=torch.float64), 0.01, iterations=5).sum().backward()
    assert blur.kernel.grad is not None
    assert torch.isfinite(blur.kernel.grad).all()


def test_the_pieces_of_a_blurred_picture() -> None:
    """A blur after a wavelet, in every function: as with the dense matrix."""
    A = Blur(kernel(torch.float64)) @ Haar().H
    matrix = dense(A, (H, W), torch.float64)
    x, y = (torch.randn(3, H, W, dtype=torch.float64) for _ in range(2))
    flat_x, flat_y = x.flatten(1), y.flatten(1)
    for found, wanted in (
        (fu.gradient_step(x, y, A, 0.3).flatten(1), fu.gradient_step(flat_x, flat_y, matrix, 0.3)),
        (fu.ista_step(x, y, A, 0.3, 0.1).flatten(1), fu.ista_step(flat_x, flat_y, matrix, 0.3, 0.1)),
        (fu.losses.kkt_residual(x, y, A, 0.1), fu.losses.kkt_residual(flat_x, flat_y, matrix, 0.1)),
        (fu.losses.lasso_objective(x, y, A, 0.1), fu.losses.lasso_objective(flat_x, flat_y, matrix, 0.1)),
        (fu.training.kkt(A, 0.1)(x, y, None), fu.training.kkt(matrix, 0.1)(flat_x, flat_y, None)),
        (fu.training.lasso(A, 0.1)(x, y, None), fu.training.lasso(matrix, 0.1)(flat_x, flat_y, None)),
        (fu.solvers.duality_gap(x, y, A, 0.1), fu.solvers.duality_gap(flat_x, flat_y, matrix, 0.1)),
        (fu.solvers.lambda_max(A, y), fu.solvers.lambda_max(matrix, flat_y)),
    ):
        assert torch.allclose(found, wanted)
    result = fu.solvers.certified(lambda y: torch.zeros_like(y), A, 0.05, 1e-6)(y)
    assert result.converged.all()
    assert result.refined.all()
    assert result.gap.max() <= 1e-6
    exact = fu.solvers.lasso(matrix, flat_y, 0.05, tol=1e-12).x
    assert torch.allclose(result.x.flatten(1), exact, atol=1e-2)
    assert "solver alone" in fu.solvers.certified(lambda y: torch.zeros_like(y), A, 0.05, 1e-3).compare(y)
    solver = fu.solvers.certified(lambda y: result.x, A, lambda y: torch.full((3,), 0.05, dtype=y.dtype), 1e-5)
    assert not solver(y).refined.any()


def test_a_report_of_a_network_over_an_operator() -> None:
    A = Blur(kernel(torch.float64)) @ Haar().H
    matrix, y = dense(A, (H, W), torch.float64), torch.randn(4, H, W, dtype=torch.float64)
    step = 0.9

    def network(y: Tensor, return_layers: bool = False) -> Tensor:
        flat = matrix if y.dim() == 2 else A
        layers = [torch.zeros_like(y)]
        for _ in range(4):
            layers.append(fu.ista_step(layers[-1], y, flat, step, 0.05 * step))
        return torch.stack(layers[1:])

    def ideal(x: Tensor, y: Tensor) -> Tensor:
        return fu.ista_step(x, y, A, step, 0.05 * step)

    found = fu.diagnostics.report(network, y, A=A, lam=0.05, ideal=ideal)
    wanted = fu.diagnostics.report(network, y.flatten(1), A=matrix, lam=0.05)
    assert found.samples == wanted.samples == 4
    for row, other in zip(found.layers, wanted.layers, strict=True):
        for name in ("density", "update", "kkt_residual", "objective"):
            assert row[name] == pytest.approx(other[name])
    assert fu.diagnostics.report(network, y, A=A, lam=0.05).layers[-1]["objective"] == pytest.approx(
        wanted.layers[-1]["objective"]
    )


@pytest.mark.parametrize("name", ["blur", "Fourier", "Dense", "NumPy"])
def test_samples_of_an_operator(name: str) -> None:
    dtype = torch.complex64 if name == "Fourier" else torch.float32
    op = OPERATORS[name][0](dtype)
    problem = fu.data.SparseRecovery(op, density=0.2, snr=20.0)
    y, x = fu.data.fixed(problem, 4000)
    assert x is not None
    assert x.shape == (4000, *shape_of(name))
    assert x.dtype == dtype
    with torch.no_grad():
        noise, signal = (y - op(x)).abs().square().mean(), op(x).abs().square().mean()
    assert 10 * float(torch.log10(signal / noise)) == pytest.approx(20.0, abs=1.0)


class NoInit(lin.LinearOperator):
    def __init__(self) -> None:
        self.factor = 3.0

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x

    adjoint = forward


class NoAdjoint(lin.LinearOperator):
    def forward(self, x: Tensor) -> Tensor:
        return x


class WrongShape(NoAdjoint):
    def adjoint(self, y: Tensor) -> Tensor:
        return y[..., :-1]


def backward_of(op: lin.LinearOperator) -> object:
    return op(torch.ones(2, N, requires_grad=True)).sum().backward()


X, Y = torch.randn(2, N), torch.randn(2, M)
BAD: dict[str, Refused] = {
    "no super().__init__()": (
        lambda: NoInit()(X), AttributeError, "NoInit.__init__ must call super().__init__() before anything else",
    ),
    "no adjoint": (
        lambda: NoAdjoint().adjoint(X), TypeError,
        "a linear operator must have adjoint(y), which returns Aᴴ y, but NoAdjoint has none",
    ),
    "no forward": (
        lambda: lin.LinearOperator()(X), TypeError,
        "a linear operator must have forward(x), which returns A x, but LinearOperator has none",
    ),
    "a list": (
        lambda: Haar()([[1.0, 2.0]]), TypeError, "x must be a torch.Tensor, got list: use torch.as_tensor(x)",
    ),
    "whole numbers": (
        lambda: Haar()(np.ones((2, 2), int)), TypeError,
        "x must be floating point, got torch.int64: use x.float()",
    ),
    "an adjoint of another shape, as a gradient": (
        lambda: backward_of(WrongShape()), ValueError,
        "WrongShape.adjoint must return the shape of what WrongShape.forward takes, (2, 11), got (2, 10)",
    ),
    "an adjoint of another shape, in a step": (
        lambda: fu.gradient_step(X, X, WrongShape(), 0.1), ValueError,
        "A.gradient(x, y) must be a tensor of the shape of x, (2, 11), got (2, 10)",
    ),
    "norm without a shape": (
        lambda: Haar().norm(), ValueError,
        "shape_in must be stated to find the norm of Haar, such as shape_in = (64, 64)",
    ),
    "ρ": (lambda: Haar().solve(X, 0.0), ValueError, "rho must be a finite number > 0, got 0.0"),
    "a tensor in @": (
        lambda: Haar() @ torch.ones(2, 2), TypeError,
        "@ composes operators, got a tensor: use op(x) for the product with x, or op @ fu.operators.Dense(A)",
    ),
    "a word as a factor": (
        lambda: Haar() * "x", TypeError, "the factor of an operator must be a number, got 'x'",  # type: ignore[operator]
    ),
    "several factors": (
        lambda: Haar() * torch.ones(2), ValueError,
        "the factor of an operator must be one number, got shape (2,): use op(x) for the product with x",
    ),
    "shapes of @": (
        lambda: lin.Dense(torch.ones(3, 4)) @ lin.Dense(torch.ones(3, 4)), ValueError,
        "in A @ B, A must take what B returns, but A takes (4,) and B returns (3,)",
    ),
    "shapes of +": (
        lambda: lin.Dense(torch.ones(3, 4)) + lin.Dense(torch.ones(3, 5)), ValueError,
        "in A + B both must have one shape_in, got (4,) and (5,)",
    ),
    "no operators": (lambda: lin.Sum(), ValueError, "Sum must have at least one operator, got none"),
    "another thing as an operator": (
        lambda: lin.Composed(Haar(), nn.Identity()), TypeError,  # type: ignore[arg-type]
        "an operator must be a fu.operators.LinearOperator, got Identity: use fu.operators.as_operator(op)",
    ),
    "a list of operators": (
        lambda: lin.Stack([Haar(), Haar()]), TypeError,  # type: ignore[arg-type]
        "an operator must be a fu.operators.LinearOperator, got list: use *operators",
    ),
    "samples of matrices": (
        lambda: lin.Dense(torch.ones(3, M, N))(X), ValueError,
        "A is (3, 7, 11), a matrix for each of 3 samples, so x must have the shape (..., 3, 11), got (2, 11)",
    ),
    "samples of a solver": (
        lambda: fu.solvers.fista(torch.ones(3, M, N), Y, 0.1), ValueError,
        "A is (3, 7, 11), a matrix for each of 3 samples, so y must have the shape (..., 3, 7), got (2, 7)",
    ),
    "samples of the Lasso": (
        lambda: fu.solvers.lasso(torch.ones(3, M, N), Y, 0.1), ValueError,
        "A is (3, 7, 11), a matrix for each of 3 samples, so Y must have the shape (..., 3, 7), got (2, 7)",
    ),
    "matrices in a Lasso": (
        lambda: fu.solvers.Lasso(torch.ones(3, M, N)), ValueError,
        "Lasso keeps what it knows of one matrix, but A is a matrix for every sample",
    ),
    "an operator in the Lasso": (
        lambda: fu.solvers.lasso(Sums(), X, 0.1), TypeError,
        "the Lasso solver needs the entries of A, a matrix, got an operator Sums: use fu.solvers.fista(",
    ),
    "x of a step": (
        lambda: fu.gradient_step(X[:1], X, Sums(), 0.1), ValueError,
        "x must have the shape (2, 11), the samples of y and A.shape_in, got (1, 11)",
    ),
    "precisions of a step": (
        lambda: fu.gradient_step(X.double(), X, Sums(), 0.1), TypeError,
        "x and y must have one precision, got torch.float64",
    ),
    "a word": (
        lambda: fu.gradient_step(X, Y, "A", 0.1), TypeError, "A must be a matrix, a fu.operators.LinearOperator",
    ),
    "samples of an operator without a shape": (
        lambda: fu.data.SparseRecovery(Haar()), ValueError, "shape_in must be stated to find the norm of Haar",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    check_refused(BAD[name])


def test_an_operator_that_states_its_matrix_is_one() -> None:
    """To the last bit: it goes the way of the matrix."""

    class Stated(lin.LinearOperator):
        def __init__(self, A: Tensor) -> None:
            super().__init__()
            self.matrix = A

        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("the matrix is used")

        adjoint = forward

    A, y = some_matrix(torch.float32), torch.randn(4, M)
    for call in (
        lambda A: fu.solvers.fista(A, y, 0.1, tol=1e-3, iterations=1000),
        lambda A: fu.solvers.lasso(A, y, 0.1).x,
        lambda A: fu.gradient_step(torch.ones(4, N), y, A, 0.1),
        lambda A: fu.losses.kkt_residual(torch.ones(4, N), y, A, 0.1),
    ):
        assert torch.equal(call(Stated(A)), call(A))
        assert torch.equal(call(lin.Dense(A)), call(A))


def test_masks_that_are_given_anew() -> None:
    """A network that is called with another mask each time sees it."""
    op, x = FourierMask(mask(torch.float64)), torch.randn(2, H, W, dtype=torch.complex128)
    before = op(x)
    op.mask = 2 * op.mask
    assert torch.equal(op(x), 2 * before)


def test_threads_solve_with_their_own_rho() -> None:
    op, b = fu.operators.Dense(torch.randn(20, 30, dtype=torch.float64)), torch.randn(4, 30, dtype=torch.float64)
    wanted = {rho: op.solve(b, rho) for rho in (0.1, 10.0)}

    def solve(rho: float) -> bool:
        return all(torch.allclose(op.solve(b, rho), wanted[rho]) for _ in range(150))

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(solve, wanted))
