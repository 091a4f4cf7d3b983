"""Files that another program, or a process that was killed, may have written.

A function that reads a file refuses a wrong one in a sentence that names the file. A function that writes a file leaves
the old file or the new one, whenever the process or the machine stops.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch.torch_version import TorchVersion

_SAFE_LOAD = TorchVersion(
    "2.6"
)  # earlier versions of torch.load run code in spite of weights_only=True: CVE-2025-32434
_REFUSED_CODE = re.compile(r"Unsupported (global|class)|unrecognized function", re.IGNORECASE)


class FileHasCode(ValueError):
    """A file asks for code to be run when it is read."""


def first_line(error: BaseException) -> str:
    """The message of an error on one line: its first line with words, or the name of its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except (OSError, ValueError) as error:  # a ValueError is a path that holds a null character
        raise _cannot("read", path, error) from error


def _cannot(verb: str, path: Path, error: Exception) -> Exception:
    """An error of the same kind, whose message is a sentence."""
    kind = type(error) if isinstance(error, OSError) else ValueError
    why = getattr(error, "strerror", None) or first_line(error)
    return kind(f"{str(path)!r} cannot be {verb} ({why}): give the path of a file that can")


def read_json(path: Path, wrong: str, fix: str) -> Any:
    """The content of a JSON file.

    Args:
        path: of the file.
        wrong: what a message says of a wrong file: "is no file of timings".
        fix: what a message says to do about it.

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
    """What ``torch.save`` has written, on the CPU: tensors, numbers, strings, lists and dictionaries. Runs no code.

    Args:
        path: of the file.
        wrong: what a message says of a wrong file: "is not a state dict".
        fix: what a message says to do about it.

    Raises:
        OSError: the file cannot be read.
        RuntimeError: this version of torch runs code that such a file may hold.
        FileHasCode: the file holds other objects, which only code could make.
        ValueError: ``torch.save`` did not write the file, or the file is damaged.
    """
    if TorchVersion(torch.__version__) < _SAFE_LOAD:
        raise RuntimeError(
            f"{path} is not read, since torch {torch.__version__} runs code that such a file may hold "
            "(CVE-2025-32434): install torch 2.6 or later"
        )
    with _opened(path) as file:
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a foreign file makes the reader raise
            if _REFUSED_CODE.search(str(error)):
                raise FileHasCode(f"{path} holds more than tensors: {fix}") from None
            raise ValueError(f"{path} {wrong} (torch.load cannot read it): {fix}") from None


def read_arrays(path: Path, wrong: str, fix: str) -> dict[str, Any]:
    """The arrays of an ``.npz`` file by name; arrays of Python objects are refused.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not an archive of arrays of numbers.
    """
    with _opened(path) as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except Exception as error:  # whatever a foreign file makes the reader raise
            raise ValueError(f"{path} {wrong} ({first_line(error)}): {fix}") from None


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file such that a crash at any moment leaves the old file or the new one.

    The new content goes to a file beside it, ``path`` and ``.partial``, and to the disk, before it takes the name.

    Args:
        path: of the file; its folder exists.
        write: writes the content to an open file.

    Raises:
        OSError, ValueError: the file cannot be written; the old file is still there.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save turns errors of the disk into RuntimeError
        _discard(partial)
        raise _cannot("written", path, error) from error
    except BaseException:
        _discard(partial)
        raise


def _discard(path: Path) -> None:
    with suppress(OSError):  # the error that leads here is the one to report
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Puts the names of a folder on the disk; systems other than POSIX have no such call."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
