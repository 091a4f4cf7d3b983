"""The demos of imaging at small size: what they simulate, compare and write."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from closeness import relative_error
from fastunroll.demo.imaging import classical, compare, deblur, mri, network, rivals, training
from fastunroll.demo.imaging.compare import Experiment
from fastunroll.training.loop import Budget, Trained
from PIL import Image

ROOT = Path(__file__).parent.parent
KERNEL = deblur.moffat(5, width=2.0)
WIDE = deblur.moffat(9)


def of_galaxies() -> Experiment:
    picture = fu.data.photograph("hubble_deep_field")[None, 400:448, 300:364]
    tested = deblur.scene("small", picture, WIDE, 0)
    experiment = deblur.experiment(tested, WIDE, True, False, 20)
    return replace(experiment, draw=deblur.Draw(WIDE, 24), tune=deblur.Draw(WIDE, 24, skies=1.0, valid=0.0))


def of_heads() -> Experiment:
    tested = [mri.scene("phantom", fu.data.shepp_logan(48), 0, coils) for coils in (1, mri.COILS)]
    small = mri.Draw(32)
    return Experiment(
        "mri", "small", tested, lambda seed: network.refining_network(tested[0].A, seed), rivals.refining, small, small,
        mri.methods(20), "zero-filled", ships=False,
    )  # fmt: skip


EXPERIMENTS = {"deblur": of_galaxies, "mri": of_heads}
STEPS = {"deblur": 30, "mri": 5}
TRAINED = f"unrolled, {network.LAYERS} layers, trained here"


@pytest.fixture(scope="module", params=EXPERIMENTS)
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path]:
    out = tmp_path_factory.mktemp(request.param)
    experiment = EXPERIMENTS[request.param]()
    compare.run(experiment, out, budget=Budget(STEPS[request.param], 600.0), seed=0)
    return experiment, out


def test_files(done: tuple[Experiment, Path]) -> None:
    experiment, out = done
    assert {p.name for p in out.iterdir()} == {f"{experiment.name}.{end}" for end in ("png", "md", "json", "pt")}
    assert np.asarray(Image.open(out / f"{experiment.name}.png").convert("L")).std() > 10
    table = (out / f"{experiment.name}.md").read_text(encoding="utf-8").splitlines()
    networks = 1 + rivals.is_installed() + (experiment.ships and has_shipped(experiment.name))
    assert len(table) == 2 + 1 + len(experiment.methods) + networks
    assert "ms an image" in table[0]
    assert any("DeepInverse" in line for line in table) == rivals.is_installed()


def has_shipped(name: str) -> bool:
    return (Path(network.__file__).parent / "weights" / f"{name}.pt").is_file()


def test_every_method_improves_on_the_measurement(done: tuple[Experiment, Path]) -> None:
    """Also the network, after a training of seconds; and its last layer is what the table has."""
    experiment, out = done
    record = json.loads((out / f"{experiment.name}.json").read_text(encoding="utf-8"))
    for scene in experiment.scenes:
        naive, *others = [r for r in record["results"] if r["scene"] == scene.name]
        assert len(others) >= len(experiment.methods) + 1
        for result in others:
            assert result["psnr"] > naive["psnr"], result["method"]
            assert 0 < result["ssim"] <= 1
            if result["curve"]:
                assert result["curve"][-1][1] == pytest.approx(result["psnr"], abs=1e-3)
        trained = next(r for r in others if r["method"] == TRAINED)
        assert [k for k, _ in trained["curve"]] == list(range(1, network.LAYERS + 1))


def test_every_method_has_a_time_on_the_first_scene(done: tuple[Experiment, Path]) -> None:
    experiment, out = done
    record = json.loads((out / f"{experiment.name}.json").read_text(encoding="utf-8"))
    for result in record["results"]:
        is_timed = result["scene"] == experiment.scenes[0].name and result["method"] != experiment.naive
        assert (result["ms"] is not None) == is_timed
        assert not is_timed or result["ms"] > 0


def test_a_sentence_says_that_deepinverse_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fastunroll.demo.imaging.rivals.find_spec", lambda name: None)
    assert compare._trained_rivals(of_galaxies(), Budget(1, 1.0), 0) == {}
    said = capsys.readouterr().out
    assert said == "DeepInverse is not installed, so the table has no network of it: pip install deepinv\n"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_network_of_deepinverse_is_the_proximal_gradient_network_of_the_same_prior(name: str) -> None:
    pytest.importorskip("deepinv", reason="pip install '.[interop]'")
    experiment = EXPERIMENTS[name]()
    net, ours = experiment.rival("PGD", 0), experiment.network(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        denoiser: Any = net.net.prior[0].denoiser
        filters = [p for p in denoiser.parameters() if p.dim() > 1]
        mine = [p for p in ours.prox.parameters() if p.dim() > 1]
        for p, q in zip(filters, mine, strict=True):
            p.copy_(0.1 * torch.randn(p.shape, generator=generator))
            q.copy_(p)
        same = fu.nn.Unrolled(fu.schemes.ProximalGradient(), ours.operator, ours.prox, network.LAYERS, step=1.0)
        same.log_theta.load_state_dict(ours.log_theta.state_dict())
        for scene in experiment.scenes:
            found = net(scene.y, scene.A)
            assert found.shape == scene.x.shape
            wanted = same(scene.y, x0=scene.A.adjoint(scene.y), operator=scene.A)
            assert relative_error(found, wanted) < 1e-4


def test_weights_reload(done: tuple[Experiment, Path]) -> None:
    experiment, out = done
    scene = experiment.scenes[0]
    net = experiment.network(1)
    net.load_state_dict(torch.load(out / f"{experiment.name}.pt", weights_only=True), strict=False)
    record = json.loads((out / f"{experiment.name}.json").read_text(encoding="utf-8"))
    wanted = next(r for r in record["results"] if r["method"] == TRAINED)
    with torch.no_grad():
        assert scene.psnr(net(scene.y, operator=scene.A)) == pytest.approx(wanted["psnr"], abs=1e-3)


def test_the_networks_start_as_classical_algorithms() -> None:
    """The denoiser as a gradient method with momentum, and the refined total variation as FISTA with a falling θ."""
    scene = of_galaxies().scenes[0]
    wanted = fu.solvers.fista(scene.A, scene.y, 0.0, iterations=network.LAYERS, step=1.0, prox=fu.prox.Identity())
    with torch.no_grad():
        found = network.denoising_network(scene.A, 0)(scene.y)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    for scene in of_heads().scenes:
        net = network.refining_network(scene.A, 0)
        prior = fu.prox.TotalVariation(network.INNER)
        plain = fu.nn.Unrolled(fu.schemes.FISTA(), scene.A, prior, network.LAYERS, step=1.0)
        plain.log_theta.load_state_dict(net.log_theta.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(net(scene.y), plain(scene.y), rtol=1e-4, atol=1e-5)
        theta = torch.cat([*net.log_theta]).detach().exp()
        assert float(theta[0]) == pytest.approx(network.FIRST)
        assert float(theta[-1]) == pytest.approx(network.LAST)
        assert bool((theta.diff() < 0).all())


@pytest.mark.parametrize("name", ["deblur", "mri"])
def test_shipped_weights(name: str) -> None:
    """They are small, belong to the network, and beat every classical method of as many iterations."""
    path = Path(network.__file__).parent / "weights" / f"{name}.pt"
    assert path.stat().st_size < 2**20
    if name == "deblur":
        scene = deblur.scene(
            "small", fu.data.photograph("hubble_deep_field")[None, 300:400, 300:400], deblur.moffat(), 0
        )
        methods, net = deblur.methods(16), network.denoising_network(scene.A, 0)
    else:
        scene = mri.scene("phantom", fu.data.shepp_logan(128), 0)
        methods, net = mri.methods(16), network.refining_network(scene.A, 0)
    assert network.load_shipped(net, name)
    with torch.no_grad():
        learned = scene.psnr(net(scene.y, operator=scene.A))
    for method in methods:
        assert learned > max(scene.psnr(method.solve(scene.A, scene.y, lam, None)) for lam in method.weights)


def test_moffat() -> None:
    kernel = deblur.moffat(41, width=6.0)
    assert float(kernel.sum()) == pytest.approx(1)
    assert float(kernel[20, 23] / kernel[20, 20]) == pytest.approx(0.5, abs=1e-6)
    assert torch.equal(kernel, kernel.flip(0))
    assert torch.equal(kernel, kernel.mT)


def test_the_blur_is_of_the_whole_picture() -> None:
    """No continuation is assumed: each measured pixel is a mean of pixels that the picture has."""
    x = fu.data.photograph("camera")[None, :40, :48]
    scene = deblur.scene("small", x, KERNEL, 0)
    assert scene.y.shape == (1, 36, 44)
    assert torch.equal(scene.inside(scene.naive), scene.naive[..., 2:-2, 2:-2].clamp(0, 1))
    torch.testing.assert_close(scene.naive[..., 2:-2, 2:-2], scene.y)
    assert float((scene.y - scene.A(scene.x)).std()) == pytest.approx(deblur.NOISE, rel=0.1)


def test_wiener_filter_inverts_a_blur_without_noise() -> None:
    x = torch.rand(2, 24, 20, dtype=torch.float64)
    blur = fu.operators.Blur(deblur.moffat(5, width=1.5).double())
    found = deblur.wiener((1e-12,)).solve(blur, blur(x), 1e-12, None)
    torch.testing.assert_close(found, x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("width", [64, 75])
def test_columns(width: int) -> None:
    masks = mri.columns(50, width, torch.Generator().manual_seed(0))
    assert set(masks.unique().tolist()) == {0, 1}
    assert (masks.sum(1) == round(0.25 * width)).all()
    centre = round(0.08 * width)
    first = (width - centre) // 2
    assert masks[:, first : first + centre].all()
    assert len(masks.unique(dim=0)) == 50


def test_coil_maps_are_normalised() -> None:
    maps = mri.coil_maps((30, 20))
    torch.testing.assert_close(maps.abs().square().sum(0), torch.ones(30, 20))
    assert (maps.abs().amax((1, 2)) > 2 * maps.abs().amin((1, 2))).all()


def test_the_weight_is_the_best_on_training_pictures() -> None:
    batch = deblur.Draw(KERNEL, 32, valid=0.0)(2, torch.Generator().manual_seed(0))
    method = deblur.methods(20)[1]

    def quality(lam: float) -> float:
        return float(fu.metrics.psnr(method.solve(batch.A, batch.y, lam, None).clamp(0, 1), batch.x).mean())

    chosen = classical.choose(method, batch.A, batch.y, batch.x, lambda x: x.clamp(0, 1))
    assert quality(chosen) == max(map(quality, method.weights))


def _train(net: Any, draw: Any, iterations: int = 12) -> Trained:
    return training.train(
        net, compare.layer_outputs(net, 0.0), draw, Budget(iterations, 600.0), batch=2, rate=2e-3,
        numbers_rate=3.0, fade=0.8, seed=3, title="test", checks=1,
    )  # fmt: skip


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_recipe_of_the_shipped_weights_is_seeded(name: str, tmp_path: Path) -> None:
    experiment = replace(EXPERIMENTS[name](), steps=2)
    found = []
    for path in ("first", "second"):
        compare.train_weights(experiment, tmp_path / path, 3)
        found.append(torch.load(tmp_path / path, weights_only=True))
    first, second = found
    start, other = (experiment.network(seed).state_dict() for seed in (3, 4))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(start[key], other[key]) for key in first)
    assert any(not torch.equal(first[key], start[key]) for key in first)
    assert not any(key.startswith("operator.") for key in first)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_outputs_that_are_trained(name: str) -> None:
    """They are those of half of the layers at first, and then of all."""
    experiment = EXPERIMENTS[name]()
    net, batch = experiment.network(0), experiment.draw(1, torch.Generator().manual_seed(0))
    outputs = compare.layer_outputs(net, 0.4)
    with torch.no_grad():
        all_layers, half = (outputs(batch, spent) for spent in (1.0, 0.0))
    assert (len(half), len(all_layers)) == (network.LAYERS // 2, network.LAYERS)
    assert torch.equal(half, all_layers[: len(half)])


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize(
    ("settings", "still"),
    [({"half_until": 1.0}, "of later layers"), ({"half_until": 0.0, "numbers_rate": 0.0}, "of all layers")],
)
def test_the_settings_of_a_training_are_those_of_its_experiment(
    name: str, settings: dict[str, float], still: str, tmp_path: Path
) -> None:
    """Numbers of layers that are not trained yet keep their values, and so do all with a rate of zero."""
    experiment = replace(EXPERIMENTS[name](), steps=2, **settings)
    compare.train_weights(experiment, tmp_path / "weights", 3)
    start, found = experiment.network(3).state_dict(), torch.load(tmp_path / "weights", weights_only=True)
    numbers = {key for key in found if found[key].dim() <= 1}
    later = {key for key in numbers if int(key.split(".")[-1]) >= network.LAYERS // 2}
    kept = {key for key in found if torch.equal(found[key], start[key])}
    assert kept >= (later if still == "of later layers" else numbers)
    assert (kept >= numbers) == (still == "of all layers")
    assert any(key not in kept for key in found if found[key].dim() > 1)


def test_a_check_has_several_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def check(*arguments: Any, **options: Any) -> Trained:
        arguments[4]()
        return Trained(0, False)

    def outputs(batch: training.Batch, spent: float) -> torch.Tensor:
        drawn.append((type(batch.A).__name__, len(batch.x), spent))
        return batch.x[None]

    monkeypatch.setattr(training, "train_within", check)
    training.train(
        network.denoising_network(fu.operators.Blur(KERNEL), 0), outputs, mri.Draw(16), Budget(1, 1.0), batch=1,
        rate=1.0, numbers_rate=1.0, fade=1.0, seed=0, title="test",
    )  # fmt: skip
    assert {kind for kind, _, _ in drawn} == {"Fourier", "MultiCoilFourier"}
    assert [(count, spent) for _, count, spent in drawn] == [(training.CHECKED, 1.0)] * 4


def test_an_interrupted_training_keeps_the_best_weights() -> None:
    draw, drawn = deblur.Draw(KERNEL, 16), []

    def stops(count: int, generator: torch.Generator) -> training.Batch:
        drawn.append(count)
        if len(drawn) > 1 + training.CHECK_EVERY + 5:  # five steps after the first check
            raise KeyboardInterrupt
        return draw(count, generator)

    best, interrupted = (network.denoising_network(draw.circular, 0) for _ in range(2))
    assert _train(interrupted, stops, 60) == Trained(training.CHECK_EVERY + 5, True)
    assert any(not torch.equal(a, b) for a, b in zip(interrupted.parameters(), best.parameters(), strict=True))
    check = draw(2, torch.Generator().manual_seed(7))
    losses = []
    for net in (interrupted, best):
        with torch.no_grad():
            layers = net(check.y, return_layers=True, operator=check.A)
        losses.append(training.layer_losses(layers, check)[-1])
    assert losses[0] < losses[1]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "F"])
def test_pictures_of_every_kind(mode: str, tmp_path: Path) -> None:
    """Each channel of a colour picture is a sample of the batch."""
    shades = np.random.default_rng(0).integers(0, 255, (60, 75, 4)).astype(np.uint8)
    shades[..., 3] = 255  # opaque
    pixels = {
        "L": shades[..., 0], "RGB": shades[..., :3], "RGBA": shades, "I;16": shades[..., 0].astype(np.uint16) * 257,
        "F": (shades[..., 0] / 255).astype(np.float32),
    }[mode]  # fmt: skip
    path = tmp_path / ("picture.tif" if mode == "F" else "picture.png")
    Image.fromarray(pixels).save(path)
    x = deblur.read_picture(path)
    assert x.shape == (3 if mode.startswith("RGB") else 1, 60, 75)
    torch.testing.assert_close(x[0], torch.from_numpy(shades[..., 0] / 255).float())
    tested = deblur.scene("picture", x, KERNEL, 0)
    assert tested.y.shape == (len(x), 52, 68)


def test_kernels_from_files(tmp_path: Path) -> None:
    """Also the largest one, for which training pictures are larger."""
    Image.fromarray(np.full((63, 2), 7, np.uint8)).save(tmp_path / "kernel.png")
    kernel = deblur.read_kernel(tmp_path / "kernel.png")
    torch.testing.assert_close(kernel, torch.full((63, 2), 1 / 126))
    batch = deblur.Draw(kernel)(2, torch.Generator().manual_seed(0))
    assert batch.x.shape == (2, 126, 126)


@pytest.mark.parametrize("quick", [True, False])
def test_galaxies_in_grey_and_in_colour(quick: bool) -> None:
    grey, colour = (deblur.deep_field(KERNEL, 0, quick=quick, colour=colour) for colour in (False, True))
    assert len(grey.x) == 1
    assert len(colour.x) == 3
    torch.testing.assert_close(torch.einsum("c,chw->hw", torch.tensor([0.2125, 0.7154, 0.0721]), colour.x), grey.x[0])


def test_large_pictures_are_scaled_down(tmp_path: Path) -> None:
    Image.fromarray(np.full((30, 3000), 128, np.uint8)).save(tmp_path / "long.png")
    x = deblur.read_picture(tmp_path / "long.png")
    assert max(x.shape) == deblur.LONGEST
    torch.testing.assert_close(x, torch.full_like(x, 128 / 255))


def test_the_brain_is_left_out_without_nilearn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastunroll.demo.imaging.mri.find_spec", lambda name: None)
    assert [scene.name for scene in mri.scenes(0)] == ["phantom, 1 coil", "phantom, 8 coils"]


def test_the_page_of_your_own_scanner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its blocks are one program of about 40 lines, which ends with a network that beats the zero-filled picture."""
    page = (ROOT / "docs" / "scanner.md").read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL))
    assert len([line for line in program.splitlines() if line.strip()]) <= 45
    phantoms = fu.data.fixed(fu.data.Phantoms(None, 32, phase=1.0), 12).x
    scan = fu.operators.MultiCoilFourier(torch.ones(32), mri.coil_maps((32, 32), 4))
    assert "range(2000)" in program
    monkeypatch.chdir(tmp_path)
    np.save("kspace.npy", torch.view_as_real(scan(phantoms)).numpy())
    exec(program[: program.index("def columns")], parts := {})
    np.save("kspace.npy", scan(phantoms).numpy())
    exec(program[: program.index("def columns")], numbers := {})
    assert torch.equal(parts["x"], numbers["x"])
    torch.manual_seed(0)
    exec(program.replace("range(2000)", "range(60)"), {})
    zero_filled, _, learned, _ = map(float, re.findall(r"tensor\(\[(-?[\d.]+)\]\)", capsys.readouterr().out))
    assert learned > zero_filled + 1
    assert (tmp_path / "network.pt").exists()
