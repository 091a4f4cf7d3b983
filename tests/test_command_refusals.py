"""What the command line refuses, one table for all commands: one line that says what is wrong, and exit status 2."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from fastunroll.__main__ import main
from PIL import Image

WRITES = "demo", "deblur", "mri", "reproduce"  # commands that take --out

REFUSED: dict[str, list[tuple[list[str], str]]] = {
    "options": [
        ([], "the following arguments are required: command"),
        (["demmo"], "invalid choice: 'demmo'"),
        (["--verison"], "fastunroll: there is no option --verison: did you mean --version?"),
        (["--quick", "demo"], "fastunroll: there is no option --quick (see"),
        (["demo", "--quik"], "there is no option --quik: did you mean --quick?"),
        (["encode", "--relative-lamb", "0.3"], "there is no option --relative-lamb: did you mean --relative-lam?"),
        (["encode", "--nonneg=1"], "there is no option --nonneg: did you mean --nonnegative?"),
        (["tune", "--outt", "x"], "there is no option --outt: did you mean --out?"),
        (["info", "--xyzzy"], "there is no option --xyzzy (see"),
        (["mri", "--imge", "x"], "there is no option --imge"),
        (
            ["deblur", "picture.png"],
            "fastunroll deblur: 'picture.png' follows no option (see fastunroll deblur --help)",
        ),
        (["info", "-x"], "fastunroll info: there is no option -x (see"),
        (["mri", "--coils", "8"], "there is no option --coils (see"),
    ],
    "numbers": [
        (["demo", "--seed", "x"], "argument --seed: invalid int value: 'x'"),
        (["demo", "--seed", "-1"], "argument --seed: must be ≥ 0, got -1"),
        (["mri", "--seed", "-1"], "argument --seed: must be ≥ 0, got -1 (see fastunroll mri --help)"),
        (["deblur", "--seconds", "-1"], "argument --seconds: must be a number of seconds ≥ 0, got '-1'"),
        (["mri", "--seconds", "nan"], "argument --seconds: must be a number of seconds ≥ 0, got 'nan'"),
        (["reproduce", "--size", "12"], "argument --size: must be two integers such as 250x500, got '12'"),
        (["reproduce", "--seeds", "a"], "argument --seeds: must be integers ≥ 0 with commas between them, got 'a'"),
    ],
    "names": [
        (["reproduce", "--networks", "LISTO"], "fastunroll reproduce: 'LISTO' is not a network: choose from StepLISTA"),
        (["reproduce", "--settings", "snr41"], "'snr41' is not a setting: choose from noiseless, "),
        (
            ["reproduce", "--imaging", "--networks", "LISTA"],
            "--networks, --settings and --size are of sparse recovery: leave them out with --imaging",
        ),
        (["reproduce", "--imaging", "--seeds", "0,1"], "--imaging takes one seed, got 2: run it once for each"),
    ],
    "folders": [
        (["demo", "--images", "{tmp}/nowhere"], "{tmp}/nowhere is not a folder"),
        (["demo", "--images", "{tmp}/empty"], "{tmp}/empty holds no files"),
        (["demo", "--images", "{tmp}/text"], "{tmp}/text/notes.txt cannot be read as a picture"),
        (["demo", "--images", "{tmp}/broken"], "{tmp}/broken/half.png cannot be read as a picture"),
        (["demo", "--images", "{tmp}/tiny"], "tiny.png must have at least 16x16 pixels, got 5x7"),
        (["demo", "--out", "{tmp}/text/notes.txt"], "cannot write to {tmp}/text/notes.txt"),
        (["demo", "--out", "/proc/fastunroll"], "cannot write to /proc/fastunroll"),
        (["mri", "--out", "{tmp}/text.png"], "cannot write to {tmp}/text.png"),
        (["mri", "--train-weights", "{tmp}/text.png/w.pt"], "cannot write to {tmp}/text.png"),
        (["reproduce", "--imaging", "--out", "{tmp}/text.png"], "cannot write to {tmp}/text.png"),
        (["reproduce", "--out", "{tmp}/text.png"], "cannot write to {tmp}/text.png"),
    ],
    "pictures": [
        (
            ["deblur", "--image", "{tmp}/missing.png"],
            "{tmp}/missing.png cannot be read as a picture: No such file or directory",
        ),
        (["deblur", "--image", "{tmp}/text.png"], "{tmp}/text.png cannot be read as a picture: its format is unknown"),
        (["deblur", "--image", "{tmp}/nan.tif"], "{tmp}/nan.tif must hold finite pixels, but it has NaN or infinity"),
        (["deblur", "--image", "{tmp}/huge.png"], "{tmp}/huge.png must have at most 67108864 pixels, got 10000x7000"),
        (
            ["deblur", "--image", "{tmp}/small.png"],
            "small.png must be at least twice as large as the kernel, 25x25, got 50x40 pixels: give a larger picture",
        ),
        (["deblur", "--kernel", "{tmp}/text.png"], "{tmp}/text.png cannot be read as a picture"),
        (["deblur", "--kernel", "{tmp}/black.png"], "{tmp}/black.png must be a kernel with values ≥ 0 that are not "),
        (["deblur", "--kernel", "{tmp}/negative.tif"], "{tmp}/negative.tif must be a kernel with values ≥ 0 that are "),
        (
            ["deblur", "--kernel", "{tmp}/long.png"],
            "{tmp}/long.png must be a kernel of at most 63x63 pixels, got 70x5: crop its borders",
        ),
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files and folders that are not what a command needs."""
    made = tmp_path_factory.mktemp("refused")
    for name in ("empty", "text", "broken", "tiny"):
        (made / name).mkdir()
    (made / "text" / "notes.txt").write_text("not a picture")
    (made / "text.png").write_text("not a picture")
    Image.fromarray(np.zeros((7, 5), np.uint8)).save(made / "tiny" / "tiny.png")
    whole = (made / "tiny" / "tiny.png").read_bytes()
    (made / "broken" / "half.png").write_bytes(whole[: len(whole) // 2])
    noise = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)
    Image.fromarray(noise).save(made / "small.png")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(made / "black.png")
    Image.fromarray(np.ones((5, 70), np.uint8)).save(made / "long.png")
    Image.fromarray(np.full((5, 5), -1.0, np.float32)).save(made / "negative.tif")
    Image.fromarray(np.full((60, 60), math.nan, np.float32)).save(made / "nan.tif")
    Image.new("1", (10_000, 7_000)).save(made / "huge.png")
    return made


@pytest.mark.parametrize("row", [row for rows in REFUSED.values() for row in rows], ids=lambda row: " ".join(row[0]))
def test_refused_in_one_line(
    row: tuple[list[str], str], folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments, says = row
    out = ["--out", str(tmp_path / "out")] if arguments and arguments[0] in WRITES else []
    given = [a.format(tmp=folder) for a in arguments]
    with pytest.raises(SystemExit) as stopped:
        main(given[:1] + ([] if "--out" in given else out) + given[1:])
    assert stopped.value.code == 2
    err = capfd.readouterr().err
    assert says.format(tmp=folder) in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [["demo"], ["deblur"], ["mri"], ["reproduce", "--imaging"]], ids=" ".join)
def test_a_missing_extra_is_named(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fastunroll.demo.imaging.command.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said == f"fastunroll {command[0]}: scikit-image is not installed: pip install 'fastunroll[demo]'\n"
