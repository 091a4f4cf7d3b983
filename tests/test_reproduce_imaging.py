"""``fastunroll reproduce --imaging`` at small size: what it trains, measures, writes, keeps and refuses."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from closeness import relative_error
from fastunroll.reproduce import ReproduceError
from fastunroll.reproduce.imaging import Settings, networks, reproduce_imaging
from fastunroll.reproduce.imaging.settings import BlockSensing, HeldOutPhotograph, linear_start, sensing
from fastunroll.training.loop import Budget

run = importlib.import_module("fastunroll.reproduce.imaging.run")
PICTURES = [np.random.default_rng(i).random((20, 23)).cumsum(0) / 20 for i in range(2)]
SMALL = Settings(
    Budget(6, 600.0), layers=2, side=7, share=0.5, features=3, batch=4, images=PICTURES, tested=("coins",)
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("imaging") / "here"
    return reproduce_imaging(out, SMALL), out


def test_it_writes_what_it_says(made: tuple[str, Path]) -> None:
    page, out = made
    names = [c.name for c in networks.contestants(sensing(SMALL), SMALL)]
    assert len(names) == (4 if networks.is_installed() else 2)
    assert ("DeepInverse is not installed" in page) == (len(names) == 2)
    for word in (*names, run.LINEAR, "PSNR dB", "ms a step", "ms an image", "7×7", "coins"):
        assert word in page
    assert (out / "imaging.md").read_text(encoding="utf-8") == page
    rows = json.loads((out / "imaging.json").read_text(encoding="utf-8"))["rows"]
    assert [row["name"] for row in rows] == [run.LINEAR, *names]
    for row in rows:
        assert row["psnr"] > 10
        assert 0 < row["ssim"] <= 1
        assert row["ms"] > 0
    assert all(row["steps"] == 6 and row["step_ms"] > 0 and row["parameters"] > 100 for row in rows[1:])
    assert len(list((out / "weights").iterdir())) == len(names)


def test_networks_that_are_trained_are_not_trained_again(
    made: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = made
    before = json.loads((out / "imaging.json").read_text(encoding="utf-8"))["rows"]

    def train(*arguments: Any) -> None:
        raise AssertionError("a network is trained again")

    with monkeypatch.context() as patch:
        patch.setattr(run.Comparison, "train", train)
        reproduce_imaging(out, SMALL)
        after = json.loads((out / "imaging.json").read_text(encoding="utf-8"))["rows"]
        assert [row["psnr"] for row in after] == [row["psnr"] for row in before]
        with pytest.raises(AssertionError, match="trained again"):
            reproduce_imaging(out, replace(SMALL, seed=1))


def test_training_is_seeded() -> None:
    found = []
    for _ in range(2):
        comparison = run.Comparison(SMALL)
        for contestant in comparison.contestants:
            comparison.train(contestant)
        found.append([value for c in comparison.contestants for value in c.net.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_operator_of_blocks() -> None:
    A = BlockSensing(sensing(SMALL).Phi.double(), 7)
    assert fu.operators.check(A)
    y = torch.randn(3, SMALL.measurements, dtype=torch.float64)
    torch.testing.assert_close(A(A.adjoint(y)), y, rtol=0, atol=1e-6)


def test_the_linear_start_is_the_best_of_all_matrices() -> None:
    A, blocks = sensing(SMALL), torch.rand(200, 7, 7).cumsum(1)
    Q = linear_start(A, blocks)
    assert Q.shape == (49, SMALL.measurements)
    error = (A(blocks) @ Q.mT - blocks.flatten(1)).norm()
    assert error < (A.adjoint(A(blocks)) - blocks).norm()
    assert relative_error(A(blocks[:1]) @ Q.mT, blocks[:1].flatten(1)) < 1


def test_the_network_in_plain_pytorch_is_the_proximal_gradient_network_of_the_same_weights() -> None:
    """One phase of ISTA-Net⁺ is one layer of ``Unrolled`` with a learned transform."""
    A, layers = sensing(SMALL), 3
    plain = networks.ISTANetPlus(A.Phi, 7, layers, 3)
    prior = fu.prox.PerLayer(fu.prox.LearnedTransform(features=3), layers)
    net = fu.nn.Unrolled(fu.schemes.ProximalGradient(), A, prior, layers, lam=networks.THRESHOLD, step=1.0)
    with torch.no_grad():
        for k in range(layers):
            copy: Any = prior.copies[k]
            convolutions = copy.extract, copy.transform[0], copy.transform[2], copy.inverse[0], copy.inverse[2]
            for convolution, weight in zip((*convolutions, copy.restore), plain.phases[k], strict=True):  # type: ignore[arg-type]
                convolution.weight.copy_(weight)
            net.log_step[k].fill_(float(np.log(networks.STEP)))
            net.log_theta[k].fill_(float(np.log(networks.THRESHOLD)))
        y = A(torch.rand(4, 7, 7))
        x0 = A.adjoint(y)
        found, symmetry = plain(y, x0)
        assert relative_error(net(y, x0), found) < 1e-4
        r = [x0 - networks.STEP * A.gradient(x0, y)]
        assert float(prior.copies[0].symmetry_loss(r[0])) < float(symmetry)  # type: ignore[operator]


def test_photographs_are_cut_into_blocks_and_assembled() -> None:
    photograph = HeldOutPhotograph("coins", 33)
    assert photograph.blocks().shape == (9 * 11, 33, 33)
    assert torch.equal(photograph.assemble(photograph.blocks()), photograph.x)


@pytest.mark.parametrize("content", ["{}", "[]", '{"steps": {"x": 0}}', '{"steps": {"x": "1"}}', "no json"])
def test_a_folder_of_something_else(content: str, tmp_path: Path) -> None:
    (tmp_path / "imaging.json").write_text(content)
    with pytest.raises(ReproduceError, match=r"is not a result of .* --imaging.*: give another --out"):
        reproduce_imaging(tmp_path, SMALL)


def test_weights_of_something_else(made: tuple[str, Path]) -> None:
    _, out = made
    first = sorted((out / "weights").iterdir())[0]
    whole = first.read_bytes()
    torch.save({"x": torch.zeros(2)}, first)
    try:
        with pytest.raises(ReproduceError, match="does not hold the weights of this network: delete it"):
            reproduce_imaging(out, SMALL)
    finally:
        first.write_bytes(whole)
