"""The folder of an unfinished job, with one file for each shard, a job file and a lock file."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import DamagedError, EncodeError
from .locks import IN_USE, MERGE, POLL, SETUP, Locks, of_shard
from .manifest import MANIFEST, Manifest, difference, read_manifest, shard_path
from .shard_file import is_complete, is_ours, misplaced, read_label

LOCK = "lock"


def target_of(output: Path) -> Path:
    """Returns the file that is written: the target of ``output`` if it is a link, and ``output`` otherwise.

    Messages name the path as the user gave it, so other paths are not resolved.
    """
    try:
        target = Path(os.path.realpath(output)) if output.is_symlink() else output
        leads_to_itself = target.is_symlink()
    except OSError as error:
        raise EncodeError(f"cannot use the output {output}: {error.strerror or error}") from None
    if leads_to_itself:
        raise EncodeError(f"the output {output} must not be a link that leads to itself: remove the link")
    return target


def folder_of(output: Path) -> Path:
    """Returns the folder of the shards of an output."""
    target = target_of(output)
    return target.with_name(target.name + ".parts")


def partial_of(output: Path, job: str) -> Path:
    """Returns the temporary file that a merge writes and then renames to the output.

    It lies beside the output, because the folder of shards may be a link to another file system, and a rename does not
    work between file systems. Its name contains the name of the job, so it cannot be a file of the user.
    """
    target = target_of(output)
    return target.with_name(f"{target.name}.{job}.partial")


class Parts:
    """The folder of shards, while this process works in it.

    Its locks make it safe to run the same command in several processes at once. They divide the shards among them.
    """

    def __init__(self, output: Path, locks: Locks, manifest: Manifest) -> None:
        self.output, self.locks, self.manifest = target_of(output), locks, manifest
        self.folder, self.partial = folder_of(output), partial_of(output, manifest.job)
        self.count, self.shards = manifest.count, manifest.shards

    def bounds(self, index: int) -> tuple[int, int]:
        """Returns the first sample of a shard and the sample after its last."""
        return self.manifest.bounds(index)

    def path(self, index: int) -> Path:
        return shard_path(self.folder, index)

    def done(self) -> list[int]:
        """Returns the indices of the finished shards."""
        names = {entry.name for entry in os.scandir(self.folder)}
        return [i for i in range(self.shards) if self.path(i).name in names]

    def samples_done(self) -> int:
        return sum(stop - start for start, stop in map(self.bounds, self.done()))

    def drop_damaged(self) -> list[Path]:
        """Removes damaged shards and returns their paths. Only a failed copy of the folder leaves damaged shards.

        Raises:
            EncodeError: the file of a shard is not a shard, or belongs to another job or place.
        """
        dropped = []
        for i in self.done():
            if self.locks.take(of_shard(i)):  # otherwise another process is solving the shard again
                try:
                    if self._drop_if_damaged(i):
                        dropped.append(self.path(i))
                finally:
                    self.locks.release(of_shard(i))
        return dropped

    def _drop_if_damaged(self, index: int) -> bool:
        """Removes a shard if it is damaged, and returns whether it was."""
        path, (start, stop) = self.path(index), self.bounds(index)
        if not path.exists():  # another process has removed it
            return False
        try:
            label = read_label(path)
        except DamagedError:
            label = None
        reason = "" if label is None and is_ours(path) else misplaced(path, label, self.manifest, index)
        if reason:
            raise EncodeError(reason)
        if label is not None and is_complete(path, stop - start):
            return False
        path.unlink()
        return True

    def drop(self, index: int) -> None:
        """Removes a shard, so that it is solved again."""
        with self.locks.holding(of_shard(index)):
            self.path(index).unlink(missing_ok=True)

    @contextmanager
    def claimed(self, index: int) -> Iterator[bool]:
        """Reserves a shard for this process. The value is False if the shard exists or another process solves it."""
        mine = self.locks.take(of_shard(index)) and not self.path(index).exists()
        try:
            yield mine
        finally:
            self.locks.release(of_shard(index))

    @contextmanager
    def merging(self) -> Iterator[None]:
        """Waits until no other process merges, and keeps other processes from merging."""
        with self.locks.holding(MERGE):
            yield

    def close(self, finished: bool) -> None:
        """Leaves the folder. The last process to leave removes it if the output is finished."""
        try:
            with self.locks.holding(SETUP):
                self.locks.release(IN_USE)
                if finished and self.locks.take(IN_USE):
                    _remove(self.folder, self.manifest)
        finally:
            self.locks.close()


def _remove(folder: Path, manifest: Manifest) -> None:
    """Removes the folder, the job file after the shards, so that a kill never leaves shards without a job file."""
    _clear(folder, manifest)
    for name in (MANIFEST, LOCK):
        (folder / name).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError as error:
        # The folder stays if another process has just entered it, if it holds files of the user, or if it is a link.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise


def _clear(folder: Path, manifest: Manifest) -> None:
    """Removes the shards of a job and no other file. Shards are known by their names and their first bytes."""
    for entry in folder.iterdir():
        if manifest.names(entry.name) and is_ours(entry):
            entry.unlink()


def open_parts(output: Path, wanted: Manifest, shard_size: int | None, overwrite: bool) -> Parts:
    """Creates the folder of a job, or opens it if it exists.

    Args:
        output: the output of the job.
        wanted: the content of the job file for a new folder.
        shard_size: the shard size that the user asks for, or None for any size.
        overwrite: whether to discard unfinished work of another job.

    Raises:
        EncodeError: the folder belongs to another job, holds files of the user, or cannot be created.
    """
    folder = folder_of(output)
    try:
        with suppress(FileNotFoundError):
            os.lstat(partial_of(output, wanted.job))  # fails now, and not after all the work, if the name is too long
        _refuse_without_lock(folder)
        locks = _enter(folder)
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
    """Raises EncodeError if a folder has files but no lock file. fastunroll creates the lock file first."""
    if not _has_lock(folder):
        names = _names(folder)
        if names and not _has_lock(folder):  # another process may have created the lock file in the meantime
            raise _not_ours(folder, names[0])


def _refuse_without_job(folder: Path) -> None:
    """Raises EncodeError if a folder without job file holds other files.

    A process that is killed before it has written the job file leaves the lock file and a temporary file only.
    """
    for name in _names(folder):
        if name not in (LOCK, MANIFEST + ".partial"):
            raise _not_ours(folder, name)


def _has_lock(folder: Path) -> bool:
    """Returns whether the folder has a lock file, which is an empty regular file."""
    try:
        status = os.lstat(folder / LOCK)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):  # not created yet, or removed by another process
        return []


def _not_ours(folder: Path, name: str) -> EncodeError:
    return EncodeError(
        f"{folder} is needed for unfinished work, but it holds other files, such as {name}: move them, or give "
        "another --output"
    )


def _enter(folder: Path) -> Locks:
    """Creates the folder if it does not exist, and returns its locks with SETUP taken."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            if os.path.lexists(folder) and not folder.is_dir():
                raise EncodeError(
                    f"{folder} is needed as a folder for unfinished work, but it is a file or a broken link: move it, "
                    "or give another --output"
                ) from None
            continue  # another process has removed it in the meantime
        try:
            locks = Locks(folder / LOCK)
        except FileNotFoundError:  # another process has removed the folder
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
