"""``fastunroll encode`` notices a file that changes while it is read, whichever file, way and moment it is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encode_job import READ, ROWS, SIZE, assert_right, before, before_shard, refused, run, write_files
from fastunroll.__main__ import main
from fastunroll.encode import encode
from fastunroll.encode import run as running
from fastunroll.encode.job import Job


@pytest.fixture(autouse=True)
def _files(tmp_path: Path) -> None:
    write_files(tmp_path)


def other_content(path: Path) -> bytes:
    """The file with other numbers in it, all of which the job accepts."""
    array = np.load(path)
    content = path.read_bytes()
    return content[: -array.nbytes] + (1.5 * array).tobytes()


def rewritten(path: Path) -> None:
    path.write_bytes(other_content(path))


def mapped(path: Path) -> None:
    array = np.load(path, mmap_mode="r+")
    array *= 1.5
    array.flush()


def unseen(path: Path) -> None:
    """As by a program that maps the file on a file system that does not note the time."""
    status = path.stat()
    rewritten(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(path: Path) -> None:
    """As an editor does, with the time of the old file."""
    status, new = path.stat(), path.with_name("new.npy")
    new.write_bytes(other_content(path))
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(new, path)


def grown(path: Path) -> None:
    status = path.stat()
    path.write_bytes(path.read_bytes() + b"more")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def truncated(path: Path) -> None:
    status = path.stat()
    os.truncate(path, status.st_size - 8)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def touched(path: Path) -> None:
    os.utime(path, (1, 1))


WAYS: dict[str, tuple[Callable[[Path], None], str]] = {
    "rewritten": (rewritten, "it was written to"),
    "mapped": (mapped, "it was written to"),
    "unseen": (unseen, ""),
    "replaced": (replaced, "it was removed, or replaced by another file"),
    "grown": (grown, "its size was"),
    "truncated": (truncated, ""),
    "touched": (touched, "it was written to"),
    "removed": (Path.unlink, "it was removed, or replaced by another file"),
}
MOMENTS: dict[str, Callable[[pytest.MonkeyPatch, Callable[[], None]], None]] = {
    "solving": lambda patch, act: before_shard(patch, 3, act),
    "all solved": lambda patch, act: before(patch, running, "check", act),
    "merging": lambda patch, act: before(patch, running, "merge", act),
}
CHANGES = [
    (role, way, moment)
    for role in READ
    for way in WAYS
    for moment in MOMENTS
    if (way, moment) != ("unseen", "merging")  # all numbers have been compared by then
]


@pytest.mark.parametrize(("role", "way", "moment"), CHANGES)
def test_change_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str, way: str, moment: str) -> None:
    path = tmp_path / READ[role]
    change, says = WAYS[way]
    MOMENTS[moment](monkeypatch, lambda: change(path))
    message = refused(tmp_path)
    assert str(path) in message
    assert f"changed during the run: {says}" in message
    assert message.endswith("run again with --overwrite once nothing writes to it")
    assert not (tmp_path / "codes.npz").exists()
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("keep_shards", [False, True])
@pytest.mark.parametrize("way", ["rewritten", "mapped", "unseen", "replaced", "touched"])
@pytest.mark.parametrize("role", READ)
def test_what_the_message_advises_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str, way: str, keep_shards: bool
) -> None:
    before_shard(monkeypatch, 3, lambda: WAYS[way][0](tmp_path / READ[role]))
    refused(tmp_path, keep_shards=keep_shards)
    run(tmp_path, overwrite=True, keep_shards=keep_shards)
    run(tmp_path)
    assert_right(tmp_path)


def test_only_changed_rows_are_solved_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that leaves no trace but the numbers, of a row that is not among those that tell two inputs apart."""
    monkeypatch.setattr("fastunroll.encode.array_file.SAMPLED_ROWS", 2)
    path = tmp_path / "Y.npy"

    def change() -> None:
        status, Y = path.stat(), np.load(path)
        Y[SIZE + 1] *= 2
        np.save(path, Y)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    before_shard(monkeypatch, 3, change)
    assert f"rows {SIZE} to {2 * SIZE - 1}, " in refused(tmp_path)
    assert run(tmp_path).solved == SIZE
    assert_right(tmp_path)


def test_rows_that_change_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a trace but the numbers: the codes are those of the file as it is at the end."""
    monkeypatch.setattr("fastunroll.encode.array_file.SAMPLED_ROWS", 2)
    path = tmp_path / "Y.npy"

    def change() -> None:
        status, Y = path.stat(), np.load(path)
        Y[-2] *= 2
        np.save(path, Y)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    before_shard(monkeypatch, 2, change)
    run(tmp_path)
    assert_right(tmp_path)


def test_change_while_a_shard_is_solved_leaves_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, calls = Job.solve, []

    def solve(self: Job, arrays: list[Any]) -> Any:
        calls.append(len(arrays[0]))
        if len(calls) == 3:
            rewritten(tmp_path / "Y.npy")
        return usual(self, arrays)

    monkeypatch.setattr(Job, "solve", solve)
    refused(tmp_path)
    assert calls == [SIZE] * 3
    assert [p.name for p in sorted((tmp_path / "codes.npz.parts").glob("shard-*"))] == [
        "shard-000000.npz",
        "shard-000001.npz",
    ]


def test_link_that_is_led_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a link has the name of the newest file."""
    path = tmp_path / "Y.npy"
    path.rename(tmp_path / "first.npy")
    path.symlink_to("first.npy")
    np.save(tmp_path / "second.npy", np.zeros((ROWS, 4)))

    def lead_elsewhere() -> None:
        path.unlink()
        path.symlink_to("second.npy")

    before_shard(monkeypatch, 3, lead_elsewhere)
    assert "it was removed, or replaced by another file" in refused(tmp_path)


def test_working_folder_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is that of the start."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    before_shard(monkeypatch, 1, lambda: os.chdir(tmp_path / "elsewhere"))
    encode("D.npy", "Y.npy", tmp_path / "codes.npz", lam=0.3, shard_size=SIZE)
    assert (tmp_path / "codes.npz").exists()


def test_exit_code_and_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [("--dictionary", "D.npy"), ("--input", "Y.npy"), ("--lam-file", "L.npy"), ("--output", "codes.npz")]
    arguments = [part for flag, name in files for part in (flag, str(tmp_path / name))]
    before_shard(monkeypatch, 2, lambda: mapped(tmp_path / "Y.npy"))
    with pytest.raises(SystemExit) as stopped:
        main(["encode", *arguments, "--shard-size", str(SIZE)])
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.splitlines()[-1].startswith(
        f"fastunroll encode: the input {tmp_path / 'Y.npy'} changed during the run: "
    )


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no file system in memory")
def test_mapped_file_on_a_file_system_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a file system notes no time of a change that comes by way of a mapping."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        path = shutil.copy2(tmp_path / "Y.npy", memory)
        (tmp_path / "Y.npy").unlink()
        (tmp_path / "Y.npy").symlink_to(path)
        before_shard(monkeypatch, 3, lambda: mapped(Path(path)))
        assert "changed during the run: " in refused(tmp_path)
        assert not (tmp_path / "codes.npz").exists()
