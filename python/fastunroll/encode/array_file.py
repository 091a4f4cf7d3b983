"""A ``.npy`` file that is read a few rows at a time."""

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
_SCAN = 1 << 22  # values of a vector that are looked at together


class ArrayFile:
    """The array in a ``.npy`` file: its shape and dtype from the header, its rows when they are asked for.

    It is read, not mapped into memory: of a file that is cut short, or a disk that fails, while work goes on, a read
    gives an error, a mapping kills the process.

    Args:
        path: of the file.
        role: what it is to the user, for errors: "input".

    Raises:
        EncodeError: it is missing, no ``.npy`` file, not as long as its header says, or does not hold real numbers.
    """

    def __init__(self, path: Path, role: str) -> None:
        self.path, self.role = path, role
        self._content: str | None = None
        self._absolute = os.path.abspath(path)  # a thread may change the working folder
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
            shape, self.fortran, self.dtype = read[version](self._file)  # version 3 is for names of fields
        except OSError as error:
            raise EncodeError(f"cannot read the {self.role} {self.path}: {error.strerror or error}") from None
        except Exception:  # numpy raises many kinds, as a header may have any content; no list of them is complete
            raise EncodeError(
                f"the {self.role} {self.path} is no .npy file, or its header is cut short or damaged: write it with "
                "numpy.save"
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
                f"the {self.role} {self.path} has a damaged header, as no array has the shape that it promises: write "
                "it with numpy.save"
            )
        expected = self._begin + math.prod(self.shape) * self.dtype.itemsize
        what = f"its header promises {shape_text(self.shape)} {self.dtype}, {expected} bytes, but it has {self._size}"
        if self._size < expected:
            raise EncodeError(f"the {self.role} {self.path} is truncated: {what}; write it again")
        if self._size > expected:
            raise EncodeError(
                f"the {self.role} {self.path} is longer than it should be: {what}; write one array with numpy.save"
            )

    def check_unchanged(self) -> None:
        """Looks whether the file has been written to, or has been replaced, since it was opened.

        A program that has mapped the file into its memory can change it unseen, where the file system does not note
        the time of such a change; :meth:`digest` sees that.

        Raises:
            EncodeError: it has.
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
        """The error for a file that is not what it was at the start."""
        return EncodeError(
            f"the {self.role} {self.path} changed during the run: {how}; run again with --overwrite once nothing "
            "writes to it"
        )

    def _read(self, begin: int, count: int) -> NDArray[Any]:
        """``count`` values that lie in a row in the file."""
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
        """Rows of a vector or matrix, in the dtype of the file."""
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
        """All of it, which must fit in memory; :meth:`check_content` compares the file with it."""
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
        """Of the values, all of them."""
        step = max(1, _SCAN // max(1, math.prod(self.shape[1:])))
        starts = range(0, self.shape[0], step)
        return self._digest(self.rows(start, min(start + step, self.shape[0])) for start in starts)

    def _digest(self, pieces: Iterable[NDArray[Any]]) -> str:
        found = hashlib.sha256(repr(self.shape).encode())
        for rows in pieces:
            found.update(rows.data)
        return found.hexdigest()

    def check_content(self) -> None:
        """Reads the file again, if :meth:`values` has read it, and compares.

        Raises:
            EncodeError: it holds other values now.
        """
        if self._content is not None and self.digest() != self._content:
            raise self.changed("it holds other numbers than those that were read")

    def sampled_digest(self) -> str:
        """Of some rows from the first to the last: a cheap look at a file that is too large to be read twice."""
        found = hashlib.sha256()
        for row in sorted({int(r) for r in np.linspace(0, self.shape[0] - 1, SAMPLED_ROWS)} if self.shape[0] else ()):
            found.update(self.rows(row, row + 1).tobytes())
        return found.hexdigest()

    def first_unusable(self, dtype: np.dtype[Any]) -> tuple[int, float] | None:
        """Index and value of the first number in a vector that is not usable once it has this dtype."""
        for start in range(0, self.shape[0], _SCAN):
            values = converted(self.rows(start, min(start + _SCAN, self.shape[0])), dtype)
            bad = ~usable(values)
            if bad.any():
                return start + int(bad.argmax()), float(values[bad.argmax()])
        return None

    def close(self) -> None:
        self._file.close()


def usable(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where they can be λ or weights: too small for normal numbers of their dtype, they would have too few digits."""
    return np.isfinite(values) & (values >= np.finfo(values.dtype).tiny)


def usable_text(dtype: np.dtype[Any]) -> str:
    """The same in words."""
    return f"finite and > 0 in {dtype}, at least {np.finfo(dtype).tiny:.2g}"


def converted(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """In this dtype, contiguous; what is too large for it becomes infinite and is reported as such later."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=dtype)
