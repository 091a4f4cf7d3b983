"""Solvers over pictures are native calls wherever layers are compiled, and equal their iterations in PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from torch import Tensor

SIDE = 16
SIZES = {"blur, valid, large primes": (148, 164), "blur, large prime": (148, 16)}  # multiples of 4, for wavelets
LAM = 0.02
DOUBLE = torch.float64
OPERATORS: dict[str, Callable[[], Any]] = {
    "blur": lambda: fu.operators.Blur(torch.rand(5, 5, dtype=DOUBLE) / 25),
    "blur of each sample": lambda: fu.operators.Blur(torch.rand(3, 5, 5, dtype=DOUBLE) / 25),
    **{
        f"blur, {boundary}": lambda boundary=boundary: fu.operators.Blur(torch.rand(5, 4, dtype=DOUBLE) / 20, boundary)
        for boundary in ("reflect", "constant", "valid")
    },
    "blur, large prime": lambda: fu.operators.Blur(torch.rand(5, 4, dtype=DOUBLE) / 20),
    "blur, valid, large primes": lambda: fu.operators.Blur(torch.rand(5, 4, dtype=DOUBLE) / 20, "valid"),
    "scan": lambda: fu.operators.Fourier((torch.rand(SIDE, SIDE) > 0.4).double()),
    "scan of columns": lambda: fu.operators.Fourier((torch.rand(SIDE) > 0.4).double()),
    "coils": lambda: fu.operators.MultiCoilFourier(
        (torch.rand(SIDE) > 0.4).double(), torch.randn(3, SIDE, SIDE, dtype=torch.complex128)
    ),
    "mask": lambda: fu.operators.Mask((torch.rand(SIDE, SIDE) > 0.4).double()),
    "downsample": lambda: fu.operators.Downsample(2, torch.rand(5, 5, dtype=DOUBLE) / 25),
}
PRIORS: dict[str, Callable[[], Any]] = {
    "identity": fu.prox.Identity,
    "l1": fu.prox.L1,
    "nonnegative": fu.prox.NonNegativeL1,
    "box": lambda: fu.prox.Box(0, 0.8),
    "total variation": lambda: fu.prox.TotalVariation(4),
    "wavelet": lambda: fu.prox.WaveletL1("db2", 2),
    "bank": lambda: fu.prox.FilterBank(4, 3).double(),
}
SOLVERS: dict[str, Callable[..., Tensor]] = {
    "ista": fu.solvers.ista,
    "fista": fu.solvers.fista,
    "admm": fu.solvers.admm,
}
COMPLEX = "scan", "scan of columns", "coils"
SOLVED = (
    "blur",
    "blur of each sample",
    "scan",
    "scan of columns",
    "mask",
    "downsample",
)  # that have a solve of their own
CASES = [
    (solver, operator, prior)
    for i, solver in enumerate(SOLVERS)
    for j, operator in enumerate(OPERATORS)
    for k, prior in enumerate(PRIORS)
    if not (operator in COMPLEX and prior in ("nonnegative", "box")) and (i + j + k) % 2 == 0
]


def measured(operator: str) -> tuple[Any, Tensor]:
    A = OPERATORS[operator]()
    x = torch.rand(3, *SIZES.get(operator, (SIDE, SIDE)), dtype=DOUBLE)
    return A, A(x.to(torch.complex128) if operator in COMPLEX else x)


def answers(solver: str, monkeypatch: pytest.MonkeyPatch, change: Callable[[bool], bool] = bool) -> list[bool]:
    """A list that gets the answers to whether the calls of a solver are native, which ``change`` may change."""
    module = sys.modules[f"fastunroll.solvers.{'proximal_gradient' if 'ista' in solver else solver}"]
    inner, found = module.Pictures.is_supported, []  # type: ignore[attr-defined]

    def asked(*given: Any) -> bool:
        found.append(change(inner(*given)))
        return found[-1]

    monkeypatch.setattr(module.Pictures, "is_supported", staticmethod(asked))  # type: ignore[attr-defined]
    return found


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::fastunroll.solvers.ConvergenceWarning")
@pytest.mark.parametrize(("solver", "operator", "prior"), CASES)
def test_native_equals_pytorch(solver: str, operator: str, prior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (A, y), prox = measured(operator), PRIORS[prior]()
    options: list[dict[str, Any]] = [
        {"iterations": 13},
        {"iterations": 24, "tol": 1e-12},
        {"iterations": 9, "lam": torch.tensor([0.01, 0.04, 0.0], dtype=DOUBLE).reshape(3, 1, 1)},
        {"iterations": 7, "x0": torch.rand_like(A.adjoint(y).real).to(y.dtype)},
    ]
    if solver == "admm":
        options += [{"iterations": 41}, {"iterations": 12, "relaxation": 1.0, "adaptive": False, "rho": 0.3}]

    def run(history: Any, lam: Tensor | float = LAM, **given: Any) -> Tensor:
        return SOLVERS[solver](A, y, lam, prox=prox, history=history, **given)

    for given in options:
        records = [fu.solvers.History() if given["iterations"] == 24 else None for _ in range(2)]
        with monkeypatch.context() as patch:
            is_native = answers(solver, patch)
            found = run(records[0], **given)
        with monkeypatch.context() as patch:
            answers(solver, patch, lambda _: False)
            wanted = run(records[1], **given)
        assert is_native == [solver != "admm" or operator in SOLVED]
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
        if records[0] is not None and records[1] is not None:
            for name in ("iteration", "objective", "gap", "kkt", "rho", "primal", "dual"):
                one, other = (torch.tensor(getattr(record, name), dtype=DOUBLE) for record in records)
                torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9, equal_nan=True)


@torch.no_grad()
@pytest.mark.parametrize("solver", [*SOLVERS, "primal_dual"])
@pytest.mark.parametrize("prior", [name for name in PRIORS if name not in ("identity", "box")])
def test_a_weight_of_each_sample(solver: str, prior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, each has the same bits, by its λ as a number too."""
    (A, y), prox = measured("blur"), PRIORS[prior]()
    lam = torch.tensor([0.01, 0.04, 0.0], dtype=DOUBLE).reshape(3, 1, 1)
    options: dict[str, Any] = {"iterations": 11, "prox": prox}
    options |= {"adaptive": False, "rho": 0.3} if solver == "admm" else {}
    solve = getattr(fu.solvers, solver)
    is_native = answers(solver, monkeypatch)
    x = solve(A, y, lam, **options)
    for i in range(3):
        assert torch.equal(solve(A, y[i : i + 1], lam[i : i + 1], **options), x[i : i + 1])
        assert torch.equal(solve(A, y[i : i + 1], float(lam[i]), **options), x[i : i + 1])
    assert is_native == 7 * [True]


@pytest.mark.parametrize("solver", [*SOLVERS, "primal_dual"])
@pytest.mark.parametrize("lead", [(0,), (2, 0)])
def test_a_weight_of_each_of_no_samples(solver: str, lead: tuple[int, ...]) -> None:
    A, _ = measured("blur")
    y = torch.zeros(*lead, SIDE, SIDE, dtype=DOUBLE)
    lam = torch.full((*lead, 1, 1), LAM, dtype=DOUBLE)
    assert getattr(fu.solvers, solver)(A, y, lam, iterations=3).shape == y.shape


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::fastunroll.solvers.ConvergenceWarning")
@pytest.mark.parametrize("solver", [*SOLVERS, "primal_dual"])
@pytest.mark.parametrize("operator", ["blur", "blur, reflect", "scan", "mask"])
def test_a_sample_whose_squares_overflow_changes_no_other(solver: str, operator: str) -> None:
    A, y = measured(operator)
    options: dict[str, Any] = {"iterations": 11}
    options |= {"adaptive": False, "rho": 0.3} if solver == "admm" else {}
    solve = getattr(fu.solvers, solver)
    x = solve(A, y, LAM, **options)
    y[1, 0, 0] = 1e300
    assert torch.equal(solve(A, y, LAM, **options)[::2], x[::2])


@torch.no_grad()
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("operator", SOLVED)
def test_bits_depend_on_no_other_sample(solver: str, operator: str) -> None:
    A, y = measured(operator)
    options: dict[str, Any] = {"iterations": 17, "prox": fu.prox.TotalVariation(3)}
    options |= {"adaptive": False, "rho": 0.3} if solver == "admm" else {"step": 0.5}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        x = SOLVERS[solver](A, y, LAM, **options)
        torch.set_num_threads(2)
        assert torch.equal(SOLVERS[solver](A, y, LAM, **options), x)
    finally:
        torch.set_num_threads(before)
    if operator != "blur of each sample":
        assert torch.equal(SOLVERS[solver](A, y[1:2], LAM, **options), x[1:2])


@pytest.mark.parametrize("solver", SOLVERS)
def test_gradients_by_pytorch(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    A, y = measured("blur")
    lam = torch.tensor(LAM, dtype=DOUBLE, requires_grad=True)
    is_native = answers(solver, monkeypatch)
    SOLVERS[solver](A, y, lam, iterations=3).square().sum().backward()
    assert is_native == [False]
    assert lam.grad is not None
    assert bool(torch.isfinite(lam.grad))


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::fastunroll.solvers.ConvergenceWarning")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("operator", ["blur", "blur, reflect", "blur, valid, large primes", "downsample", "mask"])
def test_what_is_not_finite_stays_with_its_sample(solver: str, operator: str, bad: float) -> None:
    A, y = measured(operator)
    options: dict[str, Any] = {"adaptive": False, "rho": 0.3} if solver == "admm" else {"step": 0.5}
    x = SOLVERS[solver](A, y, LAM, iterations=12, **options)
    y[1, 2, 3] = bad
    found = SOLVERS[solver](A, y, LAM, iterations=12, **options)
    assert torch.equal(found[::2], x[::2])
    assert not bool(torch.isfinite(found[1]).all())
