"""Checkpoints of training: no crash loses them, and a damaged or foreign file is refused in one sentence."""

from __future__ import annotations

import copy
import itertools
import math
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll import _files
from fastunroll.data import SparseRecovery, sensing_matrix
from fastunroll.training import Stage, checkpoint, end_to_end, train
from forks import Fork
from torch import Tensor

A = sensing_matrix(6, 10)
PROBLEM = SparseRecovery(A, snr=40)
SCHEDULE = [Stage(6, depth=1), *end_to_end(9)]
QUIET: dict[str, Any] = {"progress": False, "batch": 8, "held_out": 16, "check_every": 3}


class Stop(Exception):
    pass


def alista() -> fu.nn.ALISTA:
    return fu.nn.ALISTA(A, layers=2)


def left_at(path: Path, after: int) -> dict[str, Any]:
    """The content of a checkpoint of a training that ended after the given number of steps."""

    def stop(done: int) -> None:
        if done >= after:
            raise Stop

    with pytest.raises(Stop):
        train(alista(), PROBLEM, SCHEDULE, **(QUIET | {"checkpoint": path, "progress": stop}))
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def test_a_new_file_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is written whole to the disk, then renamed, then the folder is written to the disk."""
    done: list[str] = []
    sync, replace = os.fsync, os.replace
    path = tmp_path / "c.pt"
    path.write_bytes(b"old")
    before: list[bytes] = []

    def noted_sync(descriptor: int) -> None:
        target = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if target.is_file():
            torch.load(target, weights_only=True)  # all of it has left this process
        done.append(f"sync {target.name}")
        sync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        before.append(path.read_bytes())
        done.append(f"replace {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    _files.write_whole(path, lambda file: torch.save({"new": torch.ones(1000)}, file))
    assert done == ["sync c.pt.partial", "replace c.pt", f"sync {tmp_path.name}"]
    assert before == [b"old"]
    assert os.listdir(tmp_path) == ["c.pt"]


def test_training_saves_that_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Path] = []
    write = _files.write_whole
    monkeypatch.setattr(checkpoint, "write_whole", lambda path, content: (saved.append(path), write(path, content)))
    left_at(tmp_path / "c.pt", 3)
    assert saved == [tmp_path / "c.pt"]


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.pt"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if broken != "write":
        monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="No space left on device") as raised:
        _files.write_whole(path, fail if broken == "write" else lambda file: file.write(b"new"))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["c.pt"]


def save_for_ever(path: Path) -> None:
    for k in itertools.count(1):
        _files.write_whole(path, partial(torch.save, {"k": k, "t": torch.full((50_000,), float(k))}))
        print(k, flush=True)


def test_a_process_that_is_killed_while_it_saves_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    for attempt in range(3):
        process = Fork(tmp_path, save_for_ever, path)
        try:
            while len(process.printed().split()) < 3 + attempt:
                assert process.poll() is None, process.communicate()
                time.sleep(0.001)
            time.sleep(0.0007 * attempt)  # so that not all are killed at the same place
        finally:
            process.kill()
        last, found = int(process.printed().split()[-1]), torch.load(path, weights_only=True)
        assert found["k"] in (last, last + 1)  # the name may be new before its number is printed
        assert torch.equal(found["t"], torch.full((50_000,), float(found["k"])))


def _changed(content: dict[str, Any], keys: tuple[Any, ...], value: object) -> dict[str, Any]:
    """A copy with another value at a place, or without the place."""
    changed = copy.deepcopy(content)
    inner: Any = changed
    for key in keys[:-1]:
        inner = inner[key]
    if value is Stop:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    return changed


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def _save(content: object, path: Path) -> None:
    """As torch does, where lists may be nested deeply."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        torch.save(content, path)
    finally:
        sys.setrecursionlimit(limit)


PLACES: list[tuple[Any, ...]] = [
    ("settings",), ("state",), ("model",), ("best",), ("generators",), ("optimizer",),
    ("settings", "schedule"), ("settings", "batch"), ("settings", "rates"), ("settings", "patience"),
    ("state", "stage"), ("state", "step"), ("state", "best"), ("state", "without_gain"), ("state", "records"),
    ("state", "records", 0), ("state", "records", 0, "stage"), ("state", "records", 0, "step"),
    ("state", "records", 0, "depth"), ("state", "records", 0, "loss"),
    ("model", "log_theta.0"), ("model", "A"), ("best", "log_step.1"),
    ("generators", 0), ("optimizer", "state"), ("optimizer", "param_groups"), ("optimizer", "state", 0),
    ("optimizer", "state", 0, "exp_avg"), ("optimizer", "state", 0, "step"), ("optimizer", "param_groups", 0, "params"),
]  # fmt: skip
WRONG: dict[str, Callable[[], object]] = {
    "missing": lambda: Stop, "none": lambda: None, "text": lambda: "x", "a list": lambda: [1], "a dictionary": dict,
    "too large": lambda: 2**64, "negative": lambda: -1, "nan": lambda: math.nan, "true": lambda: True,
    "a tensor": lambda: torch.zeros(3, 3), "whole numbers": lambda: torch.zeros(1, dtype=torch.int64),
    "a sparse tensor": lambda: torch.eye(2).to_sparse(), "nested": lambda: _nested(2000),
    "a complex number": lambda: torch.zeros(1, dtype=torch.complex64),
}  # fmt: skip
# Values that the place may have: training has met a loss that is not a number, and a parameter without a gradient.
ALLOWED = {
    (("settings", "patience"), "none"), (("state", "records", 0), "missing"), (("state", "records", 0, "loss"), "nan"),
    (("optimizer", "state"), "a dictionary"), (("optimizer", "state", 0), "missing"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_content_is_one_sentence_and_changes_nothing(wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    content = left_at(path, 11)
    for keys in PLACES:
        if (keys, wrong) in ALLOWED:
            continue
        _save(_changed(content, keys, WRONG[wrong]()), path)
        net = alista()
        before = copy.deepcopy(net.state_dict())
        with pytest.raises(ValueError, match=r"c\.pt (is|does) ") as raised:
            train(net, PROBLEM, SCHEDULE, **QUIET, checkpoint=path)
        said = str(raised.value)
        assert str(path) in said, keys
        assert "give another file" in said, keys
        assert "\n" not in said, keys
        assert all(torch.equal(v, before[name]) for name, v in net.state_dict().items()), keys


def test_the_content_that_is_not_changed_is_taken(tmp_path: Path) -> None:
    """What the table above changes is what makes the difference; numbers of shape () or (1,) are the same numbers."""
    path = tmp_path / "c.pt"
    content = left_at(path, 11)

    def reshaped(value: Any, shape: tuple[int, ...]) -> Any:
        if isinstance(value, dict):
            return {k: reshaped(v, shape) for k, v in value.items()}
        if isinstance(value, list):
            return [reshaped(v, shape) for v in value]
        return value.reshape(shape) if isinstance(value, Tensor) and value.numel() == 1 else value

    whole = alista()
    wanted = train(whole, PROBLEM, SCHEDULE, **QUIET)
    for version in (content, reshaped(content, ()), reshaped(content, (1,))):
        torch.save(version, path)
        net = alista()
        found = train(net, PROBLEM, SCHEDULE, **QUIET, checkpoint=path)
        assert found.records == wanted.records
        assert all(torch.equal(v, whole.state_dict()[name]) for name, v in net.state_dict().items())


def test_a_state_that_contradicts_itself(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    content = left_at(path, 11)
    for keys, value in (
        (("optimizer",), None),
        (("state", "step"), 0),
        (("state", "step"), 10),
        (("state", "stage"), 3),
    ):
        torch.save(_changed(content, keys, value), path)
        with pytest.raises(ValueError, match=r"is damaged, since .*: delete it, or give another file"):
            train(alista(), PROBLEM, SCHEDULE, **QUIET, checkpoint=path)


@pytest.mark.parametrize(
    ("checkpoint", "kind", "said"),
    [
        (3, TypeError, "checkpoint must be the path of a file, or None, got 3"),
        (torch.zeros(2), TypeError, "checkpoint must be the path of a file, or None, got a tensor of shape (2,)"),
        ("", IsADirectoryError, "checkpoint must be the path of a file, but '.' is a folder: add a name"),
        ("folder", IsADirectoryError, "is a folder: add a name"),
        ("file/c.pt", OSError, "cannot be made"),
        ("nul\0l/c.pt", ValueError, "holds a null character"),
    ],
)
def test_paths_that_are_none(
    checkpoint: Any, kind: type[Exception], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(kind) as raised:
        train(alista(), PROBLEM, SCHEDULE, **QUIET, checkpoint=checkpoint)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
