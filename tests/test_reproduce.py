"""``fastunroll reproduce``: it trains, tests, writes, resumes, and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import fastunroll as fu
import pytest
import torch
from fastunroll.reproduce import ReproduceError, reproduce
from fastunroll.reproduce.evaluation import errors
from fastunroll.reproduce.published import PUBLISHED
from fastunroll.reproduce.recipes import RECIPES
from fastunroll.reproduce.settings import SETTINGS
from forks import printed_by_command


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the command prints, and its folder. It runs in a process of its own, as users call it."""
    folder = tmp_path_factory.mktemp("made")
    options = "--quick", "--networks", "LISTACPSS,ADMMNet", "--size", "20x40", "--out", str(folder / "here")
    return printed_by_command(folder, "reproduce", *options), folder / "here"


def test_writes_what_it_says(made: tuple[str, Path]) -> None:
    said, out = made
    assert {p.name for p in out.iterdir()} == {"reproduction.json", "reproduction.md", "reproduction.png", "weights"}
    page = (out / "reproduction.md").read_text(encoding="utf-8")
    assert page in said
    for word in ("LISTACPSS", "ADMMNet", "ALISTA", "AMP", "quick", "SNR 40 dB", "20×40"):
        assert word in page
    assert (out / "reproduction.png").stat().st_size > 10_000
    results = json.loads((out / "reproduction.json").read_text(encoding="utf-8"))["results"]
    trained = {r["name"]: r for r in results.values() if "untrained" in r}
    assert set(trained) == {"ALISTA", "LISTACPSS", "ADMMNet"}
    for r in trained.values():
        assert len(r["layers"]["pooled"]) == len(r["layers"]["per_sample"]) == 16
        assert r["layers"]["pooled"][-1] <= r["untrained"]["pooled"][-1] + 0.5
    assert len(list((out / "weights").iterdir())) == 3


def test_weights_are_those_that_were_tested(made: tuple[str, Path]) -> None:
    _, out = made
    (row,) = (
        r
        for r in json.loads((out / "reproduction.json").read_text(encoding="utf-8"))["results"].values()
        if r["name"] == "ADMMNet"
    )
    (weights,) = (out / "weights").glob("ADMMNet*.pt")
    problem = SETTINGS["snr40"].problem((20, 40), 0)
    net = fu.nn.ADMMNet(problem.A)
    net.load_state_dict(torch.load(weights, weights_only=True))
    y, x = fu.data.fixed(problem, 1024, 1000)
    assert x is not None
    with torch.no_grad():
        assert float(fu.losses.nmse_db(net(y), x)) == pytest.approx(row["layers"]["pooled"][-1], abs=1e-3)


def test_goes_on_where_it_was(made: tuple[str, Path]) -> None:
    _, out = made
    before = (out / "reproduction.json").read_text(encoding="utf-8")
    page = reproduce(["LISTACPSS"], ["snr40"], [0], out, size=(20, 40), quick=True)
    assert (out / "reproduction.json").read_text(encoding="utf-8") == before
    assert "LISTACPSS" in page
    assert "ADMMNet" not in page


def test_the_two_definitions() -> None:
    x = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    layers = (x + torch.tensor([[0.1, 0.0], [0.0, 0.02]]))[None]
    found = errors(layers, x)
    assert found["pooled"] == pytest.approx([float(fu.losses.nmse_db(layers[0], x))])
    assert found["per_sample"] == pytest.approx([float(fu.losses.nmse_db(layers[0], x, pooled=False))], abs=1e-4)
    assert errors(x[None], x)["per_sample"][0] < -90


def test_every_published_figure_has_its_row() -> None:
    for name, setting in PUBLISHED:
        assert name in RECIPES
        assert setting in SETTINGS
    kinds = {name.split("-")[0].split(" ")[0] for name in RECIPES}
    others = {"DnCNN", "ISTALayer", "SoftThreshold", "Unrolled", "UnrolledNetwork", "analytic_weights"}
    assert {*fu.nn.__all__} - others == kinds


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "reproduction.json").write_text("{}")
    with pytest.raises(ReproduceError, match="is not a result of fastunroll reproduce"):
        reproduce(["StepLISTA"], ["snr40"], [0], tmp_path, size=(5, 9), quick=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ReproduceError, match="cannot write to"):
        reproduce(["StepLISTA"], ["snr40"], [0], tmp_path / "file", size=(5, 9), quick=True)
