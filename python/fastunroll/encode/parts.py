"""The folder of an unfinished job: a file a shard, and what job they belong to."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import EncodeError
from .locks import IN_USE, MERGE, POLL, SETUP, Locks, of_shard
from .manifest import MANIFEST, Manifest, difference, read_manifest, shard_path
from .shard_file import is_complete, is_ours, label_if_any, misplaced

LOCK = "lock"


def target_of(output: Path) -> Path:
    """The file that is written: the one that a link leads to; other paths are as they are, which errors then name."""
    try:
        target = Path(os.path.realpath(output)) if output.is_symlink() else output
        leads_to_itself = target.is_symlink()
    except OSError as error:
        raise EncodeError(f"cannot use the output {output}: {error.strerror or error}") from None
    if leads_to_itself:
        raise EncodeError(f"the output {output} is a link that leads to itself: remove the link")
    return target


def folder_of(output: Path) -> Path:
    """Where the shards of an output are."""
    target = target_of(output)
    return target.with_name(target.name + ".parts")


def partial_of(output: Path, job: str) -> Path:
    """The file that is written before it gets the name of the output, beside which it lies.

    The folder of shards may be a link to another file system, from which no file can be renamed to the output. The name
    of the job is part of the name, so that no file of the user has it.
    """
    target = target_of(output)
    return target.with_name(f"{target.name}.{job}.partial")


class Parts:
    """The folder, for as long as this process works in it.

    Its locks make it safe to run the same command several times at once: the processes share the shards out.
    """

    def __init__(self, output: Path, locks: Locks, manifest: Manifest) -> None:
        self.output, self.locks, self.manifest = target_of(output), locks, manifest
        self.folder, self.partial = folder_of(output), partial_of(output, manifest.job)
        self.count, self.shards = manifest.count, manifest.shards

    def bounds(self, index: int) -> tuple[int, int]:
        """First and last-but-one sample of a shard."""
        return self.manifest.bounds(index)

    def path(self, index: int) -> Path:
        return shard_path(self.folder, index)

    def done(self) -> list[int]:
        """The shards that are there."""
        names = {entry.name for entry in os.scandir(self.folder)}
        return [i for i in range(self.shards) if self.path(i).name in names]

    def samples_done(self) -> int:
        return sum(stop - start for start, stop in map(self.bounds, self.done()))

    def drop_damaged(self) -> list[Path]:
        """Removes shards that are not whole, as after a copy that failed; this program leaves none.

        Raises:
            EncodeError: a file in the place of a shard is not one, or is another one.
        """
        dropped = []
        for i in self.done():
            if self.locks.take(of_shard(i)):  # if not, another process makes it again
                try:
                    if self._dropped(i):
                        dropped.append(self.path(i))
                finally:
                    self.locks.release(of_shard(i))
        return dropped

    def _dropped(self, index: int) -> bool:
        """Whether a shard was damaged, and is removed now."""
        path, (start, stop) = self.path(index), self.bounds(index)
        if not path.exists():  # another process has removed it
            return False
        label = label_if_any(path)
        reason = "" if label is None and is_ours(path) else misplaced(path, label, self.manifest, index)
        if reason:
            raise EncodeError(reason)
        if label is not None and is_complete(path, stop - start):
            return False
        path.unlink()
        return True

    def drop(self, index: int) -> None:
        """Removes a shard, so that it is made anew."""
        with self.locks.holding(of_shard(index)):
            self.path(index).unlink(missing_ok=True)

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
                    _remove(self.folder, self.manifest)
        finally:
            self.locks.close()


def _remove(folder: Path, manifest: Manifest) -> None:
    """What this program has written, the list of what it is last, so that a kill on the way leaves a known folder."""
    _clear(folder, manifest)
    for name in (MANIFEST, LOCK):
        (folder / name).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError as error:
        # a process that starts has just entered it, or there are files of the user in it; or it is a link, which stays
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise


def _clear(folder: Path, manifest: Manifest) -> None:
    """Removes the shards of a job, and nothing else: its names and the beginnings of the files say which they are."""
    for entry in folder.iterdir():
        if manifest.names(entry.name) and is_ours(entry):
            entry.unlink()


def open_parts(output: Path, wanted: Manifest, shard_size: int | None, overwrite: bool) -> Parts:
    """The folder of a job, made or found; the job is the same, or is replaced with ``overwrite``.

    Args:
        output: of the job.
        wanted: what the job file says if it is written now.
        shard_size: the one that is asked for; without it any will do that is found.
        overwrite: discard the work of another job.

    Raises:
        EncodeError: the folder is of another job, is not of this program, or cannot be made.
    """
    folder = folder_of(output)
    try:
        with suppress(FileNotFoundError):
            os.lstat(partial_of(output, wanted.job))  # whose name may be too long, which must not show at the end only
        _refuse_without_lock(folder)
        locks = _entered(folder)
    except OSError as error:
        raise EncodeError(f"cannot write to {folder}: {error.strerror or error}") from None
    try:
        found = read_manifest(folder)
        if found is None:
            _refuse_without_job(folder)
        reason = "" if found is None else difference(found.settings, wanted.settings)
        if found is not None and not reason and shard_size not in (None, found.shard_size):
            reason = f"shard size was {found.shard_size} and is now {shard_size}"
        if reason and not overwrite:
            raise EncodeError(
                f"{folder} holds unfinished work of another job: {reason}; repeat the command of that job to "
                "finish it, or give --overwrite to discard it, or another --output"
            )
        if found is None or reason:
            if not locks.take(IN_USE):
                raise EncodeError(f"another process is at work in {folder}: wait for it, or give another --output")
            if found is not None:
                _clear(folder, found)
                partial_of(output, found.job).unlink(missing_ok=True)
            wanted.write(folder)
            found = wanted
        locks.take(IN_USE, shared=True)
    except OSError as error:
        locks.close()
        raise EncodeError(f"cannot write to {folder}: {error.strerror or error}") from None
    except BaseException:
        locks.close()
        raise
    locks.release(SETUP)
    return Parts(output, locks, found)


def _refuse_without_lock(folder: Path) -> None:
    """Refuses a folder that this program has not made: one with files, but without a lock, which is made first."""
    if not _has_lock(folder):
        names = _names(folder)
        if names and not _has_lock(folder):  # nor has another process just made it
            raise _not_ours(folder, names[0])


def _refuse_without_job(folder: Path) -> None:
    """Refuses a folder without a job file, unless a process was killed before it had written one."""
    for name in _names(folder):
        if name not in (LOCK, MANIFEST + ".partial"):
            raise _not_ours(folder, name)


def _has_lock(folder: Path) -> bool:
    """Whether there is a file of locks, which is empty."""
    try:
        status = os.lstat(folder / LOCK)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):  # not made yet, or removed by a process that has just finished
        return []


def _not_ours(folder: Path, name: str) -> EncodeError:
    return EncodeError(
        f"{folder} is needed for unfinished work, but it holds other files, such as {name}: move them, or give "
        "another --output"
    )


def _entered(folder: Path) -> Locks:
    """The folder's locks, with SETUP taken."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            if os.path.lexists(folder) and not folder.is_dir():
                raise EncodeError(
                    f"{folder} is needed as a folder for unfinished work, but it is a file, or a link to nothing: move "
                    "it, or give another --output"
                ) from None
            continue  # it was removed, and perhaps made again, since
        try:
            locks = Locks(folder / LOCK)
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
