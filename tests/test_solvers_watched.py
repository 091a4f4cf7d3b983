"""What a user sees of a run: history, callback, progress, warning, Ctrl-C; and what is refused."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from forks import printed
from problems import Blur, Opaque, gap, objective, sparse_problem
from refusals import Refused, check_refused
from torch import Tensor

S = fu.solvers
SOLVERS: dict[str, Callable[..., Tensor]] = {
    "ista": S.ista,
    "fista": S.fista,
    "admm": S.admm,
    "primal_dual": S.primal_dual,
    "amp": lambda A, y, lam, **options: S.amp(A, y, **options),
}
LASSO = ["ista", "fista", "admm", "primal_dual"]


@pytest.mark.parametrize("operator", [False, True])
@pytest.mark.parametrize("name", LASSO)
def test_history(name: str, operator: bool) -> None:
    A, y, lam = sparse_problem(20, 40, 9)
    seen: list[tuple[int, Tensor]] = []
    history = S.History()
    options: dict[str, Any] = {"history": history, "callback": lambda i, x: seen.append((i, x))}
    x = SOLVERS[name](Opaque(A) if operator else A, y.reshape(9, 20), lam, iterations=25, **options)
    assert history.iteration == [10, 20, 25] == [i for i, _ in seen]
    assert torch.equal(seen[-1][1], x)
    for i, (_, z) in enumerate(seen):
        assert history.objective[i] == pytest.approx(float(objective(z, y, A, lam).mean()))
        assert history.gap[i] == pytest.approx(float(gap(z, y, A, lam).mean()))
        assert history.kkt[i] == pytest.approx(float(fu.losses.kkt_residual(z, y, A, lam).mean()))
    assert history.samples is not None
    assert history.samples.iterations.tolist() == [25] * 9
    assert not history.samples.converged.any()
    assert torch.allclose(history.samples.gap, gap(x, y, A, lam))
    SOLVERS[name](A, y, lam, iterations=7, history=history)
    assert history.iteration == [7]


def recorder(seen: list[Tensor]) -> Callable[[int, Tensor], None]:
    return lambda iteration, x: seen.append(x)


def test_history_of_samples_that_stop() -> None:
    """The means are over all samples, those at rest included; x of those does not change any more."""
    A, y, lam = sparse_problem(20, 40, 30)
    for plain in (False, True):
        seen: list[Tensor] = []
        history = S.History()
        with fu.ops.plain() if plain else torch.no_grad():
            x = S.fista(A, y, lam, tol=1e-4, iterations=900, history=history, callback=recorder(seen))
        assert history.samples is not None
        assert history.gap == pytest.approx([float(gap(z, y, A, lam).mean()) for z in seen], abs=1e-14)
        assert history.gap[-1] <= 1e-4
        for i, made in enumerate(history.samples.iterations.tolist()):
            assert all(torch.equal(z[i], x[i]) for z in seen[made // 10 - 1 :])
        assert history.iteration[-1] == history.samples.iterations.max()


@pytest.mark.parametrize("name", SOLVERS)
def test_callback_ends_the_run(name: str) -> None:
    A, y, lam = sparse_problem(20, 40, 3)
    history = S.History()
    SOLVERS[name](A, y, lam, iterations=500, tol=1e-12, history=history, callback=lambda i, x: i >= 20)
    assert history.iteration == [10, 20]
    assert history.samples is not None
    assert not history.samples.converged.any()


@pytest.mark.parametrize("name", LASSO)
def test_looking_changes_nothing(name: str) -> None:
    A, y, lam = sparse_problem(20, 40, 9)
    options: dict[str, Any] = {"tol": 1e-4, "iterations": 900}
    wanted = SOLVERS[name](A, y, lam, **options)
    assert torch.equal(
        SOLVERS[name](A, y, lam, **options, history=S.History(), callback=lambda i, x: x.zero_()), wanted
    )


@pytest.mark.parametrize("name", SOLVERS)
def test_progress(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    A, y, lam = sparse_problem(20, 40, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", S.ConvergenceWarning)
        SOLVERS[name](A, y, lam, iterations=40, tol=1e-9, progress=True)
    out = capfd.readouterr().err
    assert name in out
    assert "40/40" in out
    SOLVERS[name](A, y, lam, iterations=40)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", SOLVERS)
def test_warning(name: str) -> None:
    """One sentence that points at the caller; and history tells which samples."""
    A, y, lam = sparse_problem(20, 40, 9)
    y[3] = 0
    history = S.History()
    rule = (
        rf"{name}: 8 of 9 samples did not reach tol = 1e-09 within 10 iterations \(the largest is at .*\): allow more"
    )
    with pytest.warns(S.ConvergenceWarning, match=rule) as record:
        SOLVERS[name](A, y, lam, iterations=10, tol=1e-9, history=history)
    assert record[0].filename == __file__
    assert history.samples is not None
    assert history.samples.converged.nonzero().flatten().tolist() == [3]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send")
@pytest.mark.parametrize(
    "call",
    [
        "fu.solvers.fista(A, y, 0.01, iterations=10**9, tol=1e-30, restart=True)",
        # one sample converges at once, and the calling thread with it
        "fu.solvers.fista(A, y[:2] * torch.tensor([[0.0], [1.0]]), 0.01, iterations=10**9, tol=1e-30)",
        "fu.solvers.fista(A, y, 0.01, iterations=10**9, tol=1e-30, history=fu.solvers.History())",
        "fu.solvers.admm(A, y, 0.01, iterations=10**9, tol=1e-30)",
        "fu.solvers.amp(A, y, iterations=10**9)",
    ],
)
def test_ctrl_c(tmp_path: Path, call: str) -> None:
    code = f"""
import signal, threading, os, torch, fastunroll as fu
torch.set_num_threads(2)
A, y = torch.randn(64, 256), torch.randn(500, 64)
wanted = fu.solvers.fista(A, y, 0.1, iterations=10, restart=True)
threading.Timer(0.4, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    {call}
except KeyboardInterrupt:
    print("stopped", torch.equal(fu.solvers.fista(A, y, 0.1, iterations=10, restart=True), wanted))
"""
    assert printed(tmp_path, code) == "stopped True\n"


A, y = torch.randn(25, 50), torch.randn(3, 25)
op = Blur(5, 5, torch.float32)
images = torch.randn(3, 5, 5)


class NoAdjoint:
    def __call__(self, x: Tensor) -> Tensor:
        return x


class Wrong(NoAdjoint):
    def adjoint(self, y: Tensor) -> Tensor:
        return y[:1]


class Zero(NoAdjoint):
    def __call__(self, x: Tensor) -> Tensor:
        return 0 * x

    adjoint = __call__


BAD: dict[str, Refused] = {
    "lambda": (lambda: S.fista(A, y, -1, tol=1e-3), ValueError, "lam must be a finite number ≥ 0, got -1"),
    "NaN": (lambda: S.ista(A, y, float("nan")), ValueError, "lam must be a finite number ≥ 0, got nan"),
    "NaN in a tensor": (
        lambda: S.admm(A, y, torch.tensor([[0.1], [float("nan")], [0.1]])), ValueError,
        "lam must be finite and ≥ 0 everywhere, but it holds a negative number, infinity or NaN: check how it was",
    ),
    "negative in a tensor": (
        lambda: S.fista(A, y, torch.linspace(-1, 1, 50)), ValueError,
        "lam must be finite and ≥ 0 everywhere, but it holds",
    ),
    "infinity in a tensor": (
        lambda: S.fista(A, y, torch.tensor(float("inf")), tol=1e-3), ValueError,
        "lam must be finite and ≥ 0 everywhere, but it holds",
    ),
    "lambda of samples in a row": (
        lambda: S.fista(A, y, torch.rand(3)), ValueError,
        "lam must be one number or one a coordinate, shape (50,), got (3,): for one a sample, give it the shape (3, 1)",
    ),
    "lambda for an operator": (
        lambda: S.fista(op, images, torch.rand(4)), ValueError,
        "lam must broadcast with x, but lam is (4,) and x is (3, 5, 5)",
    ),
    "columns": (
        lambda: S.fista(A, y[:, 1:], 0.1, tol=1e-3), ValueError,
        "y has 24 columns but A is (25, 50): expected y of shape (..., 25)",
    ),
    "x0": (
        lambda: S.admm(A, y, 0.1, x0=torch.zeros(2, 50)), ValueError,
        "x0 and y must hold the same samples, but their leading shapes are (2,) and (3,)",
    ),
    "x0 of an operator": (
        lambda: S.fista(op, images, 0.1, x0=images[:2]), ValueError,
        "x0 must have the shape of A.adjoint(y), (3, 5, 5), got (2, 5, 5)",
    ),
    "dtype": (lambda: S.amp(A, y.double()), TypeError, "all tensors must have one dtype, but A is torch.float32"),
    "half precision": (
        lambda: S.fista(A.half(), y.half(), 0.1, tol=1e-3), TypeError,
        "this solver needs single or double precision, got torch.float16: use .float()",
    ),
    "half precision, ADMM": (
        lambda: S.admm(A.bfloat16(), y.bfloat16(), 0.1), TypeError,
        "this solver needs single or double precision, got torch.bfloat16: use .float()",
    ),
    "complex AMP": (
        lambda: S.amp(A.to(torch.complex64), y.to(torch.complex64)), TypeError, "y must be real, got torch.complex64",
    ),
    "no adjoint": (
        lambda: S.fista(NoAdjoint(), y, 0.1), TypeError,
        "an operator must have A.adjoint(y) besides A(x), but NoAdjoint has no adjoint",
    ),
    "no operator": (
        lambda: S.fista([[1.0]], y, 0.1), TypeError,
        "A must be a matrix, a fu.operators.LinearOperator, an object with A(x) and A.adjoint(y), or a pair of "
        "functions (A, adjoint), got list: use torch.tensor(A) for a matrix",
    ),
    "one signal": (
        lambda: S.fista(op, images[0, 0], 0.1), ValueError,
        "y must be a batch of signals, (B, ...), where A is an operator, got shape (5,): use y[None] for one",
    ),
    "an adjoint that loses samples": (
        lambda: S.ista(Wrong(), images, 0.1), ValueError,
        "A.adjoint(y) must be a tensor with the 3 samples of y in its first dimension, got (1, 5, 5)",
    ),
    "a zero operator": (
        lambda: S.ista(Zero(), images, 0.1), ValueError, "A must not be zero: the step size 1/‖A‖² would be infinite",
    ),
    "an infinite operator": (
        lambda: S.ista(Opaque(A / 0), y, 0.1), ValueError, "A must be finite, but its products hold NaN or infinity",
    ),
    "tol": (lambda: S.fista(A, y, 0.1, tol=-1e-3), ValueError, "tol must be a finite number ≥ 0, got -0.001"),
    "a tensor for tol": (
        lambda: S.admm(A, y, 0.1, tol=torch.tensor(0.1)), TypeError, "tol must be a number, got Tensor: use float(tol)",
    ),
    "iterations": (
        lambda: S.admm(A, y, 0.1, iterations=0), ValueError, "iterations must be a whole number ≥ 1, got 0",
    ),
    "iterates": (
        lambda: S.fista(A, y, 0.1, tol=1e-3, return_iterates=True), ValueError,
        "return_iterates keeps every iterate of a fixed number of iterations on one matrix with one λ: use callback",
    ),
    "callback": (
        lambda: S.fista(A, y, 0.1, callback=3), TypeError,
        "callback must be a function of the iteration and x, or None, got int",
    ),
    "history": (
        lambda: S.amp(A, y, history=[]), TypeError, "history must be a fu.solvers.History() or None, got list",
    ),
    "step": (lambda: S.fista(A, y, 0.1, step=0), ValueError, "step must be a finite number > 0, got 0"),
    "NaN for a step": (
        lambda: S.ista(A, y, 0.1, step=float("nan")), ValueError, "step must be a finite number > 0, got nan",
    ),
    "NaN for a step, watched": (
        lambda: S.fista(A, y, 0.1, step=torch.tensor(float("nan")), tol=1e-3), ValueError,
        "step must be a finite number > 0, got nan",
    ),
    "negative step in a tensor": (
        lambda: S.ista(A, y, 0.1, step=torch.tensor(-1.0)), ValueError, "step must be a finite number > 0, got -1.0",
    ),
    "infinite step of an operator": (
        lambda: S.fista(op, images, 0.1, step=torch.tensor(float("inf"))), ValueError,
        "step must be a finite number > 0, got inf",
    ),
    "NaN in A, ADMM": (
        lambda: S.admm(A / 0, y, 0.1), ValueError,
        "A must be finite, but it holds NaN or infinity: check how it was computed",
    ),
    "rho that is too small": (
        lambda: S.admm(torch.ones(3, 5), torch.ones(2, 3), 0.1, rho=1e-20), ValueError,
        "rho must be large enough to make AᴴA + ρI regular in double precision, but 1e-20 is not: give a larger rho",
    ),
    "rho": (lambda: S.admm(A, y, 0.1, rho=0.0), ValueError, "rho must be a finite number > 0, got 0.0"),
    "rho in a tensor": (
        lambda: S.admm(A, y, 0.1, rho=torch.tensor(-1.0)), ValueError, "rho must be a finite number > 0, got -1.0",
    ),
    "relaxation": (
        lambda: S.admm(A, y, 0.1, relaxation=2), ValueError, "relaxation must be a number between 0 and 2, got 2",
    ),
    "solve": (
        lambda: S.admm(A, y, 0.1, solve=lambda b, rho: b), ValueError,
        "solve is a function for operators, solve(b, rho): a matrix is factorised",
    ),
    "what solve returns": (
        lambda: S.admm(op, images, 0.1, solve=lambda b, rho: b[0]), ValueError,
        "solve(b, rho) must return a tensor of shape (3, 5, 5), got (5, 5)",
    ),
    "damping": (
        lambda: S.amp(A, y, damping=1.5), ValueError,
        "damping must be a number in (0, 1], where 1 is no damping, got 1.5",
    ),
    "alpha in a tensor": (
        lambda: S.amp(A, y, alpha=torch.tensor(0.0)), ValueError, "alpha must be a finite number > 0, got 0.0",
    ),
    "alpha": (lambda: S.amp(A, y, alpha=0), ValueError, "alpha must be a finite number > 0, got 0"),
    "integers of NumPy": (
        lambda: S.fista(A.numpy(), np.ones((3, 25), dtype=int), 0.1), TypeError, "y must be floating point",
    ),
    "a list": (lambda: S.fista(A.numpy(), [1.0], 0.1), TypeError, "y must be a torch.Tensor, got list"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    check_refused(BAD[name])
