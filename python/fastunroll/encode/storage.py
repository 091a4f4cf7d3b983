"""``.npz`` files that are either whole or not there, written and read a piece at a time."""

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

from .errors import DamagedError, EncodeError

# zipfile seeks to a place before the start of a file that was cut short; None is what it raises itself.
_OF_DAMAGE = (None, errno.EINVAL)


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


def write(path: Path, members: Iterable[Member], partial: Path) -> None:
    """Writes ``path`` by way of ``partial``: the name appears when all of the file is on the disk.

    Equal members make equal files, to the last byte: there is no date in them. An error that the iterator of members
    raises, after the last one too, leaves no file.

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


def open_regular(path: Path, buffering: int = -1) -> Any:
    """A file to read, as ``open`` gives it. To open a pipe would wait for a writer, perhaps for ever.

    Raises:
        OSError: there is no such file, or it is a folder, a pipe or a device.
    """
    file = open(path, "rb", buffering=buffering, opener=_opened_at_once)  # noqa: SIM115  # the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.ENOTSUP, "it is a pipe or a device, not a file")
    return file


def _opened_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has neither the flag nor such pipes


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """An open file, whose reader may meet any content."""
    try:
        with open_regular(path) as file:
            try:
                yield file
            except (EncodeError, OSError):
                raise
            except Exception as error:  # numpy and zipfile raise many kinds; no list of them is complete
                raise damaged(path) from error
    except OSError as error:
        if error.errno in _OF_DAMAGE:
            raise damaged(path) from None
        raise EncodeError(f"cannot read {path}: {error.strerror or error}") from None


def damaged(path: Path) -> DamagedError:
    """The error for a file whose content is wrong."""
    return DamagedError(
        f"{path} is damaged, or fastunroll encode did not write it: if it did, remove the file and run the same command"
    )


def read(path: Path, names: Sequence[str]) -> list[NDArray[Any]]:
    """Some of the arrays in a file; their checksums are verified.

    Raises:
        DamagedError: the file is damaged, or something else.
        EncodeError: the file is missing, or cannot be read.
    """
    with _reading(path) as file, np.load(file, allow_pickle=False) as arrays:
        return [arrays[name] for name in names]


def read_bytes(path: Path) -> bytes:
    """The content of a small file.

    Raises:
        EncodeError: the file is missing, or cannot be read.
    """
    with _reading(path) as file:
        content: bytes = file.read()
        return content


def parsed(path: Path, text: bytes) -> Any:
    """What JSON text says that a file holds.

    Raises:
        DamagedError: it is no JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise damaged(path) from None


def sizes(path: Path) -> dict[str, tuple[int, ...]] | None:
    """The shapes of the arrays in a file, without reading them; None if the file is not whole.

    A file that was cut short has no table of contents, which is at its end.

    Raises:
        EncodeError: the file is missing, or cannot be read.
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
