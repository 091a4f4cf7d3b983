"""The file of one shard: what it says of itself, and how its codes are read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import storage
from .errors import DamagedError
from .manifest import VERSION, Manifest, is_size
from .storage import Member

PER_SAMPLE = ("gap", "iterations", "converged", "lam")
_NAMES = ("data", "indices", "indptr", "shape", *PER_SAMPLE)
_KINDS = {"data": "f", "indices": "i", "indptr": "i", "gap": "f", "iterations": "i", "converged": "b", "lam": "f"}
_LABEL = "fastunroll"  # the first array in the file, so that what is left of a file that was cut short has it too


@dataclass(frozen=True)
class Label:
    """What a shard says of itself: the job, its first and last-but-one sample, and a checksum of what was solved."""

    job: str
    first: int
    stop: int
    content: str

    def member(self) -> Member:
        """The label as the first array of the file."""
        return Member.of(_LABEL, np.array(json.dumps({"version": VERSION, **self.__dict__}).encode()))


def read_label(path: Path) -> Label:
    """The label of a shard.

    Raises:
        DamagedError: it has none, or the file is damaged.
    """
    found = storage.parsed(path, storage.read(path, [_LABEL])[0].tobytes())
    values: list[Any] = [found.get(name) for name in Label.__dataclass_fields__] if isinstance(found, dict) else []
    if [type(value) for value in values] != [str, int, int, str] or not all(map(is_size, values[1:3])):
        raise storage.damaged(path)
    return Label(**dict(zip(Label.__dataclass_fields__, values, strict=True)))


def misplaced(path: Path, label: Label | None, manifest: Manifest, index: int) -> str:
    """Why a file is not this shard of this job, in a sentence; empty if it is."""
    first, stop = manifest.bounds(index)
    if label is None:
        held = "is not a shard that fastunroll encode has written"
    elif label.job != manifest.job:
        held = "holds codes of another job"
    elif (label.first, label.stop) != (first, stop):
        held = f"holds the codes of rows {label.first} to {label.stop - 1}, not of {first} to {stop - 1}"
    else:
        return ""
    return f"{path} {held}: move the file away, and the same command makes the right one"


def is_ours(path: Path) -> bool:
    """Whether a file begins as a shard does, as far as it goes: it may have been cut short, or be empty."""
    try:
        with storage.open_regular(path) as file:
            head = file.read(30 + len(_LABEL))  # of an archive: a header of 30 bytes, then the name of its first file
    except OSError:  # what cannot be read is nobody's to remove
        return False
    return b"PK\x03\x04".startswith(head[:4]) and _LABEL.encode().startswith(head[30:])


def read_codes(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a CSR matrix and what is kept of each sample, if they fit together.

    Raises:
        DamagedError: they do not, or the file is damaged.
        EncodeError: the file is missing, or cannot be read.
    """
    found = dict(zip(_NAMES, storage.read(path, _NAMES), strict=True))
    if not _fit(found):
        raise storage.damaged(path)
    return found


def _fit(found: dict[str, NDArray[Any]]) -> bool:
    shape, indices, indptr = found["shape"], found["indices"], found["indptr"]
    if shape.shape != (2,) or shape.dtype.kind != "i" or shape.min() < 0:
        return False
    if any(found[name].dtype.kind != kind or found[name].ndim != 1 for name, kind in _KINDS.items()):
        return False
    rows, columns = shape.tolist()
    lengths = {"data": len(indices), "indptr": rows + 1, **dict.fromkeys(PER_SAMPLE, rows)}
    if any(len(found[name]) != length for name, length in lengths.items()):
        return False
    rising = indptr[0] == 0 and indptr[-1] == len(indices) and bool((indptr[1:] >= indptr[:-1]).all())
    return rising and (not len(indices) or bool(indices.min() >= 0 and indices.max() < columns))


def label_if_any(path: Path) -> Label | None:
    """The label of a shard; None if the file has none, or is damaged.

    Raises:
        EncodeError: the file is missing, or cannot be read.
    """
    try:
        return read_label(path)
    except DamagedError:
        return None


def is_complete(path: Path, samples: int) -> bool:
    """Whether a file has all arrays of a shard, of the right shapes. The arrays themselves are not read.

    Raises:
        EncodeError: the file is missing, or cannot be read.
    """
    sizes = storage.sizes(path)
    if sizes is None or "data" not in sizes:
        return False
    lengths = {"indptr": (samples + 1,), "indices": sizes["data"], **dict.fromkeys(PER_SAMPLE, (samples,))}
    return all(sizes.get(name) == length for name, length in lengths.items())
