"""Solves the samples of a shard block by block, and writes its file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import storage
from .job import Job
from .merge import index_dtype
from .parts import Parts
from .shard_file import Label
from .storage import Member


def make(job: Job, parts: Parts, index: int, progress: Callable[[int], Any]) -> None:
    """Solves the samples of a shard and writes their codes as a CSR matrix, with gap, iterations and λ of each sample.

    ``progress`` is called after each block with its number of samples.
    """
    start, stop = parts.bounds(index)
    solved, content = [], hashlib.sha256()
    for count, arrays in job.blocks(start, stop):
        for array in arrays:
            content.update(array.data)
        solved.append(_block(job, arrays))
        progress(count)
    job.check_unchanged()
    whole = {name: np.concatenate([block[name] for block in solved]) for name in solved[0]}
    dtype = index_dtype(len(whole["data"]), job.n)
    indptr = np.zeros(stop - start + 1, dtype)
    np.cumsum(whole.pop("counts"), out=indptr[1:])
    codes = whole | {
        "indices": whole["indices"].astype(dtype), "indptr": indptr, "format": np.array(b"csr"),
        "shape": np.array([stop - start, job.n], np.int64),
    }  # fmt: skip
    path = parts.path(index)
    label = Label(parts.manifest.job, start, stop, content.hexdigest())
    members = [label.member(), *(Member.of(*item) for item in codes.items())]
    storage.write(path, members, path.with_name(path.name + ".partial"))


def _block(job: Job, arrays: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Solves a block and returns its nonzeros, their columns and their number in each row. Rows with NaN have none."""
    block, lam = job.solve(arrays)
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
        "lam": lam,
    }
