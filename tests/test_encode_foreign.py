"""``fastunroll encode`` beside files that it has not written, or not for that place: they are never lost or taken."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from encode_job import ROWS, SIZE, assert_right, before, before_shard, refused, run, write_files
from fastunroll.encode import EncodeError, load, shards
from fastunroll.encode import run as running
from fastunroll.encode.manifest import read_manifest
from fastunroll.encode.parts import partial_of

PRECIOUS = b"precious"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an output that is not there."""
    write_files(tmp_path)
    return tmp_path / "codes.npz.parts"


def interrupt() -> None:
    raise KeyboardInterrupt


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "files",
    [
        {"lock": b"", "shard-000000.npz": PRECIOUS},
        {"lock": b"", "shard-notes.txt": PRECIOUS},
        {"lock": b"", "results.partial": PRECIOUS},
        {"lock": b"", "job.json.partial": b"", "shard-000001.npz.partial": PRECIOUS},
        {"lock": PRECIOUS},
        {"lock": PRECIOUS, "shard-000000.npz": PRECIOUS},
        {"job.json": PRECIOUS},
        {"job.json": b"{}", "lock": b"", "shard-000000.npz": PRECIOUS},
        {"shard-000000.npz": PRECIOUS},
    ],
    ids=lambda files: "+".join(files),
)
def test_folder_without_a_job_file_is_the_users(folder: Path, files: dict[str, bytes], overwrite: bool) -> None:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    message = refused(folder.parent, overwrite=overwrite)
    assert str(folder) in message
    assert "another --output" in message
    assert contents(folder) == files


def test_folder_of_a_process_that_was_killed_at_the_start(folder: Path) -> None:
    """There is a lock, and perhaps half a job file: both are its own."""
    folder.mkdir()
    (folder / "lock").touch()
    (folder / "job.json.partial").write_text('{\n "version"')
    run(folder.parent)
    assert not folder.exists()
    assert_right(folder.parent)


USERS = [
    "shard-notes.txt", "shard-000001.npz.bak", "shard-000099.npz", "shard-1.npz", "shard-0000001.npz",
    "results.partial", "shard-000099.npz.partial", "shard-٠٠٠٠٠١.npz",
]  # fmt: skip


@pytest.mark.parametrize("discarded", [False, True])
def test_files_beside_the_shards_stay(folder: Path, monkeypatch: pytest.MonkeyPatch, discarded: bool) -> None:
    """Where the folder is cleared at the end, and where the work of another job is discarded."""
    with monkeypatch.context() as patch:
        before_shard(patch, 3, interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(folder.parent, tol=1e-3 if discarded else 1e-6)
    for name in USERS:
        (folder / name).write_bytes(PRECIOUS)
    assert run(folder.parent, overwrite=discarded).solved == (ROWS if discarded else ROWS - 3 * SIZE)
    assert contents(folder) == dict.fromkeys(USERS, PRECIOUS)
    assert_right(folder.parent)


@pytest.mark.parametrize("discarded", [False, True])
@pytest.mark.parametrize("kind", ["text", "archive"])
def test_file_with_the_name_of_a_shard(folder: Path, kind: str, discarded: bool) -> None:
    """It does not begin as a shard does, and so is not one that was damaged."""
    run(folder.parent, keep_shards=True, tol=1e-3 if discarded else 1e-6)
    users = folder / "shard-000002.npz"
    users.unlink()
    if kind == "text":
        users.write_bytes(PRECIOUS)
    else:
        np.savez(users, results=np.arange(3))
    content = users.read_bytes()
    says = f"{users} is not a shard that fastunroll encode has written: move the file away, and run the same command"
    assert refused(folder.parent, overwrite=discarded).startswith(says)
    assert users.read_bytes() == content
    users.rename(folder.parent / "mine")
    assert run(folder.parent, overwrite=discarded).solved == (ROWS if discarded else SIZE)
    assert_right(folder.parent)


def copied(folder: Path) -> None:
    """The shard of other rows: as long, and as sound."""
    shutil.copy(folder / "shard-000002.npz", folder / "shard-000001.npz")


def of_another_job(folder: Path) -> None:
    run(folder.parent, "other.npz", tol=1e-3, keep_shards=True)
    shutil.copy(folder.parent / "other.npz.parts" / "shard-000001.npz", folder / "shard-000001.npz")
    shutil.rmtree(folder.parent / "other.npz.parts")


def of_another_size(folder: Path) -> None:
    run(folder.parent, "other.npz", shard_size=2 * SIZE, keep_shards=True)
    shutil.copy(folder.parent / "other.npz.parts" / "shard-000001.npz", folder / "shard-000001.npz")
    shutil.rmtree(folder.parent / "other.npz.parts")


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "of other rows": (copied, f"holds the codes of rows {2 * SIZE} to {3 * SIZE - 1}, not of {SIZE} to {2 * SIZE - 1}"),
    "of another job": (of_another_job, "holds codes of another job"),
    "of another size": (
        of_another_size,
        f"holds the codes of rows {2 * SIZE} to {4 * SIZE - 1}, not of {SIZE} to {2 * SIZE - 1}",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("moment", ["before", "while merging"])
def test_shard_in_the_place_of_another(folder: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, moment: str) -> None:
    exchange, says = WRONG[wrong]
    run(folder.parent, keep_shards=True)
    if moment == "before":
        exchange(folder)
        with pytest.raises(EncodeError, match=says):
            load(folder.parent / "codes.npz")
        with pytest.raises(EncodeError, match=says):
            list(shards(folder))
    else:
        before(monkeypatch, running, "check", lambda: exchange(folder))
    message = refused(folder.parent)
    assert message.startswith(f"{folder / 'shard-000001.npz'} {says}: move the file away, and run the same command")
    assert not (folder.parent / "codes.npz").exists()
    (folder / "shard-000001.npz").unlink()
    assert run(folder.parent).solved == SIZE
    assert_right(folder.parent)


@pytest.mark.parametrize("name", ["codes.npz.partial", "codes.npz.0123456789abcdef.partial", "merged.npz.partial"])
def test_files_beside_the_output_stay(folder: Path, name: str) -> None:
    (folder.parent / name).write_bytes(PRECIOUS)
    run(folder.parent)
    assert (folder.parent / name).read_bytes() == PRECIOUS


def test_what_a_killed_merge_has_left_goes_with_its_job(folder: Path) -> None:
    """Its name is in the job file, and --overwrite discards that job."""
    run(folder.parent, keep_shards=True, tol=1e-3)
    manifest = read_manifest(folder)
    assert manifest is not None
    left = partial_of(folder.parent / "codes.npz", manifest.job)
    left.write_bytes(b"half")
    run(folder.parent, overwrite=True)
    assert not left.exists()
    assert sorted(os.listdir(folder.parent)) == ["D.npy", "L.npy", "W.npy", "Y.npy", "codes.npz"]
