"""One shard: its samples solved block by block, and written as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import storage
from .job import Job
from .merge import index_dtype
from .parts import Parts
from .storage import Member


def make(job: Job, parts: Parts, index: int, progress: Callable[[int], Any]) -> None:
    """Solves the samples of a shard and writes their codes as a CSR matrix, with what is kept of each beside it.

    ``progress`` is called with the number of samples after each block of them.

    Raises:
        WriteError: the disk is full, or fails.
    """
    start, stop = parts.bounds(index)
    found = []
    for begin in range(start, stop, job.block):
        end = min(begin + job.block, stop)
        found.append(_block(job, begin, end))
        progress(end - begin)
    whole = {name: np.concatenate([block[name] for block in found]) for name in found[0]}
    dtype = index_dtype(len(whole["data"]), job.n)
    indptr = np.zeros(stop - start + 1, dtype)
    np.cumsum(whole.pop("counts"), out=indptr[1:])
    arrays = whole | {
        "indices": whole["indices"].astype(dtype), "indptr": indptr, "format": np.array(b"csr"),
        "shape": np.array([stop - start, job.n], np.int64),
    }  # fmt: skip
    path = parts.path(index)
    storage.write(path, [Member.of(*item) for item in arrays.items()], path.with_name(path.name + ".partial"))


def _block(job: Job, begin: int, end: int) -> dict[str, NDArray[Any]]:
    """Of some samples: nonzeros, their columns, and how many there are in each row; rows with NaN have none."""
    block = job.solve(begin, end)
    bad = ~np.isfinite(block.x).all(axis=1)
    occupied = (block.x != 0) & ~bad[:, None]
    gap = np.where(bad, np.nan, block.gap).astype(job.dtype)
    return {
        "data": block.x[occupied],
        "indices": np.nonzero(occupied)[1].astype(np.int32),
        "counts": occupied.sum(axis=1),
        "gap": gap,
        "iterations": block.iterations.astype(np.int64),
        "converged": gap <= job.options.tol,
        "lam": block.lam,
    }
