"""Training refuses bad arguments, and ends with a clear error where numbers are not finite."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll import training
from fastunroll.data import SparseRecovery, sensing_matrix
from fastunroll.training import Stage, TrainingError, end_to_end, layerwise, train
from small_training import PROBLEM, QUIET, A, alista, same, weights
from torch import Tensor


def test_a_loss_that_turns_nan_names_the_layer() -> None:
    net = fu.nn.LISTACP(A, layers=4)
    before = weights(net)
    calls = 0

    def loss(found: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 8:
            with torch.no_grad():
                net.W[2].fill_(math.nan)
            return found.sum() * math.nan
        return training.supervised(found, y, x)

    with pytest.raises(TrainingError) as caught:
        train(net, PROBLEM, end_to_end(50), loss=loss, **QUIET)
    assert "the output of layer 3 is the first that is not finite" in str(caught.value)
    assert "last good weights" in str(caught.value)
    assert all(p.isfinite().all() for p in net.parameters())
    assert not same(before, weights(net))


def test_a_gradient_that_is_not_finite() -> None:
    def loss(found: Tensor, y: Tensor, x: Tensor | None) -> Tensor:
        return (found - found.detach()).abs().sqrt().sum()

    with pytest.raises(TrainingError, match="its gradient"):
        train(fu.nn.LISTACP(A, layers=2), PROBLEM, end_to_end(5), loss=loss, **QUIET)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((PROBLEM, []), {}, "schedule must have at least one stage: use end_to_end(1000), for example"),
        (
            (PROBLEM, [Stage(1, depth=5)]), {},
            "depth of a stage must be at most 4, the number of layers of the network, got 5: "
            "give the network more layers",
        ),
        (
            ((torch.zeros(9, 20), None), end_to_end(1)), {},
            "the training set must hold at least one batch of 32 samples, but it has 8 beside the held-out samples: "
            "use a smaller batch",
        ),
        (
            ((torch.zeros(40, 20), torch.zeros(41, 40)), end_to_end(1)), {},
            "y and x of data must hold the same samples, got 40 and 41",
        ),
        (
            (PROBLEM, end_to_end(1)), {"rates": {"W": 1.0}},
            "rates names 'W', but ALISTA learns log_step, log_theta",
        ),
        (
            (PROBLEM, [Stage(1, depth=2, inherit={"W": 1.0})]), {},
            "inherit names 'W', but ALISTA has no such parameter in each layer",
        ),
        (
            ((torch.zeros(40, 20), None), end_to_end(1)), {},
            "a supervised loss needs the truth x, but the samples have none: train on kkt or lasso",
        ),
        ((PROBLEM, end_to_end(1)), {"clip": 0}, "clip must be a finite number > 0, got 0"),
    ],
)  # fmt: skip
def test_refused(arguments: tuple[Any, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the whole message is compared
        train(alista(), *arguments, **(QUIET | options))
    assert str(caught.value) == message


def test_stages_and_totals_are_checked() -> None:
    for call in (lambda: Stage(0), lambda: end_to_end(5, rate=0), lambda: layerwise(0), lambda: training.total()):
        with pytest.raises(ValueError, match=r"must be|needs at least"):
            call()


def test_a_number_is_no_schedule() -> None:
    with pytest.raises(TypeError) as caught:
        train(alista(), PROBLEM, 200, **QUIET)  # type: ignore[arg-type]
    assert str(caught.value) == "schedule must be a list of stages, got 200: use end_to_end(1000), for example"


def test_a_stage_alone_and_a_loader_are_refused() -> None:
    with pytest.raises(TypeError, match=r"schedule must be a list of stages, got one stage: use \[stage\]"):
        train(alista(), PROBLEM, Stage(2), **QUIET)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got DataLoader: give a tuple \(y, x\) of tensors"):
        train(alista(), torch.utils.data.DataLoader([1]), end_to_end(2), **QUIET)  # type: ignore[arg-type]


def test_nothing_to_train() -> None:
    net = alista().requires_grad_(False)
    with pytest.raises(ValueError, match="nothing is left to train: every parameter of this stage is frozen"):
        train(net, PROBLEM, end_to_end(1), **QUIET)


def test_checkpoints_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    options = QUIET | {"checkpoint": path}
    train(alista(), PROBLEM, end_to_end(10), **options)
    with pytest.raises(ValueError, match="is of another schedule, seed or other arguments"):
        train(alista(), PROBLEM, end_to_end(11), **options)
    other = SparseRecovery(sensing_matrix(20, 41), snr=40)
    with pytest.raises(ValueError, match="is of another network"):
        train(fu.nn.ALISTA(other.A, layers=4), other, end_to_end(10), **options)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="is not a checkpoint"):
        train(alista(), PROBLEM, end_to_end(10), **options)
