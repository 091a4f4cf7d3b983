"""Files from outside: every kind that the package reads, with every kind of damage, is refused in one sentence.

``fastunroll encode`` has its own tests.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from fastunroll import _files, convert
from fastunroll.data import SparseRecovery, sensing_matrix
from fastunroll.ops.cuda.timings import Case, Timings
from fastunroll.reproduce.stored import ReproduceError, read_results, read_weights
from fastunroll.training import end_to_end, train

PACKAGE = Path(_files.__file__).parent
A = sensing_matrix(5, 9)
ROW = {
    "name": "ALISTA", "setting": "snr40", "seed": 0, "size": [5, 9], "steps": 1.0, "tests": 8, "seconds": 1.0,
    "layers": {"pooled": [-1.0], "per_sample": [-2.0]},
}  # fmt: skip


def _train(path: Path) -> object:
    quiet: dict[str, Any] = {"progress": False, "batch": 4, "held_out": 4}
    return train(fu.nn.ALISTA(A, layers=2), SparseRecovery(A), end_to_end(2), checkpoint=path, **quiet)


def _load(path: Path) -> object:
    return convert.load_lista(path)


def _write_npz(path: Path) -> None:
    np.savez(path, **{"B_0:0": np.ones((9, 5)), "S_0:0": np.ones((9, 9)), "lam_0:0": np.ones(())})


# How a file of each kind is made and read.
TORCH: dict[str, tuple[str, Callable[[Path], object], Callable[[Path], object]]] = {
    "checkpoint": ("c.pt", _train, _train),
    "weights": ("w.pt", lambda path: torch.save(fu.nn.LISTA(A, layers=2).state_dict(), path), _load),
    "weights of a reproduction": (
        "r.pt", lambda path: torch.save(fu.nn.LISTA(A, layers=2).state_dict(), path),
        lambda path: read_weights(fu.nn.LISTA(A, layers=2), path),
    ),
}  # fmt: skip
NPZ = {"arrays": ("w.npz", _write_npz, _load), "arrays, capitals": ("w.NPZ", lambda p: _npz_as(p), _load)}
JSON = {
    "timings": (
        "cpu.json", lambda path: Timings("cpu", "", (Case("untied", "single", True, 4, 2, {"a": 1.0}),)).write(path),
        Timings.read,
    ),
    "results": ("r.json", lambda path: _files.write_json(path, {"results": {"a": ROW}}), read_results),
}  # fmt: skip
KINDS = TORCH | NPZ | JSON


def _npz_as(path: Path) -> None:
    buffer = io.BytesIO()
    _write_npz(buffer)  # type: ignore[arg-type]
    path.write_bytes(buffer.getvalue())


class Code:
    """A pickle of it runs code where it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"state_dict": value}
    return value


def _torch_bytes(value: object) -> bytes:
    buffer, limit = io.BytesIO(), sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        torch.save(value, buffer)
    finally:
        sys.setrecursionlimit(limit)
    return buffer.getvalue()


def _zip(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _npz_of(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _npy(header: str) -> bytes:
    text = (header + "\n").encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


# What a damaged file holds, from what a whole one does.
DAMAGES: dict[str, Callable[[bytes, Path], bytes]] = {
    "empty": lambda whole, mark: b"",
    "one byte": lambda whole, mark: whole[:1],
    "a tenth": lambda whole, mark: whole[: len(whole) // 10],
    "half": lambda whole, mark: whole[: len(whole) // 2],
    "the last byte is missing": lambda whole, mark: whole[:-2],
    "the first half": lambda whole, mark: b"\0" * (len(whole) // 2) + whole[len(whole) // 2 :],
    "noise": lambda whole, mark: np.random.default_rng(0).bytes(1000),
    "text": lambda whole, mark: b"hello\nworld\n",
    "a page": lambda whole, mark: b"<!DOCTYPE html>\n<html></html>",
    "a pointer": lambda whole, mark: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    "code": lambda whole, mark: _torch_bytes({"state_dict": Code(mark)}),
    "code, plain pickle": lambda whole, mark: pickle.dumps(Code(mark)),
    "a module": lambda whole, mark: _torch_bytes(torch.nn.Linear(2, 3)),
    "a number": lambda whole, mark: _torch_bytes(3),
    "a list": lambda whole, mark: _torch_bytes([torch.zeros(2)]),
    "a tensor": lambda whole, mark: _torch_bytes(torch.zeros(2)),
    "no entries": lambda whole, mark: _torch_bytes({}),
    "numbers for names": lambda whole, mark: _torch_bytes({0: torch.zeros(2), "1\n2": 3}),
    "nested": lambda whole, mark: _torch_bytes(_nested(2000)),
    "a zip of something": lambda whole, mark: _zip(readme=b"x"),
    "a zip of nothing": lambda whole, mark: _zip(),
    "a zip of a pickle that is none": lambda whole, mark: _zip(**{"archive/data.pkl": b"\x80\x02}q\x00."}),
    "objects": lambda whole, mark: _npz_of(a=np.array([{}, None], dtype=object)),
    "texts": lambda whole, mark: _npz_of(**{"lam_0:0": np.array(["x"])}),
    "dates": lambda whole, mark: _npz_of(**{"lam_0:0": np.array(["2020-01-01"], dtype="M8[D]")}),
    "a header that is none": lambda whole, mark: _zip(**{"a.npy": _npy("{'descr': 'x'}")}),
    "a nested header": lambda whole, mark: _zip(**{"a.npy": _npy("[" * 5000)}),
    "an endless array": lambda whole, mark: _zip(
        **{"a.npy": _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,)}")}
    ),
    "an array without end": lambda whole, mark: _zip(
        **{"a.npy": _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-3,)}")}
    ),
    "JSON nested": lambda whole, mark: b"[" * 200_000 + b"]" * 200_000,
    "JSON nested in place": lambda whole, mark: (
        b'{"device": "cpu", "date": "", "cases": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    ),
    "JSON of a list": lambda whole, mark: b"[]",
    "JSON of a number": lambda whole, mark: b"1e999",
    "JSON of not a number": lambda whole, mark: b"NaN",
    "JSON of null": lambda whole, mark: b"null",
    "JSON without entries": lambda whole, mark: b"{}",
    "JSON with a long number": lambda whole, mark: b"[" + b"1" * 10_000 + b"]",
    "JSON with half a letter": lambda whole, mark: b'{"device": "\xff"}',
    "JSON in 16 bits": lambda whole, mark: '{"device": "cpu"}'.encode("utf-16"),
}


def _refused(kind: str, path: Path) -> str:
    """The sentence that refuses a file."""
    with pytest.raises((OSError, ValueError, TypeError, ReproduceError)) as raised:
        KINDS[kind][2](path)
    said = str(raised.value)
    assert type(raised.value).__module__ in ("builtins", "fastunroll._files", "fastunroll.reproduce.stored")
    assert path.name in said
    assert "\n" not in said
    assert len(said.replace(str(path), "")) < 500
    assert Path(raised.traceback[-1].path).is_relative_to(PACKAGE)
    return said


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_read(kind: str, tmp_path: Path) -> None:
    name, make, read = KINDS[kind]
    make(tmp_path / name)
    read(tmp_path / name)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_one_sentence(kind: str, damage: str, tmp_path: Path) -> None:
    name, make, _ = KINDS[kind]
    path, mark = tmp_path / name, tmp_path / "code has run"
    make(path)
    path.write_bytes(DAMAGES[damage](path.read_bytes(), mark))
    said = _refused(kind, path)
    assert ": " in said  # what is wrong, then what to do
    assert not mark.exists()
    if damage == "code" and kind in TORCH:
        assert "holds more than tensors" in said


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_opened(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = KINDS[kind][0]
    (tmp_path / name).mkdir()
    assert "folder" in _refused(kind, tmp_path / name) or "directory" in _refused(kind, tmp_path / name)

    (tmp_path / "own").mkdir()
    path = tmp_path / "own" / name
    KINDS[kind][1](path)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)
    assert "Permission denied" in _refused(kind, path)


@pytest.mark.parametrize("kind", ["weights", "arrays", "timings"])
def test_no_file(kind: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="cannot be read"):
        KINDS[kind][2](tmp_path / KINDS[kind][0])


def _case(**fields: Any) -> dict[str, Any]:
    return {"device": "cpu", "date": "", "cases": [vars(Case("untied", "single", True, 4, 2, {"a": 1.0})) | fields]}


WRONG_TIMINGS: list[Any] = [
    *(_case(**{name: value}) for name in ("kind", "precision") for value in (1, None, [], {})),
    *(_case(gradient=value) for value in (1, "x", None)),
    *(_case(**{name: value}) for name in ("n", "batch")
      for value in (0, -1, 1.5, "5", None, True, float("nan"), float("inf"), [])),
    *(_case(times=value) for value in ({}, [], 3, {"a": 0}, {"a": -1.0}, {"a": "x"}, {"a": float("nan")},
                                       {"a": float("inf")}, {"a": None}, {"a": [1.0]}, {"a": True})),
    _case(more=1), {"device": "cpu", "date": ""}, {"device": 3, "date": "", "cases": []},
    {"device": "cpu", "date": None, "cases": []}, {"device": "cpu", "date": "", "cases": {}},
    {"device": "cpu", "date": "", "cases": [3]}, {"device": "cpu", "date": "", "cases": [], "more": 1},
]  # fmt: skip
WRONG_RESULTS: list[Any] = [
    [], {"results": []}, {"results": {"a": 3}}, {"results": {"a": {}}},
    *({"results": {"a": ROW | {name: value}}} for name in ROW for value in (None, [], {}, "x" * (name not in
      ("name", "setting")) or 3)),
    *({"results": {"a": {k: v for k, v in ROW.items() if k != name}}} for name in ROW),
    *({"results": {"a": ROW | {"size": value}}} for value in ([5], [5, 9, 3], [5, -9], [5, "9"], [5.0, 9])),
    *({"results": {"a": ROW | {"layers": value}}} for value in
      ({"pooled": [-1.0]}, {"pooled": [], "per_sample": []}, {"pooled": ["x"], "per_sample": [1.0]})),
    {"results": {"a": ROW | {"step_ms": 1.0}}},
]  # fmt: skip


@pytest.mark.parametrize(("kind", "contents"), [("timings", WRONG_TIMINGS), ("results", WRONG_RESULTS)])
def test_wrong_fields(kind: str, contents: list[Any], tmp_path: Path) -> None:
    for content in contents:
        path = tmp_path / KINDS[kind][0]
        path.write_text(json.dumps(content))
        _refused(kind, path)


def test_tensors_of_an_old_torch_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions before 2.6 run code in spite of weights_only=True."""
    path = tmp_path / "w.pt"
    torch.save({}, path)
    for version in ("2.5.1", "2.4.1+cpu", "1.13.0"):
        monkeypatch.setattr(torch, "__version__", version)
        with pytest.raises(RuntimeError, match=r"CVE-2025-32434.*install torch 2\.6 or later"):
            convert.load_lista(path)
    for version in ("2.6.0", "2.10.0", "3.0.0.dev1+cu130"):
        monkeypatch.setattr(torch, "__version__", version)
        assert _files.read_tensors(path, "", "") == {}
