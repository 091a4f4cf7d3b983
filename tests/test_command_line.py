"""The command line as a user meets it: what it prints and writes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import fastunroll as fu
import numpy as np
import pytest
import torch
from fastunroll.__main__ import main
from fastunroll.demo import main as whole
from fastunroll.demo import photographs, training
from fastunroll.demo.evaluation import Evaluation, eager, speed
from fastunroll.demo.sensing import Sensing
from fastunroll.demo.timing import milliseconds
from fastunroll.training.loop import Budget, Trained
from skimage import data, io
from torch import Tensor
from tqdm import tqdm


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds one small colour picture."""
    folder = tmp_path_factory.mktemp("pictures")
    io.imsave(folder / "small.png", data.astronaut()[:100, :90], check_contrast=False)
    return folder


def test_info_says_which_kernels_err(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("fastunroll._info.self_tests", lambda: {"cpu": None, "cuda:0": "its kernels fail"})
    with pytest.raises(SystemExit, match="1"):
        main(["info", "--check"])
    assert capsys.readouterr().out.endswith("self-test        cpu: passed\nself-test        cuda:0: its kernels fail\n")


def test_info() -> None:
    """In a process of its own, as users call it."""
    command = [sys.executable, "-m", "fastunroll", "info", "--check"]
    out = subprocess.run(command, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert "self-test        cpu: passed" in out.stdout.splitlines()
    for word in ("fastunroll", "instruction set", "threads", "OpenMP", "torch", "CUDA"):
        assert word in out.stdout
    if not torch.cuda.is_available():
        assert "not available: " in out.stdout or "not compiled" in out.stdout


@pytest.fixture(scope="module")
def blocks() -> Tensor:
    """Blocks of the photographs for training."""
    return photographs.training_blocks(4000, 0)


@pytest.fixture(scope="module", autouse=True)
def _few_calls_are_timed() -> Iterator[None]:
    """Three of each method, and not as many as a third of a second has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastunroll.demo.evaluation.milliseconds", lambda calls, seconds: milliseconds(calls, 0.0))
        yield


@pytest.fixture(scope="module")
def demo(picture: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the demo prints, and where it writes, after as many iterations on every machine."""
    out = tmp_path_factory.mktemp("demo") / "made" / "on the way"
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        patch.setattr(whole, "QUICK", {"truth": Budget(120, 3600.0), "kkt": Budget(120, 3600.0)})
        main(["demo", "--quick", "--images", str(picture), "--out", str(out), "--seed", "3"])
    return printed.getvalue(), out


def test_demo(demo: tuple[str, Path]) -> None:
    printed, out = demo
    assert {p.name for p in out.iterdir()} == {"demo.png", "demo.md", "demo.json", "lista-truth.pt", "lista-kkt.pt"}
    assert (out / "demo.md").read_text(encoding="utf-8").strip() in printed
    assert io.imread(out / "demo.png").std() > 10


def test_demo_finds_what_it_claims(demo: tuple[str, Path]) -> None:
    """Even trained for seconds: the truth beats FISTA by 2 dB, converged or not; the KKT residual falls by far."""
    record = json.loads((demo[1] / "demo.json").read_text(encoding="utf-8"))
    ista, fista, early, converged, truth, kkt = record["results"]
    assert truth["psnr"] > max(fista["psnr"], early["psnr"], converged["psnr"]) + 1.5
    assert kkt["kkt"] < fista["kkt"] / 3
    assert converged["objective"] < kkt["objective"] < fista["objective"] < ista["objective"]
    assert truth["layer_psnr"][-1] == pytest.approx(truth["psnr"], abs=1e-4)
    assert converged["kkt"] < 1e-5


def test_demo_weights_reload(demo: tuple[str, Path], picture: Path) -> None:
    sensing = Sensing(seed=3)
    net = fu.nn.LISTA(sensing.A, layers=16)
    net.load_state_dict(torch.load(demo[1] / "lista-truth.pt", weights_only=True))
    result = Evaluation(photographs.from_folder(picture), sensing).network("again", net)
    record = json.loads((demo[1] / "demo.json").read_text(encoding="utf-8"))
    assert result.psnr == pytest.approx(record["results"][4]["psnr"], abs=1e-4)


def test_interrupt_keeps_the_best_weights(
    picture: Path, blocks: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C at the second check of the loss."""
    checks = []

    def press(bar: tqdm[int], text: str) -> None:
        checks.append(text)
        if len(checks) == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(tqdm, "set_postfix_str", press)
    monkeypatch.setattr(training, "CHECK_EVERY", 10)
    monkeypatch.setattr(photographs, "training_blocks", lambda count, seed: blocks)
    main(["demo", "--quick", "--images", str(picture), "--out", str(tmp_path)])
    out = capsys.readouterr().out
    assert len(checks) == 2
    assert "Training ended early" in out
    assert "LISTA@16, truth" in out
    assert (tmp_path / "demo.png").exists()
    found, start = torch.load(tmp_path / "lista-truth.pt", weights_only=True), fu.nn.LISTA(Sensing(0).A, layers=16)
    assert not torch.equal(found["W1.0"], start.W1[0])


def test_pictures_of_every_kind(tmp_path: Path) -> None:
    grey = data.camera()[:50, :70]
    kinds = {
        "grey": grey, "deep": grey.astype(np.uint16) * 257, "colour": np.stack([grey] * 3, -1),
        "alpha": np.stack([grey, grey, grey, np.full_like(grey, 255)], -1),
    }  # fmt: skip
    for name, pixels in kinds.items():
        io.imsave(tmp_path / f"{name}.png", pixels, check_contrast=False)
    (tmp_path / ".hidden").write_text("passed over")
    pictures = photographs.from_folder(tmp_path)
    assert [p.name for p in pictures] == ["alpha.png", "colour.png", "deep.png", "grey.png"]
    for p in pictures:
        assert p.pixels.shape == (48, 64)
        assert np.allclose(p.pixels, grey[1:49, 3:67] / 255, atol=1e-3)
        assert np.allclose(p.assemble(p.blocks()), p.pixels, atol=1e-6)


def test_sensing_is_orthonormal() -> None:
    s = Sensing(0)
    assert torch.allclose(s.A @ s.A.mT, torch.eye(64), atol=1e-5)
    blocks = torch.rand(5, 256)
    x = s.coefficients(blocks)
    assert torch.allclose(s.blocks(x), blocks, atol=1e-5)
    assert torch.allclose(x.norm(dim=1), (blocks - 0.5).norm(dim=1), rtol=1e-5)


def test_training_is_reproducible_and_keeps_the_best(blocks: Tensor, capfd: pytest.CaptureFixture[str]) -> None:
    sensing = Sensing(0)
    nets = []
    for _ in range(2):
        net = fu.nn.LISTA(sensing.A, layers=3, lam=sensing.lam)
        done = training.train(net, training.on_the_truth(), sensing, blocks, Budget(120, 3600.0), seed=1)
        assert done == Trained(120, False)
        nets.append(net.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(nets[0].values(), nets[1].values(), strict=True))
    assert "loss=" in capfd.readouterr().err


def test_training_ends_with_its_time(blocks: Tensor) -> None:
    sensing = Sensing(0)
    net = fu.nn.LISTA(sensing.A, layers=3, lam=sensing.lam)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    done = training.train(net, training.on_the_truth(), sensing, blocks, Budget(10**9, 0.5), seed=1)
    assert 0 < done.iterations < 10**6
    assert not done.interrupted
    assert any(not torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_speed_compares_the_same_network() -> None:
    sensing = Sensing(0)
    net = fu.nn.LISTA(sensing.A, layers=3, lam=0.02)
    y = torch.randn(40, 64)
    assert torch.allclose(eager(net, y), net(y), atol=1e-5)
    for s in speed(net, y, 16, 0.01):
        assert s.native_ms > 0
        assert s.ratio == pytest.approx(s.eager_ms / s.native_ms)
