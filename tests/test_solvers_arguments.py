"""What solvers make of their arguments: arrays of NumPy in any form, autocast, operators that count their calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from fastunroll.arrays import from_array
from problems import Counted, Opaque, sparse_problem
from torch import Tensor

S = fu.solvers


@pytest.mark.parametrize(
    ("call", "forwards", "adjoints"),
    [
        # as many as iterations: Aᴴy is what the first one needs, and the last A x tells the objective
        *((lambda op, y, f=f, k=k: f(op, y, 0.1, iterations=k), k, k) for f in (S.ista, S.fista) for k in (1, 2, 25)),
        (lambda op, y: S.fista(op, y, 0.1, iterations=25, restart=True, monotone=True), 25, 25),
        (lambda op, y: S.fista(op, y, 0.1, iterations=25, callback=lambda i, x: None), 25, 25),
        (lambda op, y: S.fista(op, y, 0.1, iterations=25, nonnegative=True), 25, 25),
        # Aᴴ for each gap but the first
        (lambda op, y: S.fista(op, y, 1e-9, iterations=20, tol=1e-9), 20, 22),
        # one of each at the start
        (lambda op, y: S.fista(op, y, 0.1, iterations=1, x0=torch.zeros(3, 40, dtype=y.dtype)), 2, 2),
        (
            lambda op, y: S.admm(op, y, 0.1, iterations=1, inner_iterations=1, x0=torch.zeros(3, 40, dtype=y.dtype)),
            5,
            3,
        ),
        # Aᴴ for the gap, and one of each by the look of the history
        (lambda op, y: S.ista(op, y, 0.1, iterations=1, history=S.History()), 2, 3),
        # Aᴴy, and two applications by conjugate gradients; A besides for ρ, and for the objective in the end
        (lambda op, y: S.admm(op, y, 0.1, iterations=1, inner_iterations=1), 4, 3),
        (lambda op, y: S.admm(op, y, 0.1, iterations=1, rho=1.0, solve=lambda b, rho: b), 1, 1),
        (lambda op, y: S.amp(op, y, iterations=1), 2, 2),
        (lambda op, y: S.duality_gap(torch.zeros(3, 40, dtype=y.dtype), y, op, 0.1), 1, 2),
        (lambda op, y: S.lambda_max(op, y), 0, 1),
    ],
)
@pytest.mark.filterwarnings("ignore::fastunroll.solvers.ConvergenceWarning")
def test_products_with_an_operator(call: Callable[[Counted, Tensor], Tensor], forwards: int, adjoints: int) -> None:
    """No more than the algorithm needs, and one of each that tells whether the operator is as it was."""
    A, y, _ = sparse_problem(20, 40, 3)
    op = Counted(A)
    call(op, y)
    assert (op.forwards, op.adjoints) == (forwards + 1, adjoints + 1)


@pytest.mark.parametrize("solver", [S.ista, S.fista, S.admm, S.primal_dual])
def test_autocast(solver: Callable[..., Tensor]) -> None:
    """What starts an operator's iterations gets the dtype of y, as for a matrix; nothing is computed in less."""
    A, y, lam = sparse_problem(20, 40, 3, torch.float32)
    options: dict[str, Any] = {"x0": torch.ones(3, 40), "iterations": 20}
    for operator in (A, Opaque(A)):
        wanted = solver(operator, y, lam, **options, history=S.History())
        for dtype in (torch.float64, torch.bfloat16):
            with torch.autocast("cpu"):
                start = {**options, "x0": torch.ones(3, 40, dtype=dtype)}
                found = solver(operator, y, lam, **start, history=S.History())
            assert found.dtype == torch.float32
            assert torch.equal(found, wanted)


def forms(array: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """The same numbers, differently in memory."""
    read_only = array.copy()
    read_only.flags.writeable = False
    record = np.zeros(array.shape, dtype=[("flag", "i1"), ("value", array.dtype)])
    record["value"] = array
    orders = [array.astype(array.dtype.newbyteorder(order)) for order in "<>"]
    strided = [np.asfortranarray(array), array[::-1].copy()[::-1], np.repeat(array, 2, axis=-1)[..., ::2]]
    return [*orders, *strided, read_only, record["value"]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_in_any_form(dtype: type) -> None:
    A, y, lam = (t.numpy().astype(dtype) for t in sparse_problem(20, 40, 3))
    wanted = S.fista(A, y, lam, tol=1e-3, iterations=500)
    gaps = S.duality_gap(wanted, y, A, lam)  # type: ignore[arg-type]
    assert isinstance(gaps, np.ndarray)
    assert gaps.max() <= 1e-3
    for given in zip(*(forms(a) for a in (A, y, lam)), strict=True):
        assert np.array_equal(S.fista(*given, tol=1e-3, iterations=500), wanted)
        for array in given:
            assert np.array_equal(from_array(array).numpy(), array)


def test_arrays_are_shared_where_they_can_be() -> None:
    array = np.zeros((3, 4))
    for view in (array, array.T, array[:, 1:3], array[0, 0:1], array[:0]):
        assert np.shares_memory(from_array(view).numpy(), view) or not view.size


class Learned(torch.nn.Module):
    def __init__(self, A: Tensor) -> None:
        super().__init__()
        self.A = torch.nn.Parameter(A)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.A.mT

    def adjoint(self, y: Tensor) -> Tensor:
        return y @ self.A


@pytest.mark.parametrize("solver", [S.ista, S.fista, S.admm, S.primal_dual])
def test_arrays_and_an_operator_with_parameters(solver: Callable[..., Any]) -> None:
    A, y, lam = sparse_problem(20, 40, 3)
    seen: list[Any] = []
    found = solver(Learned(A), y.numpy(), lam.numpy(), iterations=20, callback=lambda i, x: seen.append(x))
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, seen[-1])
    assert np.array_equal(found, solver(Learned(A), y, lam, iterations=20).detach().numpy())


@pytest.mark.parametrize("answer", [True, np.True_, torch.tensor(True)], ids=repr)
def test_what_ends_a_run(answer: Any) -> None:
    A, y, lam = sparse_problem(20, 40, 3)
    seen: list[int] = []
    S.fista(A, y, lam, iterations=60, callback=lambda i, x: [seen.append(i), answer][1])
    assert seen == [10]
    S.fista(A, y, lam, iterations=60, callback=lambda i, x: [i])
    S.fista(A, y, lam, iterations=60, callback=lambda i, x: [seen.append(i), np.False_][1])
    assert seen == [10, 10, 20, 30, 40, 50, 60]


def test_a_wrong_adjoint() -> None:
    A, y, lam = sparse_problem(20, 40, 3)

    class Wrong(Opaque):
        def adjoint(self, y: Tensor) -> Tensor:
            return -super().adjoint(y)

    diverged = "diverged, .*: give a step .*, and check that A.adjoint is the adjoint of A"
    with (
        pytest.warns(S.ConvergenceWarning, match=diverged),
        pytest.warns(S.AdjointWarning, match="must be the adjoint"),
    ):
        S.fista(Wrong(A), y, lam, iterations=200, tol=1e-4)


def test_arrays_beside_tensors() -> None:
    A, y, lam = sparse_problem(20, 40, 3)
    wanted = S.fista(A, y, lam, iterations=20)
    found = S.fista(A.numpy(), y, lam.numpy(), iterations=20)
    assert isinstance(found, Tensor)
    assert torch.equal(found, wanted)


def test_an_operator_of_arrays() -> None:
    A, y, lam = sparse_problem(20, 40, 3)

    class Arrays(Opaque):
        def __call__(self, x: Tensor) -> Any:
            return super().__call__(x).numpy()

    for solver in (S.ista, S.fista, S.admm, S.primal_dual):
        with pytest.raises(TypeError, match=r"A\(x\) must return a tensor, got ndarray"):
            solver(Arrays(A), y, lam, iterations=5, **({"step": 0.1} if solver in (S.ista, S.fista) else {}))
