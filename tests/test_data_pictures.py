"""Problems whose samples are pictures: what is drawn, what is measured, and what is read from files."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from fastunroll.data import Phantoms, Photographs, PictureError, fixed, photograph, shepp_logan, stream
from fastunroll.data.files import read_pixels
from PIL import Image
from skimage.data import shepp_logan_phantom

PICTURE = np.random.default_rng(0).random((23, 31))
PROBLEMS: dict[str, Callable[..., Any]] = {
    "photographs": lambda *given, **options: Photographs(*given, images=[PICTURE], **options),
    "phantoms": Phantoms,
}
problems = pytest.mark.parametrize("name", PROBLEMS)


@problems
@pytest.mark.parametrize("phase", [0.0, 0.7])
def test_samples(name: str, phase: float) -> None:
    problem = PROBLEMS[name](None, (13, 17), phase=phase)
    y, x = fixed(problem, 5)
    assert x.shape == (5, 13, 17)
    assert x.dtype == (torch.complex64 if phase else torch.float32)
    assert torch.equal(y, x)
    magnitude = x.abs()
    assert magnitude.min() >= 0
    assert magnitude.max() <= 1 + 1e-6
    assert magnitude.flatten(1).std(1).min() > 0.01
    assert torch.equal(x, fixed(problem, 5).x)
    assert not torch.equal(x, fixed(problem, 5, seed=1).x)
    assert not torch.equal(next(stream(problem, 5)).x, x)


@problems
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_measurements_have_the_noise_that_was_asked_for(name: str, dtype: torch.dtype) -> None:
    scan = fu.operators.Fourier(torch.ones(16, dtype=dtype))
    y, x = fixed(PROBLEMS[name](scan, 16, noise=0.3, phase=1.0), 400)
    assert x.dtype == y.dtype == dtype.to_complex()
    noise = y - scan(x)
    assert float(noise.abs().square().mean()) == pytest.approx(0.09, rel=0.02)
    assert float(noise.mean().abs()) < 0.01
    clean = fixed(PROBLEMS[name](scan, 16, phase=1.0), 3)
    torch.testing.assert_close(clean.y, scan(clean.x))


@problems
def test_operators_change_the_shape_of_measurements(name: str) -> None:
    kernel = torch.ones(3, 5) / 15
    y, x = fixed(PROBLEMS[name](fu.operators.Blur(kernel, "valid"), (13, 17), phase=0.0), 2)
    assert (y.shape, x.shape) == ((2, 11, 13), (2, 13, 17))
    coils = torch.ones(3, 13, 17, dtype=torch.complex64)
    scan = fu.operators.MultiCoilFourier(torch.ones(17), coils)
    assert fixed(PROBLEMS[name](scan, (13, 17), phase=1.0), 2).y.shape == (2, 3, 13, 17)


def test_a_patch_is_a_part_of_a_photograph() -> None:
    """Each patch is found in the photograph or its half size, turned and mirrored, and all eight ways occur."""
    pixels = torch.from_numpy(PICTURE).float()
    whole, half = pixels, torch.nn.functional.avg_pool2d(pixels[None, None], 2)[0, 0]
    ways = {}
    for turn in (False, True):
        for flips in ((), (0,), (1,), (0, 1)):
            for size, picture in (("whole", whole), ("half", half)):
                turned = (picture.mT if turn else picture).flip(flips)
                ways[size, turn, flips] = turned.unfold(0, 6, 1).unfold(1, 8, 1).reshape(-1, 6, 8)
    found = set()
    for patch in fixed(Photographs(None, (6, 8), images=[PICTURE]), 150).x:
        matches = [way for way, windows in ways.items() if bool((windows - patch).abs().amax((1, 2)).min() < 1e-6)]
        assert len(matches) == 1
        found.add(matches[0])
    assert found == ways.keys()


def test_a_phase_is_smooth() -> None:
    x = fixed(Phantoms(None, 64, phase=1.0), 30).x
    inside = (x[:, 1:].abs() > 0.1) & (x[:, :-1].abs() > 0.1)
    steps = (x[:, 1:] * x[:, :-1].conj()).angle()[inside]
    assert 0.001 < steps.abs().mean() < 0.2
    assert x[x.abs() > 0.1].angle().std() > 0.5


def test_photographs_for_testing_are_not_for_training() -> None:
    assert not set(Photographs.testing) & set(Photographs.training)
    problem = Photographs(None, 32)
    for name in Photographs.testing:
        pixels = photograph(name)
        assert pixels.dtype == torch.float32
        assert 0 <= float(pixels.min()) < float(pixels.max()) <= 1
        assert not any(torch.equal(pixels, other) for other in problem._pictures)
    assert fixed(problem, 4).y.shape == (4, 32, 32)


def test_colours() -> None:
    colours, grey = photograph("coffee", colour=True), photograph("coffee")
    assert colours.shape == (3, *grey.shape)
    torch.testing.assert_close(torch.einsum("c,chw->hw", torch.tensor([0.2125, 0.7154, 0.0721]), colours), grey)
    with pytest.raises(ValueError, match=r"^camera must be a photograph in colour for colour=True, but it is grey: "):
        photograph("camera", colour=True)


def test_shepp_logan() -> None:
    """The same phantom as that of scikit-image, but for pixels on edges."""
    ours, theirs = shepp_logan(400), torch.from_numpy(shepp_logan_phantom()).float()
    assert float(((ours - theirs).abs() > 0.01).float().mean()) < 0.01
    assert shepp_logan((30, 21)).shape == (30, 21)
    assert set(shepp_logan(256).mul(10).round().unique().tolist()) == {0, 1, 2, 3, 4, 10}


def kinds() -> dict[str, Image.Image]:
    grey = (PICTURE * 255).astype(np.uint8)
    colour = np.stack([grey, grey[::-1], 255 - grey], -1)
    return {
        "grey.png": Image.fromarray(grey),
        "deep.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "colour.png": Image.fromarray(colour),
        "alpha.png": Image.fromarray(np.concatenate([colour, grey[..., None]], -1)),
        "grey_alpha.png": Image.fromarray(grey).convert("LA"),
        "palette.png": Image.fromarray(colour).quantize(256),
        "black_and_white.png": Image.fromarray(grey > 127),
        "numbers.tif": Image.fromarray((grey / 255).astype(np.float32)),
    }


@pytest.mark.parametrize("name", kinds())
def test_pictures_of_every_kind_are_read(name: str, tmp_path: Path) -> None:
    kinds()[name].save(tmp_path / name)
    if name == "alpha.png":
        with pytest.warns(UserWarning, match=r"alpha\.png has transparent pixels, and their colours are used"):
            pixels = read_pixels(tmp_path / name)
    else:
        pixels = read_pixels(tmp_path / name)
    grey = (PICTURE * 255).astype(np.uint8) / 255
    if name in ("colour.png", "alpha.png", "palette.png"):
        wanted = np.stack([grey, grey[::-1], 1 - grey], -1)
    else:
        wanted = (grey > 0.5).astype(float) if name == "black_and_white.png" else grey
    assert pixels.dtype == np.float64
    assert pixels.shape == wanted.shape
    assert np.abs(pixels - wanted).mean() < (0.1 if name == "palette.png" else 1e-6)


def wrong_files(folder: Path) -> dict[str, str]:
    """Files that are no pictures, and what is said of each."""
    kinds()["colour.png"].save(folder / "whole.png")
    whole = (folder / "whole.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("not a picture")
    (folder / "empty.png").write_bytes(b"")
    Image.fromarray(np.full((3, 3), math.nan, np.float32)).save(folder / "nan.tif")
    Image.new("1", (10_000, 7_000)).save(folder / "huge.png")
    return {
        "half.png": "cannot be read as a picture: ",
        "text.png": "cannot be read as a picture: its format is unknown",
        "empty.png": "cannot be read as a picture: its format is unknown",
        "missing.png": "cannot be read as a picture: ",
        "nan.tif": "must hold finite pixels, but it has NaN or infinity: check how it was written",
        "huge.png": "must have at most 67108864 pixels, got 10000x7000: scale it down",
    }


def test_files_that_are_no_pictures_are_refused_in_one_sentence(tmp_path: Path) -> None:
    for name, says in wrong_files(tmp_path).items():
        with pytest.raises(PictureError) as caught:
            read_pixels(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name} {says}")
        assert "\n" not in str(caught.value)
    with pytest.raises(PictureError, match="cannot be read as a picture"):
        Photographs(None, 8, images=tmp_path)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastunroll.data.files.find_spec", lambda name: None)
    for call in (lambda: photograph("camera"), Photographs, lambda: Photographs(images="folder")):
        with pytest.raises(ModuleNotFoundError, match=r"must be installed .*: pip install 'fastunroll\[demo\]'$"):
            call()
