"""The folder of an unfinished job: a file a shard, and what job they belong to."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import __version__
from . import storage
from .errors import EncodeError
from .locks import IN_USE, MERGE, POLL, SETUP, Locks, of_shard

MANIFEST = "job.json"
MERGED = "merged.npz.partial"
VERSION = 1  # of the layout
PER_SAMPLE = ("gap", "iterations", "converged", "lam")


def folder_of(output: Path) -> Path:
    """Where the shards of an output are."""
    return output.with_name(output.name + ".parts")


def shard_path(folder: Path, index: int) -> Path:
    """The file of a shard."""
    return folder / f"shard-{index:06d}.npz"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What the folder says of its job; None if it says nothing."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise EncodeError(f"cannot read {folder / MANIFEST}: {error}; remove {folder} to start anew") from None
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise EncodeError(
            f"{folder} is not from this version of fastunroll encode: remove it, or give another --output"
        )
    settings, size = found.get("settings"), found.get("shard_size")
    samples = settings.get("samples") if isinstance(settings, dict) else None
    known = isinstance(samples, list) and samples and all(isinstance(v, int) for v in samples)
    if not (known and isinstance(size, int) and size > 0):
        raise EncodeError(f"{folder / MANIFEST} is damaged: remove {folder} to start anew")
    return found


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs between the settings of two jobs, in words; empty if nothing does."""
    found = []
    for key in [*now, *(k for k in before if k not in now)]:
        a, b = before.get(key), now.get(key)
        if a != b:
            hidden = key.startswith(("content", "time"))
            found.append(f"the {key} differs" if hidden else f"{key} was {_words(a)} and is now {_words(b)}")
    return ", ".join(found)


def _words(value: Any) -> str:
    return "not given" if value is None else str(value)


class Parts:
    """The folder, for as long as this process works in it.

    Its locks make it safe to run the same command several times at once: the processes share the shards out.
    """

    def __init__(self, folder: Path, locks: Locks, shard_size: int, count: int) -> None:
        self.folder, self.locks, self.shard_size, self.count = folder, locks, shard_size, count
        self.shards = -(-count // shard_size)

    def bounds(self, index: int) -> tuple[int, int]:
        """First and last-but-one sample of a shard."""
        return index * self.shard_size, min((index + 1) * self.shard_size, self.count)

    def path(self, index: int) -> Path:
        return shard_path(self.folder, index)

    def done(self) -> list[int]:
        """The shards that are there."""
        names = {entry.name for entry in os.scandir(self.folder)}
        return [i for i in range(self.shards) if self.path(i).name in names]

    def samples_done(self) -> int:
        return sum(stop - start for start, stop in map(self.bounds, self.done()))

    def drop_damaged(self) -> list[Path]:
        """Removes shards that are not whole, as after a copy that failed; this program leaves none."""
        dropped = []
        for i in self.done():
            if not self._is_whole(i):
                with self.locks.holding(of_shard(i)):
                    if not self._is_whole(i):  # nor has another process made it again
                        self.path(i).unlink(missing_ok=True)
                        dropped.append(self.path(i))
        return dropped

    def _is_whole(self, index: int) -> bool:
        start, stop = self.bounds(index)
        sizes = storage.sizes(self.path(index))
        if sizes is None or "data" not in sizes:
            return False
        expected = {
            "indptr": (stop - start + 1,),
            "indices": sizes["data"],
            **dict.fromkeys(PER_SAMPLE, (stop - start,)),
        }
        return all(sizes.get(name) == shape for name, shape in expected.items())

    @contextmanager
    def claimed(self, index: int) -> Iterator[bool]:
        """Whether this process, and no other, may make this shard now."""
        mine = self.locks.take(of_shard(index)) and not self.path(index).exists()
        try:
            yield mine
        finally:
            self.locks.release(of_shard(index))

    @contextmanager
    def merging(self) -> Iterator[None]:
        """Alone in making the output."""
        with self.locks.holding(MERGE):
            yield

    def close(self, finished: bool) -> None:
        """Leaves the folder; the last to leave removes it if the output is finished."""
        try:
            with self.locks.holding(SETUP):
                self.locks.release(IN_USE)
                if finished and self.locks.take(IN_USE):
                    _remove(self.folder)
        finally:
            self.locks.close()


def _remove(folder: Path) -> None:
    """What this program has written, the list of what it is last, so that a kill on the way leaves a known folder."""
    _clear(folder)
    for name in (MANIFEST, "lock"):
        (folder / name).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # a process that starts has just entered it
            raise


def _clear(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name.startswith("shard-") or entry.name.endswith(".partial"):
            entry.unlink()


def open_parts(
    output: Path, settings: dict[str, Any], count: int, shard_size: int | None, default_size: int, overwrite: bool
) -> Parts:
    """The folder of a job, made or found; the job is the same, or is replaced with ``overwrite``.

    Raises:
        EncodeError: the folder is of another job, or cannot be made.
    """
    folder = folder_of(output)
    try:
        others = _entries(folder)
        if others and folder / "lock" not in others:  # which is made first and removed last
            raise EncodeError(
                f"{folder} is needed for unfinished work, but it holds other files, such as {others[0].name}: move "
                "them, or give another --output"
            )
        locks = _entered(folder)
    except OSError as error:
        raise EncodeError(f"cannot write to {folder}: {error.strerror or error}") from None
    try:
        found = read_manifest(folder)
        reason = None if found is None else difference(found["settings"], settings)
        if found is not None and not reason and shard_size not in (None, found["shard_size"]):
            reason = f"shard size was {found['shard_size']} and is now {shard_size}"
        if reason and not overwrite:
            raise EncodeError(
                f"{folder} holds unfinished work of another job: {reason}; repeat the command of that job to "
                "finish it, or give --overwrite to discard it, or another --output"
            )
        if found is None or reason:
            if not locks.take(IN_USE):
                raise EncodeError(f"another process is at work in {folder}: wait for it, or give another --output")
            _clear(folder)
            found = {
                "version": VERSION, "fastunroll": __version__, "settings": settings,
                "shard_size": shard_size or default_size,
            }  # fmt: skip
            storage.write_text(folder / MANIFEST, json.dumps(found, indent=1) + "\n")
        locks.take(IN_USE, shared=True)
    except OSError as error:
        locks.close()
        raise EncodeError(f"cannot write to {folder}: {error.strerror or error}") from None
    except BaseException:
        locks.close()
        raise
    locks.release(SETUP)
    return Parts(folder, locks, found["shard_size"], count)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:  # not made yet, or removed by a process that has just finished
        return []


def _entered(folder: Path) -> Locks:
    """The folder's locks, with SETUP taken."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            if os.path.lexists(folder) and not folder.is_dir():
                raise
            continue  # it was removed, and perhaps made again, since
        try:
            locks = Locks(folder / "lock")
        except FileNotFoundError:  # removed by a process that has just finished
            continue
        try:
            while not locks.take(SETUP):
                time.sleep(POLL)
        except BaseException:
            locks.close()
            raise
        if locks.is_current():
            return locks
        locks.close()
