"""Reads a ``.npy`` file a few rows at a time."""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._checks import shape_text, shown
from .errors import EncodeError
from .storage import open_regular

SAMPLED_ROWS = 64
_SCAN = 1 << 22  # values that a scan of the file reads at a time


class ArrayFile:
    """The array in a ``.npy`` file. It reads the header at once, and rows on request.

    The file is not mapped into memory. If the file is truncated or the disk fails during the run, a read raises an
    exception, but a memory mapping kills the process.

    Args:
        path: the path of the file.
        role: the role of the file in messages, such as "input".

    Raises:
        EncodeError: the file is missing, is not a ``.npy`` file, has another length than its header says, or does not
            hold real numbers.
    """

    def __init__(self, path: Path, role: str) -> None:
        self.path, self.role = path, role
        self._content: str | None = None
        self._absolute = os.path.abspath(path)  # another thread may change the working folder
        try:
            self._file: io.FileIO = open_regular(path, buffering=0)
        except OSError as error:
            raise EncodeError(f"cannot read the {role} {path}: {error.strerror or error}") from None
        status = os.fstat(self._file.fileno())
        self._size, self.modified = status.st_size, status.st_mtime_ns
        try:
            self._header()
        except BaseException:
            self.close()
            raise

    def _header(self) -> None:
        start = self._file.read(4)
        if start.startswith(b"PK"):
            raise EncodeError(
                f"the {self.role} {self.path} is an archive (.npz, or of torch.save): take the array out of it and "
                "write it with numpy.save"
            )
        self._file.seek(0)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        try:
            version = np.lib.format.read_magic(self._file)
            shape, self.fortran, self.dtype = read[version](self._file)  # only structured dtypes need version 3
        except OSError as error:
            raise EncodeError(f"cannot read the {self.role} {self.path}: {error.strerror or error}") from None
        except Exception:  # a damaged header may make NumPy raise any kind of exception
            raise EncodeError(
                f"the {self.role} {self.path} must be a .npy file, but its header is missing, truncated or damaged: "
                "write it with numpy.save"
            ) from None
        self.shape: tuple[int, ...] = tuple(shape)
        self._begin = self._file.tell()
        if self.dtype.kind not in "fiub":
            fix = "encode real and imaginary parts" if self.dtype.kind == "c" else "convert it with .astype()"
            raise EncodeError(
                f"the {self.role} {self.path} must hold real numbers, but its dtype is {shown(self.dtype)}: {fix}"
            )
        if min(self.shape, default=0) < 0 or max(self.shape, default=0) >= 2**63:
            raise EncodeError(
                f"the {self.role} {self.path} has a damaged header, because no array can have its shape: write the "
                "array with numpy.save"
            )
        expected = self._begin + math.prod(self.shape) * self.dtype.itemsize
        sizes = f"its header promises {shape_text(self.shape)} {self.dtype}, {expected} bytes, but it has {self._size}"
        if self._size < expected:
            raise EncodeError(f"the {self.role} {self.path} is truncated: {sizes}; write it again")
        if self._size > expected:
            raise EncodeError(
                f"the {self.role} {self.path} is longer than it should be: {sizes}; write one array with numpy.save"
            )

    def check_unchanged(self) -> None:
        """Checks that the file has not been written to or replaced since it was opened.

        Some file systems do not update the modification time if a program changes the file through a memory mapping.
        :meth:`digest` detects such a change.
        """
        now = os.fstat(self._file.fileno())
        try:
            same = os.path.samestat(now, os.stat(self._absolute))
        except OSError:
            same = False
        if not same:
            raise self.changed("it was removed, or replaced by another file")
        if now.st_size != self._size:
            raise self.changed(f"its size was {self._size} bytes and is now {now.st_size}")
        if now.st_mtime_ns != self.modified:
            raise self.changed("it was written to")

    def changed(self, how: str) -> EncodeError:
        """Returns the exception for a file that has changed since the start of the run."""
        return EncodeError(
            f"the {self.role} {self.path} changed during the run: {how}; run again with --overwrite once nothing "
            "writes to it"
        )

    def _read(self, begin: int, count: int) -> NDArray[Any]:
        """Returns ``count`` consecutive values of the file."""
        out = np.empty(count * self.dtype.itemsize, np.uint8)
        try:
            self._file.seek(self._begin + begin * self.dtype.itemsize)
            filled = 0
            while filled < out.nbytes:
                got = self._file.readinto(out.data[filled:])
                if not got:
                    raise self.changed("it was cut short")
                filled += got
        except OSError as error:
            raise EncodeError(f"cannot read the {self.role} {self.path}: {error.strerror or error}") from None
        return out.view(self.dtype)

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Returns rows of a vector or matrix, in the dtype of the file."""
        count = stop - start
        if len(self.shape) == 1:
            return self._read(start, count)
        columns = self.shape[1]
        if not self.fortran:
            return self._read(start * columns, count * columns).reshape(count, columns)
        out = np.empty((count, columns), self.dtype)
        for j in range(columns):
            out[:, j] = self._read(j * self.shape[0] + start, count)
        return out

    def values(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Returns the whole array, which must fit in memory. :meth:`check_content` checks later that it is the same."""
        try:
            raw = self.rows(0, self.shape[0])
            self._content = self._digest([raw])
            return converted(raw, dtype)
        except MemoryError:
            raise EncodeError(
                f"the {self.role} {self.path}, {shape_text(self.shape)} {self.dtype}, does not fit in memory: give a "
                "smaller one"
            ) from None

    def digest(self) -> str:
        """Returns a checksum of all values."""
        step = max(1, _SCAN // max(1, math.prod(self.shape[1:])))
        starts = range(0, self.shape[0], step)
        return self._digest(self.rows(start, min(start + step, self.shape[0])) for start in starts)

    def _digest(self, pieces: Iterable[NDArray[Any]]) -> str:
        checksum = hashlib.sha256(repr(self.shape).encode())
        for rows in pieces:
            checksum.update(rows.data)
        return checksum.hexdigest()

    def check_content(self) -> None:
        """Reads the file again, if :meth:`values` has read it, and compares the checksums."""
        if self._content is not None and self.digest() != self._content:
            raise self.changed("its numbers are no longer the numbers that were read")

    def sampled_digest(self) -> str:
        """Returns a checksum of a few rows from the first to the last, since a large file takes long to read twice."""
        checksum = hashlib.sha256()
        for row in sorted({int(r) for r in np.linspace(0, self.shape[0] - 1, SAMPLED_ROWS)} if self.shape[0] else ()):
            checksum.update(self.rows(row, row + 1).tobytes())
        return checksum.hexdigest()

    def first_unusable(self, dtype: np.dtype[Any]) -> tuple[int, float] | None:
        """Returns the index and value of the first number of a vector that is not usable in this dtype, or None."""
        for start in range(0, self.shape[0], _SCAN):
            values = converted(self.rows(start, min(start + _SCAN, self.shape[0])), dtype)
            bad = ~usable(values)
            if bad.any():
                return start + int(bad.argmax()), float(values[bad.argmax()])
        return None

    def close(self) -> None:
        self._file.close()


def usable(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns a mask of the values that can be λ or weights: finite and positive normal numbers of their dtype.

    Subnormal numbers have too few digits.
    """
    return np.isfinite(values) & (values >= np.finfo(values.dtype).tiny)


def usable_text(dtype: np.dtype[Any]) -> str:
    """Returns the condition of :func:`usable` in words."""
    return f"finite and > 0 in {dtype}, at least {np.finfo(dtype).tiny:.2g}"


def converted(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Returns a contiguous array of the dtype. Values beyond its range become infinite, which a later check reports."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=dtype)
