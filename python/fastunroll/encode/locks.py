"""Locks between processes, on single bytes of one file. The system releases them if their process ends or is killed."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import EncodeError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

POLL = 0.05  # seconds between two attempts

# The bytes of the lock file.
SETUP = 0  # held by the process that creates, takes over or removes the folder
IN_USE = 1  # shared by all processes that work in the folder
MERGE = 2  # held by the process that merges the shards
_FIRST_SHARD = 16


def of_shard(index: int) -> int:
    """Returns the byte of the lock file that stands for a shard."""
    return _FIRST_SHARD + index


class Locks:
    """Record locks on a file.

    Unlike ``flock``, record locks need a single file for any number of shards, and work between nodes over NFS.
    """

    def __init__(self, path: Path) -> None:
        if fcntl is None:
            raise EncodeError("encode needs the file locks of a POSIX system: run it on Linux or macOS")
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def is_current(self) -> bool:
        """Returns whether the path still leads to this file. Another process may have replaced the folder."""
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self.path))
        except FileNotFoundError:
            return False

    def take(self, byte: int, shared: bool = False) -> bool:
        """Takes a lock or changes its kind, and returns True. It returns False if another process holds the lock."""
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.lockf(self._file, kind | fcntl.LOCK_NB, 1, byte)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise EncodeError(
                f"cannot lock {self.path}: {error.strerror}; put the output on a file system with file locks"
            ) from None
        return True

    def release(self, byte: int) -> None:
        """Releases a lock. If that fails, the lock lasts until :meth:`close`, and other processes wait."""
        with suppress(OSError):
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)

    @contextmanager
    def holding(self, byte: int) -> Iterator[None]:
        """Waits until no other process holds the lock, and holds it. Ctrl-C ends the wait."""
        while not self.take(byte):
            time.sleep(POLL)
        try:
            yield
        finally:
            self.release(byte)

    def close(self) -> None:
        """Releases all locks."""
        os.close(self._file)
