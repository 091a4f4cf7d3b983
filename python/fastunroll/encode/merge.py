"""Merges the shards into one file, with a single shard in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from . import storage
from .errors import DamagedError, EncodeError
from .job import Job
from .manifest import VERSION, is_settings
from .parts import Parts
from .shard_file import PER_SAMPLE, misplaced, read_codes, read_label
from .storage import Member
from .summary import Summary, of_stored

INT32_MAX = 2**31 - 1
PASSES = 3 + len(PER_SAMPLE)  # the number of times that a merge reads each shard


def index_dtype(nonzeros: int, columns: int) -> np.dtype[Any]:
    """Returns the dtype of both index arrays, which SciPy requires to be equal."""
    return np.dtype(np.int32 if max(nonzeros, columns) <= INT32_MAX else np.int64)


def joined_indptr(parts: Iterable[NDArray[Any]], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Yields the row pointer of stacked CSR matrices in pieces, from the row pointers of the matrices."""
    yield np.zeros(1, dtype)
    before = 0
    for indptr in parts:
        yield indptr[1:].astype(dtype) + dtype.type(before)
        before += int(indptr[-1])


def check(job: Job, parts: Parts, summary: Summary, progress: Callable[[int], Any]) -> None:
    """Checks that each shard holds the codes of its rows, and that the rows have not changed since they were solved.

    It reads all shards and all files of the job again, because a program can change a file through a memory mapping
    without a new modification time. Shards whose rows have changed are removed, so that the next command solves them
    again. ``progress`` is called with 1 after each shard.

    Raises:
        EncodeError: a file has changed since the start, or a shard is damaged or in the place of another shard.
    """
    job.check_unchanged()
    job.check_content()
    changed = []
    for i in range(parts.shards):
        start, stop = parts.bounds(i)
        label, codes = read_label(parts.path(i)), read_codes(parts.path(i))
        reason = misplaced(parts.path(i), label, parts.manifest, i)
        if reason:
            raise EncodeError(reason)
        if codes["shape"].tolist() != [stop - start, job.n] or codes["data"].dtype != job.dtype:
            raise storage.damaged(parts.path(i))
        if label.content != job.content(start, stop):
            changed.append(i)
        summary.add(start, len(codes["data"]), codes["gap"])
        progress(1)
    for i in changed:
        parts.drop(i)
    if changed:
        raise job.changed(parts.bounds(changed[0])[0], parts.bounds(changed[-1])[1] - 1)


def merge(job: Job, parts: Parts, summary: Summary, progress: Callable[[int], Any]) -> None:
    """Writes the output, which ``scipy.sparse.load_npz`` reads as a CSR matrix.

    ``progress`` is called with 1 after each of the :data:`PASSES` reads of each shard.
    """
    N, n = summary.samples, summary.columns
    index = index_dtype(summary.nonzeros, n)

    def pieces(name: str) -> Iterator[NDArray[Any]]:
        for i in range(parts.shards):
            yield storage.read(parts.path(i), [name])[0]
            progress(1)

    kept = {
        "version": VERSION, "fastunroll": __version__, "settings": job.settings, "summary": summary.stored()
    }  # fmt: skip
    per_sample = dict(zip(PER_SAMPLE, (job.dtype, np.dtype(np.int64), np.dtype(np.bool_), job.dtype), strict=True))

    def members() -> Iterator[Member]:
        yield Member("data", (summary.nonzeros,), job.dtype, pieces("data"))
        yield Member("indices", (summary.nonzeros,), index, pieces("indices"))
        yield Member("indptr", (N + 1,), index, joined_indptr(pieces("indptr"), index))
        yield Member.of("shape", np.array([N, n], np.int64))
        yield Member.of("format", np.array(b"csr"))
        for name, kind in per_sample.items():
            yield Member(name, (N,), kind, pieces(name))
        yield Member.of("job", np.array(json.dumps(kept).encode()))
        job.check_unchanged()  # the content is written, but the file does not have its final name yet

    storage.write(parts.output, members(), parts.partial)


def read_finished(output: Path) -> tuple[dict[str, Any], Summary] | None:
    """Returns settings and summary of a finished output, or None if fastunroll encode did not write the file."""
    sizes = storage.sizes(output)
    if sizes is None or "job" not in sizes:
        return None
    try:
        kept = storage.parsed(output, storage.read(output, ["job"])[0].tobytes())
    except DamagedError:
        return None
    if not isinstance(kept, dict):
        return None
    settings, summary = kept.get("settings"), of_stored(output, kept.get("summary"))
    return (settings, summary) if is_settings(settings) and summary is not None else None
