"""``fastunroll encode`` on a disk that is full, read-only or failing, at each step at which it writes."""

from __future__ import annotations

import builtins
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from encode_job import assert_right, refused, run, write_files
from fastunroll.encode import EncodeError, load

ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)
Fails = Callable[..., bool]


def named(*parts: str) -> Fails:
    return lambda path, *_: all(part in os.fspath(path) for part in parts)


def writing(*parts: str) -> Fails:
    return lambda path, mode="r", *_: mode == "wb" and named(*parts)(path)


# The function that fails, and for which arguments.
STEPS: dict[str, tuple[Any, str, Fails]] = {
    "make the folder": (os, "mkdir", named("codes.npz.parts")),
    "make the lock": (os, "open", lambda path, flags, *_: bool(flags & os.O_CREAT) and named("lock")(path)),
    "open the job file": (builtins, "open", writing("job.json")),
    "name the job file": (os, "replace", named("job.json")),
    "open a shard": (builtins, "open", writing("shard-000003")),
    "name a shard": (os, "replace", named("shard-000003")),
    "open the output": (builtins, "open", writing("codes.npz.", ".partial")),
    "name the output": (os, "replace", lambda source, target: str(target).endswith("codes.npz")),
}


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("step", STEPS)
def test_step_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int) -> None:
    """It is one sentence with the reason; what is done stays, and the same command goes on."""
    write_files(tmp_path)
    module, name, fails = STEPS[step]
    usual = getattr(module, name)

    def failing(*arguments: Any, **options: Any) -> Any:
        if fails(*arguments):
            raise OSError(number, os.strerror(number), str(arguments[0]))
        return usual(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, failing)
        message = refused(tmp_path)
    assert os.strerror(number) in message
    assert "codes.npz" in message
    assert not (tmp_path / "codes.npz").exists()
    assert not list(tmp_path.rglob("*.partial"))
    run(tmp_path)
    assert_right(tmp_path)


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("which", range(8))
def test_sync_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, which: int) -> None:
    """A disk may tell only then that it is full."""
    write_files(tmp_path)
    usual, calls = os.fsync, []

    def failing(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 2 * which + 1:
            raise OSError(number, os.strerror(number))
        usual(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        if which < 7:  # a job file, five shards and the output, each of which is followed by its folder
            assert os.strerror(number) in refused(tmp_path)
            assert not (tmp_path / "codes.npz").exists()
        run(tmp_path)
    assert_right(tmp_path)


@pytest.mark.parametrize("length", [231, 245, 251, 300])
def test_name_that_is_too_long(tmp_path: Path, length: int) -> None:
    """For the folder or the file that is written first: this shows before anything is solved."""
    write_files(tmp_path)
    before = {*tmp_path.rglob("*")}
    message = refused(tmp_path, output="c" * (length - 4) + ".npz")
    assert "File name too long" in message
    assert {*tmp_path.rglob("*")} == before


def test_longest_name(tmp_path: Path) -> None:
    write_files(tmp_path)
    run(tmp_path, "c" * 226 + ".npz")
    assert_right(tmp_path, "c" * 226 + ".npz")


def test_reading_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(EncodeError, match="File name too long"):
        load(tmp_path / ("c" * 300))


def test_output_below_a_file(tmp_path: Path) -> None:
    write_files(tmp_path)
    assert "Not a directory" in refused(tmp_path, output="Y.npy/codes.npz")


def test_memory_that_does_not_suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path)

    def failing(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("fastunroll.encode.shard.index_dtype", failing)
        assert refused(tmp_path) == (
            "there is not enough memory; 0 of 20 samples are done, free memory, and the same command continues from "
            "there"
        )
    run(tmp_path)
    assert_right(tmp_path)
