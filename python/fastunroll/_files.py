"""Reads files that may be damaged or foreign, and writes files that survive a crash.

A function that reads a file raises an exception with one sentence that names the file. A function that writes a file
leaves either the old file or the new file, whenever the process or the machine stops.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import torch
from torch.torch_version import TorchVersion

# Earlier versions of torch.load run code in spite of weights_only=True (CVE-2025-32434).
_SAFE_LOAD = TorchVersion("2.6")
_REFUSED_CODE = re.compile(r"Unsupported (global|class)|unrecognized function", re.IGNORECASE)


class FileHasCode(ValueError):
    """A file holds objects that only code could make, so it must not be read."""


def first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message that is not empty, or the name of its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except (OSError, ValueError) as error:  # a path with a null character raises ValueError
        raise _cannot("read", path, error) from error


def _cannot(verb: str, path: Path, error: Exception) -> Exception:
    """Returns an exception of the same class, whose message is a sentence."""
    kind = type(error) if isinstance(error, OSError) else ValueError
    why = getattr(error, "strerror", None) or first_line(error)
    return kind(f"{str(path)!r} cannot be {verb} ({why}): give the path of another file")


def read_json(path: Path, wrong: str, fix: str) -> Any:
    """Returns the content of a JSON file.

    Args:
        path: the path of the file.
        wrong: the part of the message that says what is wrong with the file, such as "is not a file of timings".
        fix: the part of the message that says what to do.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not JSON.
    """
    with _opened(path) as file:
        try:
            return json.loads(file.read().decode("utf-8"))
        except RecursionError:
            raise ValueError(f"{path} {wrong} (its lists are nested too deeply): {fix}") from None
        except ValueError as error:
            raise ValueError(f"{path} {wrong} ({first_line(error)}): {fix}") from None


def read_tensors(path: Path, wrong: str, fix: str) -> Any:
    """Reads a file that ``torch.save`` has written, and returns its tensors on the CPU. It runs no code of the file.

    The file may hold tensors, numbers, strings, lists and dictionaries.

    Args:
        path: the path of the file.
        wrong: the part of the message that says what is wrong with the file, such as "is not a state dict".
        fix: the part of the message that says what to do.

    Raises:
        OSError: the file cannot be read.
        RuntimeError: this version of PyTorch would run code that the file may hold.
        FileHasCode: the file holds objects that only code could make.
        ValueError: ``torch.save`` did not write the file, or the file is damaged.
    """
    if TorchVersion(torch.__version__) < _SAFE_LOAD:
        raise RuntimeError(
            f"{path} cannot be read safely, because torch {torch.__version__} runs code that a file may hold "
            "(CVE-2025-32434): install torch 2.6 or later"
        )
    with _opened(path) as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # a foreign file may make torch.load raise any exception
            if _REFUSED_CODE.search(str(error)):
                raise FileHasCode(f"{path} holds more than tensors: {fix}") from None
            raise ValueError(f"{path} {wrong} (torch.load cannot read it): {fix}") from None


def read_arrays(path: Path, wrong: str, fix: str) -> dict[str, Any]:
    """Returns the arrays of an ``.npz`` file by name. It refuses arrays of Python objects.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not an archive of arrays of numbers.
    """
    with _opened(path) as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except Exception as error:  # a foreign file may make NumPy raise any exception
            raise ValueError(f"{path} {wrong} ({first_line(error)}): {fix}") from None


def write_json(path: Path, content: Any) -> None:
    """Writes plain data as a JSON file, as :func:`write_whole` does."""
    text = json.dumps(content, indent=1) + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file such that a crash at any moment leaves either the old file or the new file.

    Args:
        path: the path of the file, in a folder that exists.
        write: a function that writes the content to an open file.

    Raises:
        OSError, ValueError: the file cannot be written. The old file is still there.
    """
    try:
        with whole_file(path, path.with_name(path.name + ".partial")) as file:
            write(file)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError if the disk fails
        raise _cannot("written", path, error) from error


@contextmanager
def whole_file(path: Path, partial: Path) -> Iterator[BinaryIO]:
    """Opens the temporary file ``partial``, and renames it to ``path`` when all its content is on the disk.

    After an exception there is no temporary file, and ``path`` is as it was.
    """
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):  # the exception that made the write fail tells more
            partial.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Writes the names of a folder to the disk, so that they survive a power loss, where the system supports that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
