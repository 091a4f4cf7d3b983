"""One file out of the shards, without holding more than one of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from . import storage
from .parts import MERGED, PER_SAMPLE, VERSION, Parts
from .storage import Member
from .summary import Summary, of_stored

INT32_MAX = 2**31 - 1
PASSES = 3 + len(PER_SAMPLE)  # over the shards


def index_dtype(nonzeros: int, columns: int) -> np.dtype[Any]:
    """Of both index arrays, as scipy wants them."""
    return np.dtype(np.int32 if max(nonzeros, columns) <= INT32_MAX else np.int64)


def joined_indptr(parts: Iterable[NDArray[Any]], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Of matrices one below the other, made of that of each, in pieces."""
    yield np.zeros(1, dtype)
    before = 0
    for indptr in parts:
        yield indptr[1:].astype(dtype) + dtype.type(before)
        before += int(indptr[-1])


def counted(parts: Parts, summary: Summary) -> None:
    """Adds up what the shards say of their samples."""
    for i in range(parts.shards):
        start, _ = parts.bounds(i)
        indptr, gap = storage.read(parts.path(i), ["indptr", "gap"])
        summary.add(start, int(indptr[-1]), gap)


def merge(
    parts: Parts, output: Path, dtype: np.dtype[Any], settings: dict[str, Any], summary: Summary,
    progress: Callable[[int], Any],
) -> None:  # fmt: skip
    """Writes the output, which ``scipy.sparse.load_npz`` reads as a CSR matrix.

    ``progress`` is called with 1 after each of :data:`PASSES` looks at each shard.

    Raises:
        WriteError: the disk is full, or fails. The shards are as they were.
        EncodeError: a shard is damaged.
    """
    N, n = summary.samples, summary.columns
    index = index_dtype(summary.nonzeros, n)

    def pieces(name: str) -> Iterator[NDArray[Any]]:
        for i in range(parts.shards):
            yield storage.read(parts.path(i), [name])[0]
            progress(1)

    kept = {
        "version": VERSION, "fastunroll": __version__, "settings": settings, "summary": summary.stored()
    }  # fmt: skip
    per_sample = dict(zip(PER_SAMPLE, (dtype, np.dtype(np.int64), np.dtype(np.bool_), dtype), strict=True))
    members = [
        Member("data", (summary.nonzeros,), dtype, pieces("data")),
        Member("indices", (summary.nonzeros,), index, pieces("indices")),
        Member("indptr", (N + 1,), index, joined_indptr(pieces("indptr"), index)),
        Member.of("shape", np.array([N, n], np.int64)),
        Member.of("format", np.array(b"csr")),
        *(Member(name, (N,), kind, pieces(name)) for name, kind in per_sample.items()),
        Member.of("job", np.array(json.dumps(kept).encode())),
    ]
    storage.write(output, members, parts.folder / MERGED)


def finished(output: Path) -> tuple[dict[str, Any], Summary] | None:
    """The settings and the summary of the job that made this file; None if it was not made here.

    Raises:
        EncodeError: it cannot be read.
    """
    sizes = storage.sizes(output)
    if sizes is None or "job" not in sizes:
        return None
    try:
        kept = json.loads(storage.read(output, ["job"])[0].item())
        return kept["settings"], of_stored(output, kept["summary"])
    except (ValueError, KeyError, TypeError):
        return None
