"""Numbers given to ``fastunroll encode``: of NumPy's types, of other types, and as small as a dtype has them."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastunroll.__main__ import main
from fastunroll.encode import EncodeError, encode, load, shards
from numpy.typing import NDArray
from test_encode import arrays, run
from test_encode import files as files  # a fixture

TINY = np.finfo(np.float32).tiny


def single(folder: Path, Y: NDArray[Any] | None = None) -> None:
    """Makes the files those of a job in single precision."""
    A, usual = arrays("float32")
    np.save(folder / "D.npy", A)
    np.save(folder / "Y.npy", usual if Y is None else Y.astype(np.float32))


@pytest.mark.usefixtures("files")
def test_relative_lam_of_samples_near_zero(tmp_path: Path) -> None:
    """Their λ would have no full precision: it is raised, and their neighbours are as they were."""
    _, Y = arrays("float32")
    single(tmp_path, Y)
    run(tmp_path, relative_lam=0.1, output="usual.npz")
    Y[3] *= np.float32(1e-38)
    Y[50] *= np.float32(1e-42)
    single(tmp_path, Y)
    summary = run(tmp_path, relative_lam=0.1)
    codes, usual = load(tmp_path / "codes.npz"), load(tmp_path / "usual.npz")
    assert codes.converged.all()
    assert (summary.not_finite, summary.unconverged) == (0, 0)
    assert (codes.lam[[3, 50]] == TINY).all()
    others = np.delete(np.arange(len(Y)), [3, 50])
    x = codes.to_scipy()
    assert (x[others] != usual.to_scipy()[others]).nnz == 0
    assert (codes.lam[others] == usual.lam[others]).all()
    assert x[50].nnz == 0  # whose λ is above the largest


@pytest.mark.usefixtures("files")
def test_relative_lam_that_is_nearly_zero(tmp_path: Path) -> None:
    """In single precision it is zero; the codes are not those of another λ for that."""
    single(tmp_path)
    run(tmp_path, relative_lam=1e-50, max_iter=20)
    assert (load(tmp_path / "codes.npz").lam == TINY).all()


@pytest.mark.usefixtures("files")
def test_numbers_of_numpy(tmp_path: Path) -> None:
    """They are the same job as Python's: it is found finished, and its bytes are equal."""
    numbers: dict[str, Any] = {"lam": 0.25, "tol": 2**-20, "ridge": 0.5, "max_iter": 100, "shard_size": 9}
    run(tmp_path, **numbers, nonnegative=True)
    of_numpy = {name: np.float32(v) if isinstance(v, float) else np.int64(v) for name, v in numbers.items()}
    assert run(tmp_path, **of_numpy, nonnegative=np.True_).solved == 0
    run(tmp_path, **of_numpy, nonnegative=np.True_, output="again.npz")
    assert (tmp_path / "codes.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()
    run(tmp_path, relative_lam=np.float32(0.25), output="relative.npz")


COUNTS = {"max_iter": "max_iter", "shard_size": "shard size"}
FLAGS = ("nonnegative", "transpose_dictionary", "keep_shards", "overwrite", "progress")
PATHS = {"dictionary": "dictionary", "samples": "input", "output": "output", "lam_file": "lam file",
         "weights": "file of weights"}  # fmt: skip
NO_COUNT = [0, -1, -(10**30), True, 2.0, 2.5, float("nan"), float("inf"), "3", "many", [3], np.arange(2)]
NO_FLAG = [0, 1, "no", "False", [], np.zeros(1), None]
NO_PATH = [3, 2.5, b"Y.npy", ["Y.npy"], np.zeros(3), "Y\0.npy", "Y\ud800.npy"]

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"lam": "0.1"}, "lam must be a number, got"),
    ({"lam": np.ones(3)}, "lam must be a number, got"),
    ({"lam": 10**400}, "lam must be a finite number > 0"),
    ({"relative_lam": "0.1"}, "relative lam must be a number, got"),
    ({"relative_lam": np.float32(np.nan)}, "relative lam must be a finite number > 0"),
    ({"ridge": None}, "ridge must be a number, got"),
    ({"tol": 1j}, "tol must be a number, got"),
    *(({name: value}, f"{COUNTS[name]} must be a whole number ≥ 1, got") for name in COUNTS for value in NO_COUNT),
    *(({name: 2**63}, f"{COUNTS[name]} must be a whole number that fits 64 bits") for name in COUNTS),
    *(({name: 10**30}, f"{COUNTS[name]} must be a whole number that fits 64 bits") for name in COUNTS),
    *(({name: value}, f"{name} must be True or False, got") for name in FLAGS for value in NO_FLAG
      if (name, value) != ("progress", None)),
    *(({name: value}, f"the {PATHS[name]} must be the path of a file, got") for name in PATHS for value in NO_PATH),
]  # fmt: skip


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("options", "says"), WRONG, ids=lambda part: str(part)[:60])
def test_options_of_the_wrong_kind(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    before = {*tmp_path.rglob("*")}
    paths = {name: tmp_path / file for name, file in zip(PATHS, ("D.npy", "Y.npy", "codes.npz"), strict=False)}
    with pytest.raises(EncodeError) as error:
        encode(**{**paths, **({} if {"lam_file", "relative_lam"} & {*options} else {"lam": 0.3}), **options})
    assert str(error.value).startswith(says)
    assert str(error.value).isprintable()
    assert {*tmp_path.rglob("*")} == before


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("options", [{"max_iter": 2**63 - 1}, {"shard_size": 2**63 - 1}])
def test_largest_counts(tmp_path: Path, options: dict[str, Any]) -> None:
    assert run(tmp_path, **options).unconverged == 0


CPUS = os.cpu_count() or 1


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("flag", "given"),
    [
        *product(
            ("--threads", "--shard-size", "--max-iter"), ("0", "-1", str(10**30), "many", "2.5", "1e3", "nan", "")
        ),
        ("--threads", str(CPUS + 1)),
        ("--threads", "100000"),
    ],
)
def test_counts_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flag: str, given: str
) -> None:
    """Too many threads would end the process: each has a stack."""
    before = {*tmp_path.rglob("*")}
    monkeypatch.chdir(tmp_path)
    files = ["--dictionary", "D.npy", "--input", "Y.npy", "--output", "codes.npz", "--lam", "1"]
    with pytest.raises(SystemExit) as stopped:
        main(["encode", *files, flag, given])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    name = flag.removeprefix("--")
    assert name in err.replace(" ", "-").replace("_", "-")
    assert err.count("\n") == 1
    assert {*tmp_path.rglob("*")} == before


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("threads", sorted({1, CPUS}))
def test_threads_change_no_bit(tmp_path: Path, native: object, threads: int) -> None:
    run(tmp_path, output="usual.npz")
    files = {"--dictionary": "D.npy", "--input": "Y.npy", "--output": "codes.npz"}
    paths = [part for flag, name in files.items() for part in (flag, str(tmp_path / name))]
    main(["encode", *paths, "--lam", "0.3", "--shard-size", "7", "--threads", str(threads)])
    assert (tmp_path / "codes.npz").read_bytes() == (tmp_path / "usual.npz").read_bytes()


LAMBDAS: dict[str, dict[str, Any]] = {"lam": {"lam": 0.3}, "relative": {"relative_lam": 0.2}, "file": {}}


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lam", LAMBDAS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite(tmp_path: Path, bad: float, lam: str, dtype: str) -> None:
    """Such a row has no codes and a gap of NaN; the others are as they were, to the last bit."""
    _, Y = arrays()
    np.save(tmp_path / "L.npy", np.linspace(0.1, 0.5, len(Y)))
    options = {**(LAMBDAS[lam] or {"lam_file": tmp_path / "L.npy"}), "dtype": dtype}
    run(tmp_path, output="usual.npz", **options)
    rows = [0, 6, 7, 99]
    Y[rows, [0, 3, 5, 11]] = bad
    np.save(tmp_path / "Y.npy", Y)
    summary = run(tmp_path, **options)
    codes, usual = load(tmp_path / "codes.npz"), load(tmp_path / "usual.npz")
    others = np.delete(np.arange(len(Y)), rows)
    assert (summary.not_finite, summary.first_not_finite, summary.unconverged) == (4, rows, 0)
    assert codes.to_scipy()[rows].nnz == 0
    assert np.isnan(codes.gap[rows]).all()
    assert not codes.converged[rows].any()
    assert np.array_equal(codes.to_scipy()[others].data, usual.to_scipy()[others].data)
    assert (codes.gap[others] == usual.gap[others]).all()


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("keep_shards", [False, True])
@pytest.mark.parametrize("lam", LAMBDAS)
def test_no_rows(tmp_path: Path, lam: str, keep_shards: bool, order: Any) -> None:
    np.save(tmp_path / "Y.npy", np.zeros((0, 12), order=order))
    np.save(tmp_path / "L.npy", np.zeros(0))
    options = LAMBDAS[lam] or {"lam_file": tmp_path / "L.npy"}
    summary = run(tmp_path, keep_shards=keep_shards, **options)
    assert (summary.samples, summary.nonzeros, summary.solved) == (0, 0, 0)
    assert "codes of 0 samples, 30 columns, 0 nonzeros" in str(summary)
    if keep_shards:
        assert not [*shards(tmp_path / "codes.npz")]
        with pytest.raises(EncodeError, match="has no shards because it has no samples: run without --shards"):
            load(tmp_path / "codes.npz")
        run(tmp_path, **options)
    codes = load(tmp_path / "codes.npz")
    assert codes.to_scipy().shape == codes.shape == (0, 30)
