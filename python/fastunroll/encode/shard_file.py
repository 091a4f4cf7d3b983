"""The file of a shard: its label, its codes, and checks of both. Errors are those of ``storage.py``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import storage
from .manifest import VERSION, Manifest, is_size
from .storage import Member

PER_SAMPLE = ("gap", "iterations", "converged", "lam")
_NAMES = ("data", "indices", "indptr", "shape", *PER_SAMPLE)
_KINDS = {"data": "f", "indices": "i", "indptr": "i", "gap": "f", "iterations": "i", "converged": "b", "lam": "f"}
_LABEL = "fastunroll"  # the first array in the file, so that a truncated file has it too


@dataclass(frozen=True)
class Label:
    """The label of a shard.

    Attributes:
        job: the name of the job.
        first: the first sample of the shard.
        stop: the sample after its last.
        content: a checksum of the data that was solved.
    """

    job: str
    first: int
    stop: int
    content: str

    def member(self) -> Member:
        """Returns the label as an array of the file."""
        return Member.of(_LABEL, np.array(json.dumps({"version": VERSION, **self.__dict__}).encode()))


def read_label(path: Path) -> Label:
    """Reads the label of a shard."""
    found = storage.parsed(path, storage.read(path, [_LABEL])[0].tobytes())
    values: list[Any] = [found.get(name) for name in Label.__dataclass_fields__] if isinstance(found, dict) else []
    if [type(value) for value in values] != [str, int, int, str] or not all(map(is_size, values[1:3])):
        raise storage.damaged(path)
    return Label(**dict(zip(Label.__dataclass_fields__, values, strict=True)))


def misplaced(path: Path, label: Label | None, manifest: Manifest, index: int) -> str:
    """Returns a sentence that says why a file is not this shard of this job, or "" if it is."""
    first, stop = manifest.bounds(index)
    if label is None:
        problem = "is not a shard that fastunroll encode has written"
    elif label.job != manifest.job:
        problem = "holds codes of another job"
    elif (label.first, label.stop) != (first, stop):
        problem = f"holds the codes of rows {label.first} to {label.stop - 1}, not of {first} to {stop - 1}"
    else:
        return ""
    return f"{path} {problem}: move the file away, and run the same command to solve the shard again"


def is_ours(path: Path) -> bool:
    """Returns whether a file begins like a shard. A truncated or empty file counts as a shard."""
    try:
        with storage.open_regular(path) as file:
            head = file.read(30 + len(_LABEL))  # a zip file starts with a header of 30 bytes and its first file name
    except OSError:  # a file that cannot be read must not be removed
        return False
    return b"PK\x03\x04".startswith(head[:4]) and _LABEL.encode().startswith(head[30:])


def read_codes(path: Path) -> dict[str, NDArray[Any]]:
    """Reads the arrays of the CSR matrix and of the samples, and checks that they fit together."""
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


def is_complete(path: Path, samples: int) -> bool:
    """Returns whether a file has all arrays of a shard with the right shapes. It does not read the arrays."""
    sizes = storage.sizes(path)
    if sizes is None or "data" not in sizes:
        return False
    lengths = {"indptr": (samples + 1,), "indices": sizes["data"], **dict.fromkeys(PER_SAMPLE, (samples,))}
    return all(sizes.get(name) == length for name, length in lengths.items())
