"""``.npz`` files that are either whole or not there, written and read a piece at a time."""

from __future__ import annotations

import errno
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .errors import EncodeError

# What numpy and zipfile raise for a file that is something else than it should be.
_DAMAGED = (ValueError, KeyError, EOFError, AttributeError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)


class WriteError(OSError):
    """A file could not be written, and is not there."""


@dataclass(frozen=True)
class Member:
    """One array of the file, in pieces that lie one after the other."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pieces: Iterable[NDArray[Any]]

    @staticmethod
    def of(name: str, array: NDArray[Any]) -> Member:
        """A whole array."""
        return Member(name, array.shape, array.dtype, [array])


def write(path: Path, members: Sequence[Member], partial: Path) -> None:
    """Writes ``path`` by way of ``partial``: the name appears when all of the file is on the disk.

    Equal members make equal files, to the last byte: there is no date in them.

    Raises:
        WriteError: the disk is full, or fails.
    """
    with _whole(path, partial) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for member in members:
            _add(archive, member)


def write_text(path: Path, text: str) -> None:
    """The same for a small file of text."""
    with _whole(path, path.with_name(path.name + ".partial")) as file:
        file.write(text.encode())


@contextmanager
def _whole(path: Path, partial: Path) -> Iterator[BinaryIO]:
    """A file to write: ``path`` once all is written, nothing if that fails."""
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        _discard(partial)
        raise WriteError(error.errno, error.strerror or str(error), str(path)) from None
    except BaseException:
        _discard(partial)
        raise


def _discard(partial: Path) -> None:
    try:
        partial.unlink(missing_ok=True)
    except OSError:  # it has no name that is taken for whole, so that it may as well stay
        return


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


def sync_folder(folder: Path) -> None:
    """Sees to it that new names in a folder outlive a loss of power, where the file system can do that."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def read(path: Path, names: Sequence[str]) -> list[NDArray[Any]]:
    """Some of the arrays in a file; their checksums are verified.

    Raises:
        EncodeError: the file is missing, damaged, or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    except FileNotFoundError:
        raise EncodeError(f"{path} does not exist") from None
    except OSError as error:
        raise EncodeError(f"cannot read {path}: {error.strerror or error}") from None
    except _DAMAGED:
        raise EncodeError(
            f"{path} is damaged, or not what fastunroll encode writes: if it is its, remove it and run the same command"
        ) from None


def sizes(path: Path) -> dict[str, tuple[int, ...]] | None:
    """The shapes of the arrays in a file, without reading them; None if the file is not whole.

    A file that was cut short has no table of contents, which is at its end.
    """
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as stream:
                    np.lib.format.read_magic(stream)
                    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
                    if stream.tell() + int(np.prod(shape, dtype=object)) * dtype.itemsize != entry.file_size:
                        return None
                found[entry.filename.removesuffix(".npy")] = shape
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # EINVAL: a place before the start of a file that was cut short
            raise EncodeError(f"cannot read {path}: {error.strerror}") from None
        return None
    except _DAMAGED:
        return None
    return found
