"""Writes ``.npz`` files piece by piece such that they are complete or do not exist, and reads them.

A function that writes raises :class:`WriteError` if the disk is full or fails. A function that reads raises
:class:`DamagedError` if the file is damaged or of another program, and :class:`EncodeError` if it is missing or cannot
be read.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .._files import whole_file
from .errors import DamagedError, EncodeError

# The error numbers that mean a damaged file. zipfile seeks to a position before the start of a truncated file (EINVAL),
# and raises exceptions without an error number (None).
_DAMAGE_ERRORS = (None, errno.EINVAL)


class WriteError(OSError):
    """A file could not be written, and does not exist."""


@dataclass(frozen=True)
class Member:
    """An array of the file, given in consecutive pieces."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pieces: Iterable[NDArray[Any]]

    @staticmethod
    def of(name: str, array: NDArray[Any]) -> Member:
        """Returns the member for an array in memory."""
        return Member(name, array.shape, array.dtype, [array])


def write(path: Path, members: Iterable[Member], partial: Path) -> None:
    """Writes the file ``partial`` and renames it to ``path`` when all its content is on the disk.

    Equal members give equal files to the last byte, because the files contain no dates. If the iterator of members
    raises an exception, even after the last member, no file is left.
    """
    with _whole(path, partial) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for member in members:
            _add(archive, member)


def write_text(path: Path, text: str) -> None:
    """Writes a small text file, with the same guarantees as :func:`write`."""
    with _whole(path, path.with_name(path.name + ".partial")) as file:
        file.write(text.encode())


@contextmanager
def _whole(path: Path, partial: Path) -> Iterator[BinaryIO]:
    """:func:`whole_file`, whose errors are a :class:`WriteError`."""
    try:
        with whole_file(path, partial) as file:
            yield file
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), str(path)) from None


def _add(archive: zipfile.ZipFile, member: Member) -> None:
    written = 0
    with archive.open(zipfile.ZipInfo(member.name + ".npy"), "w", force_zip64=True) as stream:
        header = {
            "descr": np.lib.format.dtype_to_descr(member.dtype), "fortran_order": False, "shape": member.shape
        }  # fmt: skip
        np.lib.format.write_array_header_1_0(stream, header)
        for piece in member.pieces:
            values = np.ascontiguousarray(piece, dtype=member.dtype).reshape(-1)
            stream.write(values.view(np.uint8).data)
            written += values.size
    if written != int(np.prod(member.shape, dtype=object)):
        raise EncodeError(f"internal error: {written} values of {member.name}, expected {member.shape}")


def open_regular(path: Path, buffering: int = -1) -> Any:
    """Opens a regular file for reading. A plain ``open`` of a pipe would wait for a writer without end.

    Raises:
        OSError: the file does not exist, or it is a folder, a pipe or a device.
    """
    file = open(path, "rb", buffering=buffering, opener=_open_without_waiting)  # noqa: SIM115  # the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.ENOTSUP, "it is a pipe or a device, not a file")
    return file


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has neither this flag nor named pipes


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """Opens a file, and turns any exception of its reader into :class:`EncodeError`."""
    try:
        with open_regular(path) as file:
            try:
                yield file
            except (EncodeError, OSError):
                raise
            except Exception as error:  # a damaged file may make NumPy and zipfile raise any kind of exception
                raise damaged(path) from error
    except OSError as error:
        if error.errno in _DAMAGE_ERRORS:
            raise damaged(path) from None
        raise EncodeError(f"cannot read {path}: {error.strerror or error}") from None


def damaged(path: Path) -> DamagedError:
    """Returns the exception for a file whose content is wrong."""
    return DamagedError(
        f"{path} is damaged, or fastunroll encode did not write it: if it did, remove the file and run the same command"
    )


def read(path: Path, names: Sequence[str]) -> list[NDArray[Any]]:
    """Reads arrays of a file by their names, and verifies their checksums."""
    with _reading(path) as file, np.load(file, allow_pickle=False) as arrays:
        return [arrays[name] for name in names]


def read_bytes(path: Path) -> bytes:
    """Reads the content of a small file."""
    with _reading(path) as file:
        content: bytes = file.read()
        return content


def parsed(path: Path, text: bytes) -> Any:
    """Parses the JSON text of a file."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise damaged(path) from None


def sizes(path: Path) -> dict[str, tuple[int, ...]] | None:
    """Returns the shapes of the arrays in a file without reading them, or None if the file is damaged.

    A truncated file has no table of contents, because the table is at the end.
    """
    found = {}
    try:
        with _reading(path) as file, zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as stream:
                    np.lib.format.read_magic(stream)
                    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
                    if stream.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize != entry.file_size:
                        return None
                found[entry.filename.removesuffix(".npy")] = shape
    except DamagedError:
        return None
    return found
