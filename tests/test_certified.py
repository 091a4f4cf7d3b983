"""A network with the guarantee of a solver: only what the network leaves is solved, and all of it."""

from __future__ import annotations

import importlib
import re

import fastunroll as fu
import pytest
import torch
from fastunroll.solvers import certified


def samples(seed: int, count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    A = torch.randn(30, 60, generator=random, dtype=torch.float64) / 30**0.5
    return A, torch.randn(count, 30, generator=random, dtype=torch.float64)


class Half(torch.nn.Module):
    """Right for even samples, wrong for odd ones."""

    def __init__(self, A: torch.Tensor, wrong: float) -> None:
        super().__init__()
        self.solver, self.wrong = fu.solvers.Lasso(A), wrong

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        x = self.solver.solve(y, 0.3, tol=1e-10).x
        x[1::2] += self.wrong
        return x


@pytest.mark.parametrize("wrong", [0.1, 100.0, float("nan"), float("inf")])
def test_finishes_what_is_wrong_and_that_alone(wrong: float) -> None:
    A, y = samples(0)
    model = Half(A, wrong)
    result = certified(model, A, 0.3, 1e-6)(y)
    assert result.refined.tolist() == [False, True] * 20
    assert result.share == 0.5
    assert result.converged.all()
    assert (fu.solvers.duality_gap(result.x, y, A, 0.3) <= 1e-6).all()
    assert torch.equal(result.x[::2], model(y)[::2])
    assert (result.iterations[::2] == 0).all()
    assert set(result.seconds) == {"network", "gap", "solver"}
    assert "20 of 40" not in repr(result)
    assert "40 of 40 converged, 50 % finished by the solver" in repr(result)


def test_network_that_is_right_needs_no_solver() -> None:
    A, y = samples(1)
    result = certified(Half(A, 0.0), A, 0.3, 1e-6)(y)
    assert not result.refined.any()
    assert result.share == 0


def test_one_lambda_a_sample_and_leading_dimensions() -> None:
    A, y = samples(2, 12)
    solver = fu.solvers.Lasso(A)
    y = y.reshape(3, 4, 30)
    net = fu.nn.LISTA(A, layers=3, lam=0.3)
    result = certified(net, solver, lambda y: 0.2 * solver.lambda_max(y), 1e-8)(y)
    assert result.x.shape == (3, 4, 60)
    assert result.gap.shape == result.converged.shape == result.refined.shape == (3, 4)
    lam = 0.2 * solver.lambda_max(y)
    assert (fu.solvers.duality_gap(result.x, y, A, lam[..., None]) <= 1e-8).all()


def test_the_better_of_network_and_solver() -> None:
    """A solver that may not take the steps it needs does not replace what is nearer to the optimum."""
    A, y = samples(7)
    model = Half(A, 0.01)
    gap = fu.solvers.duality_gap(model(y), y, A, 0.3)
    result = certified(model, A, 0.3, 1e-12, max_iter=1)(y)
    assert result.refined[1::2].all()
    assert (result.gap <= gap + 1e-15).all()
    assert torch.allclose(result.gap, fu.solvers.duality_gap(result.x, y, A, 0.3), atol=1e-14)
    worthless = certified(lambda y: 0.9 * model(y), fu.solvers.Lasso(A), 1e-30, 1e-12, max_iter=1)(y)
    assert (worthless.gap < 1).all()


def test_what_did_not_converge_is_said() -> None:
    A, y = samples(3)
    result = certified(Half(A, 100.0), A, 0.3, 1e-12, max_iter=1)(y)
    assert not result.converged[1::2].any()
    assert "20 of 40 converged" in repr(result)


def test_no_samples() -> None:
    A, y = samples(4)
    result = certified(fu.nn.LISTA(A, layers=2), A, 0.3)(y[:0])
    assert result.x.shape == (0, 60)
    assert result.share == 0


def test_comparison_says_what_each_takes() -> None:
    A, y = samples(5)
    said = certified(Half(A, 1.0), A, 0.3, 1e-6).compare(y)
    assert re.fullmatch(
        r"40 samples to a gap of 1e-06: network and solver [\d.e+]+ ms \(50 % finished by the solver, 40 converged\), "
        r"solver alone [\d.e+]+ ms \(40 converged\)",
        said,
    )


def test_time_is_taken_when_the_device_has_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the network's time on a GPU would be counted as the solver's."""
    module = importlib.import_module("fastunroll.solvers.certified")
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    gpu = torch.device("cuda", 1)
    assert module.seconds_at(gpu) <= module.seconds_at(torch.device("cpu"))
    assert waited == [gpu]

    steps = iter([1.0, 11.0, 111.0, 1111.0])
    monkeypatch.setattr(module, "seconds_at", lambda device: next(steps))
    A, y = samples(0)
    assert certified(Half(A, 0.1), A, 0.3)(y).seconds == {"network": 10.0, "gap": 100.0, "solver": 1000.0}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda A: certified(3, A, 0.1), TypeError, "model must be a network or a function of y, got int"),
        (lambda A: certified(len, A, 0.0), ValueError, "lam must be a finite number > 0, got 0.0"),
        (lambda A: certified(len, A, 0.1, 0), ValueError, "tol must be a finite number > 0, got 0"),
        (
            lambda A: certified(len, fu.solvers.Lasso(A, ridge=0.1), 0.1), ValueError,
            "certified needs a plain Lasso(A): without weights, ridge or nonnegative",
        ),
        (
            lambda A: certified(len, A, 0.1)([1.0]), TypeError,
            "y must be a torch.Tensor, got list: use torch.as_tensor(y)",
        ),
        (
            lambda A: certified(len, A, 0.1)(torch.zeros(2, 29, dtype=A.dtype)), ValueError,
            "y has 29 columns but A is (30, 60): expected y of shape (..., 30)",
        ),
        (
            lambda A: certified(lambda y: y, A, 0.1)(torch.zeros(2, 30, dtype=A.dtype)), ValueError,
            "model must return x of shape (2, 60), got (2, 30)",
        ),
    ],
)  # fmt: skip
def test_refusals(make, error: type[Exception], message: str) -> None:
    A, _ = samples(6)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        make(A)
