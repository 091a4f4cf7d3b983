"""``fastunroll encode``: what it finds, what it reads, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import scipy.sparse
import torch
from fastunroll.__main__ import main
from fastunroll.encode import EncodeError, Summary, encode, load, shards
from fastunroll.encode.run import default_shard_size
from numpy.typing import NDArray

M, N_COLUMNS, SAMPLES = 12, 30, 100


def arrays(dtype: str = "float64") -> tuple[NDArray[Any], NDArray[Any]]:
    random = np.random.default_rng(0)
    A = random.standard_normal((M, N_COLUMNS))
    return (A / np.linalg.norm(A, axis=0)).astype(dtype), random.standard_normal((SAMPLES, M)).astype(dtype)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a dictionary and samples."""
    A, Y = arrays()
    np.save(tmp_path / "D.npy", A)
    np.save(tmp_path / "Y.npy", Y)
    return tmp_path


def run(folder: Path, **options: Any) -> Summary:
    options = {"lam": 0.3, "shard_size": 7, **options} if not {"relative_lam", "lam_file"} & {*options} else options
    names = {"dictionary": "D.npy", "samples": "Y.npy", "output": "codes.npz"}
    paths = {name: folder / options.pop(name, usual) for name, usual in names.items()}
    summary = encode(**paths, **options)
    assert summary is not None
    return summary


def matrix(folder: Path, name: str = "codes.npz") -> NDArray[Any]:
    found = scipy.sparse.load_npz(folder / name)
    assert found.format == "csr"
    found.check_format(full_check=True)
    return found.toarray()


def lasso(A: NDArray[Any], Y: NDArray[Any], lam: Any = 0.3, tol: float = 1e-6, **options: Any) -> Any:
    return fu.solvers.Lasso(A, **options).solve(Y, lam, tol=tol)


def assert_close(found: NDArray[Any], wanted: NDArray[Any]) -> None:
    """Both are within 1e-6 of the optimum, not of each other."""
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=5e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_codes_are_those_of_the_solver(tmp_path: Path, dtype: str) -> None:
    A, Y = arrays(dtype)
    np.save(tmp_path / "D.npy", A)
    np.save(tmp_path / "Y.npy", Y)
    summary = run(tmp_path)
    x = matrix(tmp_path)
    assert x.dtype == dtype
    assert_close(x, lasso(A, Y).x)
    codes = load(tmp_path / "codes.npz")
    assert codes.shape == (SAMPLES, N_COLUMNS)
    assert codes.converged.all()
    assert (codes.gap <= 1e-6).all()
    assert codes.iterations.shape == (SAMPLES,)
    assert (codes.lam == np.array(0.3, dtype)).all()
    assert summary.nonzeros == np.count_nonzero(x)
    assert (summary.samples, summary.solved, summary.unconverged, summary.not_finite) == (SAMPLES, SAMPLES, 0, 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["D.npy", "Y.npy", "codes.npz"]
    assert (codes.to_scipy().toarray() == x).all()


@pytest.mark.filterwarnings("ignore:Sparse")
def test_as_torch(files: Path) -> None:
    run(files)
    assert torch.equal(load(files / "codes.npz").to_torch().to_dense(), torch.from_numpy(matrix(files)))


def test_options_of_the_problem(files: Path) -> None:
    A, Y = arrays()
    weights = np.linspace(0.5, 2, N_COLUMNS)
    np.save(files / "w.npy", weights)
    run(files, weights=files / "w.npy", ridge=0.1, nonnegative=True, tol=1e-9)
    x = matrix(files)
    assert (x >= 0).all()
    wanted = lasso(A, Y, tol=1e-9, weights=weights, ridge=0.1, nonnegative=True).x
    np.testing.assert_allclose(x, wanted, atol=1e-4)


def test_one_lam_a_sample(files: Path) -> None:
    A, Y = arrays()
    lam = np.linspace(0.1, 1, SAMPLES)
    np.save(files / "lam.npy", lam)
    run(files, lam_file=files / "lam.npy", shard_size=9)
    assert_close(matrix(files), lasso(A, Y, lam).x)
    assert (load(files / "codes.npz").lam == lam).all()


def test_relative_lam_also_of_zeros_and_what_is_not_finite(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    A, Y = arrays()
    Y[3], Y[50, 2], Y[99, 0] = 0, np.nan, np.inf
    np.save(files / "Y.npy", Y)
    summary = run(files, relative_lam=0.2, shard_size=10)
    codes, x = load(files / "codes.npz"), matrix(files)
    good = ~np.isin(np.arange(SAMPLES), (50, 99))
    assert_close(x[good], lasso(A, Y[good], (0.2 * abs(Y[good] @ A).max(1)).clip(1e-9)).x)
    assert not x[[3, 50, 99]].any()
    assert np.isnan(codes.gap[[50, 99]]).all()
    assert not codes.converged[[50, 99]].any()
    assert codes.converged[good].all()
    assert (summary.not_finite, summary.first_not_finite, summary.unconverged) == (2, [50, 99], 0)
    assert "2 of 100 samples have no codes because of NaN or infinity: rows 50, 99" in str(summary)


def test_what_did_not_converge_is_said(files: Path) -> None:
    summary = run(files, tol=1e-12, max_iter=1)
    codes = load(files / "codes.npz")
    assert summary.unconverged == (~codes.converged).sum() > 0
    assert summary.largest_gap == codes.gap.max()
    assert f"{summary.unconverged} of 100 samples did not converge" in str(summary)


@pytest.mark.parametrize("kind", ["float16", "float32", ">f8", "uint8", "int64", "bool", "fortran"])
def test_samples_of_every_kind(files: Path, kind: str) -> None:
    A, Y = arrays()
    Y = np.asfortranarray(Y) if kind == "fortran" else (3 * abs(Y)).astype(kind)
    np.save(files / "Y.npy", Y)
    run(files)
    assert_close(matrix(files), lasso(A, np.ascontiguousarray(Y, dtype=np.float64)).x)


def test_too_large_for_the_dtype(files: Path) -> None:
    """1e300 is infinite in single precision, and reported so; its neighbours are as they were."""
    A, Y = arrays()
    Y[4, 0] = 1e300
    np.save(files / "Y.npy", Y)
    summary = run(files, dtype="float32")
    assert summary.first_not_finite == [4]
    assert_close(np.delete(matrix(files), 4, 0), lasso(A, np.delete(Y, 4, 0)).x)


@pytest.mark.parametrize("order", ["C", "F"])
def test_transposed_dictionary(files: Path, order: Any) -> None:
    A, Y = arrays()
    np.save(files / "D.npy", np.array(A.T, order=order))
    run(files, transpose_dictionary=True)
    assert_close(matrix(files), lasso(A, Y).x)


def test_dictionary_of_whole_numbers(files: Path) -> None:
    _, Y = arrays()
    A = np.random.default_rng(1).integers(-3, 4, (M, N_COLUMNS))
    np.save(files / "D.npy", A)
    with pytest.raises(EncodeError, match=r"must be float32 or float64, got int64: give --dtype float32 or float64"):
        run(files)
    run(files, dtype="float64")
    assert_close(matrix(files), lasso(A.astype(float), Y).x)


@pytest.mark.parametrize("shard_size", [1, 7, 100, 1000, None])
def test_shards_change_no_bit(files: Path, shard_size: int | None) -> None:
    run(files, shard_size=20, output="wanted.npz")
    run(files, shard_size=shard_size)
    np.testing.assert_array_equal(matrix(files), matrix(files, "wanted.npz"))


def test_the_same_job_writes_the_same_bytes(files: Path) -> None:
    run(files)
    run(files, output="again.npz")
    assert (files / "codes.npz").read_bytes() == (files / "again.npz").read_bytes()


def test_no_samples(files: Path) -> None:
    np.save(files / "Y.npy", np.zeros((0, M)))
    summary = run(files)
    assert matrix(files).shape == (0, N_COLUMNS)
    assert summary.samples == 0
    str(summary)


def test_shards_are_left_on_demand(files: Path) -> None:
    run(files, keep_shards=True)
    assert not (files / "codes.npz").exists()
    folder = files / "codes.npz.parts"
    pieces = list(shards(folder))
    assert [piece.first for piece in pieces] == list(range(0, SAMPLES, 7))
    first = scipy.sparse.load_npz(folder / "shard-000000.npz")
    assert first.shape == (7, N_COLUMNS)
    joined = load(files / "codes.npz")
    run(files)  # made one file without being solved again
    assert not folder.exists()
    merged = load(files / "codes.npz")
    for name in ("data", "indices", "indptr", "gap", "iterations", "converged", "lam"):
        assert (getattr(joined, name) == getattr(merged, name)).all(), name
    assert (np.vstack([p.to_scipy().toarray() for p in pieces]) == matrix(files)).all()
    (whole,) = shards(files / "codes.npz")
    assert (whole.data == merged.data).all()


def test_damaged_or_missing_shards_are_not_read(files: Path) -> None:
    """What has the right length is held to its checksum."""
    with pytest.raises(EncodeError, match="does not exist, nor do shards of it"):
        load(files / "codes.npz")
    run(files, keep_shards=True, shard_size=100)
    shard, merged = files / "codes.npz.parts" / "shard-000000.npz", files / "codes.npz"
    content = bytearray(shard.read_bytes())
    content[content.index(b"data.npy") + 4500] ^= 1
    shard.write_bytes(content)
    damaged = r"shard-000000\.npz is damaged, or fastunroll encode did not write it: if it did, remove the file and run"
    with pytest.raises(EncodeError, match=damaged):
        load(merged)
    with pytest.raises(EncodeError, match=damaged):
        run(files, shard_size=100)
    assert not merged.exists()
    shard.unlink()
    with pytest.raises(EncodeError, match=r"is incomplete, shard-000000\.npz is missing: run the same command"):
        load(merged)
    run(files, shard_size=100)
    assert load(merged).converged.all()
    merged.write_bytes(b"something else")
    with pytest.raises(EncodeError, match=r"codes\.npz is damaged, or fastunroll encode did not write it"):
        load(merged)


def test_progress(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(files, progress=True)
    err = capsys.readouterr().err
    assert "problem/s" in err
    assert "100/100" in err
    assert "merging: 100%" in err
    run(files, output="quiet.npz")
    assert capsys.readouterr() == ("", "")


DAMAGED = r"codes\.npz\.parts/job\.json is damaged: move .*codes\.npz\.parts away to start anew"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{half", DAMAGED),
        ('{"version": 99}', "is not from this version"),
        ('{"version": 2}', DAMAGED),
        ('{"version": 2, "settings": {}, "shard_size": 7}', DAMAGED),
        ('{"version": 2, "settings": {"samples": [100, 12]}, "shard_size": 0}', DAMAGED),
    ],
)
def test_manifest_that_is_none(files: Path, content: str, says: str) -> None:
    run(files, keep_shards=True)
    (files / "codes.npz.parts" / "job.json").write_text(content)
    with pytest.raises(EncodeError, match=says):
        run(files)
    with pytest.raises(EncodeError, match=says):
        load(files / "codes.npz")


def test_default_shards() -> None:
    assert default_shard_size(10**9, 64, 256, 4) * (256 * 8 + 64 * 4) <= 1 << 26
    assert default_shard_size(10, 64, 256, 4) == 256
    assert default_shard_size(10**9, 1, 1, 4) == 1 << 16
    assert default_shard_size(10**6, 10**6, 10**8, 8) == 1


def saved(folder: Path, name: str, array: Any) -> None:
    np.save(folder / name, array)


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def cut(folder: Path, name: str, keep: int, more: bytes = b"") -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:keep] + more)


LAM = ["--lam", "1"]
REFUSED: dict[str, tuple[Any, list[str], str]] = {
    "lam 0": (None, ["--lam", "0"], "lam must be a finite number > 0, got 0.0: with lam = 0 this is least squares"),
    "lam < 0": (None, ["--lam", "-1"], "lam must be a finite number > 0, got -1"),
    "lam nan": (None, ["--lam", "nan"], "lam must be a finite number > 0, got nan"),
    "lam tiny": (None, ["--lam", "1e-40", "--dtype", "float32"],
                 "lam must be finite and > 0 in float32, at least 1.2e-38, got 1e-40: use --dtype float64"),
    "lam tiniest": (None, ["--lam", "1e-310"], "at least 2.2e-308, got 1e-310: multiply the samples and lam by"),
    "lam large": (None, ["--lam", "1e39", "--dtype", "float32"], "got 1e+39: use --dtype float64"),
    "no lam": (None, [], "one of the arguments --lam --relative-lam --lam-file is required"),
    "two lams": (None, [*LAM, "--relative-lam", ".1"], "not allowed with argument"),
    "relative": (None, ["--relative-lam", "10"], "relative lam must be below 1, got 10: it is a fraction"),
    "relative < 0": (None, ["--relative-lam", "-1"], "relative lam must be a finite number > 0, got -1.0: it is a fr"),
    "tol": (None, [*LAM, "--tol", "0"], "tol must be a finite number > 0"),
    "iterations": (None, [*LAM, "--max-iter", "0"], "max_iter must be a whole number ≥ 1"),
    "ridge": (None, [*LAM, "--ridge", "-1"], "ridge must be a finite number ≥ 0"),
    "shard size": (None, [*LAM, "--shard-size", "0"], "shard size must be a whole number ≥ 1"),
    "threads": (None, [*LAM, "--threads", "0"], "threads must be an integer from 1 to"),
    "missing": (lambda f: (f / "Y.npy").unlink(), LAM, "cannot read the input {f}/Y.npy: No such file"),
    "folder": (lambda f: [(f / "Y.npy").unlink(), (f / "Y.npy").mkdir()], LAM, "Y.npy: Is a directory"),
    "empty": (lambda f: cut(f, "Y.npy", 0), LAM, "Y.npy must be a .npy file, but its header is missing, truncated"),
    "half a header": (lambda f: cut(f, "Y.npy", 40), LAM, "its header is missing, truncated or damaged"),
    "truncated": (lambda f: cut(f, "Y.npy", 5000), LAM,
                  "the input {f}/Y.npy is truncated: its header promises (100, 12) float64, 9728 bytes, but it"),
    "truncated dictionary": (lambda f: cut(f, "D.npy", 500), LAM, "the dictionary {f}/D.npy is truncated"),
    "too long": (lambda f: cut(f, "Y.npy", 9728, b"more"), LAM, "is longer than it should be"),
    "text": (lambda f: (f / "Y.npy").write_text("1,2,3\n" * 50), LAM, "Y.npy must be a .npy file"),
    "bad header": (lambda f: (f / "Y.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00" + b"{'descr': (" + b" " * 200),
                   LAM, "its header is missing, truncated or damaged"),
    "archive": (lambda f: np.savez(f / "Y.npz", a=np.ones(3)), [*LAM, "--input", "{f}/Y.npz"],
                "Y.npz is an archive (.npz, or of torch.save): take the array out of it"),
    "complex": (lambda f: saved(f, "Y.npy", np.ones((4, M), complex)), LAM, "encode real and imaginary parts"),
    "strings": (lambda f: saved(f, "Y.npy", np.array(["a"])), LAM, "must hold real numbers, but its dtype is"),
    "objects": (lambda f: saved(f, "Y.npy", np.array([None])), LAM, "must hold real numbers"),
    "vector": (lambda f: saved(f, "Y.npy", np.ones(M)), LAM, "reshape it to (1, 12) and save it again"),
    "cubes": (lambda f: saved(f, "Y.npy", np.ones((5, 3, 4))), LAM, "reshape it to (5, 12) and save it again"),
    "too few columns": (lambda f: saved(f, "Y.npy", np.ones((5, 8))), LAM,
                        "have 8 numbers, but the dictionary {f}/D.npy is (m, n) = (12, 30): give samples of 12"),
    "samples as columns": (lambda f: saved(f, "Y.npy", np.ones((M, 40))), LAM, "if its columns are the samples"),
    "transposed": (lambda f: saved(f, "D.npy", arrays()[0].T), LAM, "give --transpose-dictionary if its rows"),
    "not transposed": (None, [*LAM, "--transpose-dictionary"], "leave out --transpose-dictionary"),
    "dictionary nan": (lambda f: saved(f, "D.npy", np.full((M, 3), np.nan)), LAM,
                       "the dictionary {f}/D.npy cannot be used: A must be finite"),
    "dictionary shape": (lambda f: saved(f, "D.npy", np.ones(M)), LAM, "must be a matrix (m, n) whose n columns"),
    "lam file shape": (lambda f: saved(f, "l.npy", np.ones(3)), ["--lam-file", "{f}/l.npy"],
                       "the lam file {f}/l.npy must hold one number for each sample, shape (100,), got (3,)"),
    "lam file values": (lambda f: saved(f, "l.npy", np.arange(100)[::-1]), ["--lam-file", "{f}/l.npy"],
                        "finite and > 0 in float64, at least 2.2e-308, but number 99 is 0"),
    "lam file tiny": (lambda f: saved(f, "l.npy", np.full(100, 1e-39)),
                      ["--lam-file", "{f}/l.npy", "--dtype", "float32"], "at least 1.2e-38, but number 0 is 1e-39"),
    "weights shape": (lambda f: saved(f, "w.npy", np.ones(3)), [*LAM, "--weights", "{f}/w.npy"],
                      "must hold one number for each column of A, shape (30,), got (3,)"),
    "weights values": (lambda f: saved(f, "w.npy", -np.ones(30)), [*LAM, "--weights", "{f}/w.npy"],
                       "but number 0 is -1"),
    "suffix": (None, [*LAM, "--output", "{f}/codes"], "the output must end in .npz, got {f}/codes"),
    "output folder": (lambda f: (f / "out.npz").mkdir(), LAM, "the output {f}/out.npz is a folder"),
    "output nowhere": (None, [*LAM, "--output", "/proc/x/codes.npz"], "cannot write to /proc/x/codes.npz.parts"),
    "output not ours": (lambda f: (f / "out.npz").write_text("precious"), LAM,
                        "{f}/out.npz exists, from another job: it was not written by fastunroll encode; give"),
    "parts not ours": (lambda f: saved(made(f / "out.npz.parts"), "notes", 1), LAM,
                       "out.npz.parts is needed for unfinished work, but it holds other files, such as notes.npy"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(files: Path, case: str, capfd: pytest.CaptureFixture[str]) -> None:
    prepare, arguments, says = REFUSED[case]
    if prepare is not None:
        prepare(files)
    before = {*files.rglob("*")}
    usual = {"--dictionary": "{f}/D.npy", "--input": "{f}/Y.npy", "--output": "{f}/out.npz"}
    more = [part for flag, value in usual.items() if flag not in arguments for part in (flag, value)]
    with pytest.raises(SystemExit) as stopped:
        main(["encode", *(a.format(f=files) for a in [*more, *arguments])])
    assert stopped.value.code == 2
    err = capfd.readouterr().err
    assert says.format(f=files) in err
    assert err.count("\n") == 1
    assert {*files.rglob("*")} == before


def test_input_cut_short_on_the_way(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mapped into memory, it would end the process."""
    from fastunroll.encode import run as running

    real = running.shard.make

    def make(job: Any, parts: Any, index: int, progress: Any) -> None:
        if index == 5:
            cut(files, "Y.npy", 2000)
        real(job, parts, index, progress)

    monkeypatch.setattr(running.shard, "make", make)
    with pytest.raises(EncodeError, match=r"Y\.npy changed during the run: it was cut short"):
        run(files)
    assert not (files / "codes.npz").exists()
