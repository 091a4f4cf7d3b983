"""``fastunroll encode`` in threads, beside a process that has just finished, and where locks or the disk fail."""

from __future__ import annotations

import errno
import fcntl
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastunroll.encode import EncodeError, load, parts
from fastunroll.encode import run as running
from fastunroll.encode.locks import Locks
from fastunroll.encode.manifest import Manifest
from fastunroll.encode.storage import WriteError
from test_encode import SAMPLES, run
from test_encode import files as files  # a fixture

TIMEOUT = 120  # for what takes seconds: only a hang takes longer
pytestmark = pytest.mark.usefixtures("files")


@pytest.mark.parametrize("other_name", ["codes.npz", "folder/../codes.npz", "link/codes.npz"])
def test_threads_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    entered, leave = threading.Event(), threading.Event()
    usual = parts.Parts.drop_damaged

    def held(self: parts.Parts) -> list[Path]:
        entered.set()
        assert leave.wait(TIMEOUT)
        return usual(self)

    monkeypatch.setattr(parts.Parts, "drop_damaged", held)
    thread = threading.Thread(target=lambda: run(tmp_path))
    thread.start()
    assert entered.wait(TIMEOUT)
    monkeypatch.setattr(parts.Parts, "drop_damaged", usual)
    try:
        with pytest.raises(EncodeError, match="is being written by another thread of this process"):
            run(tmp_path, output=other_name)
    finally:
        leave.set()
        thread.join(TIMEOUT)
    assert load(tmp_path / "codes.npz").shape[0] == SAMPLES


def test_threads_at_the_same_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(set[Any]):
        def __contains__(self, item: object) -> bool:
            found = super().__contains__(item)
            time.sleep(0.2)
            return found

    monkeypatch.setattr(running, "_active", Slow())
    inside = threading.Barrier(3)
    outcomes = []

    def enter() -> None:
        try:
            with running._once(tmp_path / "codes.npz"):
                outcomes.append("entered")
                inside.wait(TIMEOUT)
        except EncodeError:
            outcomes.append("refused")
            inside.wait(TIMEOUT)

    threads = [threading.Thread(target=enter) for _ in range(2)]
    for thread in threads:
        thread.start()
    inside.wait(TIMEOUT)
    for thread in threads:
        thread.join(TIMEOUT)
    assert sorted(outcomes) == ["entered", "refused"]


@pytest.mark.parametrize("looks", ["iterdir", "mkdir"])
def test_folder_that_goes_while_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: str) -> None:
    """As when another process removes it, having just finished."""
    folder = tmp_path / "codes.npz.parts"
    folder.mkdir()
    usual = getattr(Path, looks)

    def removed_first(self: Path, **options: Any) -> Any:
        if self == folder and folder.exists():
            monkeypatch.setattr(Path, looks, usual)
            folder.rmdir()
            if looks == "mkdir":
                raise FileExistsError(errno.EEXIST, "File exists", str(folder))
        return usual(self, **options)

    monkeypatch.setattr(Path, looks, removed_first)
    run(tmp_path)
    assert load(tmp_path / "codes.npz").converged.all()


@pytest.mark.parametrize("kind", ["file", "link to nothing"])
def test_folder_that_is_none(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "codes.npz.parts"
    folder.write_text("precious") if kind == "file" else folder.symlink_to(tmp_path / "nothing")
    with pytest.raises(EncodeError, match=r"codes\.npz\.parts is needed as a folder for unfinished work, but"):
        run(tmp_path)


@pytest.mark.parametrize("fails", ["unlock", "lock", "close"])
def test_the_first_error_is_the_one_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """A full disk is not hidden by what goes wrong when the folder is left."""
    usual_lock, usual_close = fcntl.lockf, Locks.close

    def lock(file: int, kind: int, *where: int) -> None:
        if (kind == fcntl.LOCK_UN) == (fails == "unlock"):
            raise OSError(errno.ENOLCK, "No locks available")
        usual_lock(file, kind, *where)

    def close(self: Locks) -> None:
        usual_close(self)
        raise OSError(errno.EIO, "Input/output error")

    def full(*arguments: Any) -> None:
        if fails == "close":
            monkeypatch.setattr(Locks, "close", close)
        else:
            monkeypatch.setattr(fcntl, "lockf", lock)
        raise WriteError(errno.ENOSPC, "No space left on device", "shard-000000.npz")

    monkeypatch.setattr(running.shard, "make", full)
    with pytest.raises(
        EncodeError, match=r"^cannot write shard-000000\.npz: No space left on device; 0 of 100 samples"
    ):
        run(tmp_path)
    monkeypatch.undo()
    assert run(tmp_path).solved == SAMPLES


def test_folder_that_cannot_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path, manifest: Manifest) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(parts, "_remove", fail)
    with pytest.raises(
        EncodeError, match=r"the output is complete, but .*\.parts cannot be removed: Permission denied"
    ):
        run(tmp_path)
    assert np.isfinite(load(tmp_path / "codes.npz").gap).all()
