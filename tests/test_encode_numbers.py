"""Numbers given to ``fastunroll encode``: of NumPy's types, of other types, and as small as a dtype has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastunroll.encode import EncodeError, load
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


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lam": "0.1"}, "lam must be a number, got str"),
        ({"lam": np.ones(3)}, "lam must be a number, got ndarray"),
        ({"relative_lam": "0.1"}, "relative lam must be a number, got str"),
        ({"relative_lam": np.float32(np.nan)}, "relative lam must be a finite number > 0"),
        ({"ridge": None}, "ridge must be a number, got NoneType"),
        ({"shard_size": 2.5}, "shard size must be a whole number"),
    ],
)
def test_what_is_no_number(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    before = {*tmp_path.rglob("*")}
    with pytest.raises(EncodeError, match=says):
        run(tmp_path, **options)
    assert {*tmp_path.rglob("*")} == before
