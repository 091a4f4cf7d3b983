"""Runs an encoding from start to end, in one process or in several processes that share the work."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import _checks
from . import shard
from .errors import EncodeError, EncodeInterrupted
from .job import Job, Options, number
from .locks import POLL
from .manifest import Manifest, difference
from .merge import PASSES, check, merge, read_finished
from .parts import Parts, folder_of, open_parts
from .storage import WriteError
from .summary import Summary

SHARD_BYTES = 1 << 26  # largest size of a shard without zeros
MIN_SHARDS = 64  # many shards make a kill lose little work; fewer shards are made if they would become too small
_MIN_SHARD, _MAX_SHARD = 256, 1 << 16  # samples in a shard
_UPDATE_S = 2.0  # seconds between two updates of the progress of other processes

# File locks do not work between threads of a process, so these variables do.
_active: set[str] = set()  # the folders in which a thread of this process works
_active_lock = threading.Lock()


def rank_and_world_size() -> tuple[int, int]:
    """Returns the rank of this process and the number of processes from the environment that torchrun sets."""
    given = {"RANK": os.environ.get("RANK", "0"), "WORLD_SIZE": os.environ.get("WORLD_SIZE", "1")}
    try:
        rank, world = map(int, given.values())
    except ValueError:
        rank, world = -1, 0
    if not 0 <= rank < world:
        words = " and ".join(f"{name}={value}" for name, value in given.items())
        raise EncodeError(f"{words} in the environment do not fit together: unset them, or start with torchrun")
    return rank, world


def default_shard_size(count: int, m: int, n: int, itemsize: int) -> int:
    """Returns the number of samples in a shard, such that a shard fits in little memory and there are many shards."""
    fits = SHARD_BYTES // (n * (itemsize + 4) + m * itemsize)
    return max(1, min(fits, _MAX_SHARD, max(_MIN_SHARD, -(-count // MIN_SHARDS))))


def _finished_summary(output: Path, job: Job, overwrite: bool) -> Summary | None:
    """Returns the summary of the output if it is the finished output of this job, else None.

    Raises:
        EncodeError: the output is a folder, or belongs to another job and ``overwrite`` is False.
    """
    if not output.exists():
        return None
    if output.is_dir():
        raise EncodeError(f"the output {output} is a folder: give the name of a file that ends in .npz")
    known = read_finished(output)
    reason = "it was not written by fastunroll encode" if known is None else difference(known[0], job.settings)
    if known is not None and not reason:
        return known[1]
    if overwrite:
        return None
    raise EncodeError(
        f"{output} exists, from another job: {reason}; give --overwrite to replace it, or another --output"
    )


def _order(shards: int, rank: int, world: int) -> list[int]:
    """Returns the order in which a process solves shards: first its share, then the shares of the others, backwards."""
    mine = range(rank, shards, world)
    return [*mine, *(i for i in reversed(range(shards)) if i % world != rank)]


def _make_all(job: Job, parts: Parts, rank: int, world: int, bar: Any) -> None:
    """Solves shards until all are done. It waits for shards of other processes, and takes over if a process dies."""
    updated = time.monotonic()
    pending = _order(parts.shards, rank, world)
    done = set(parts.done())
    while pending := [i for i in pending if i not in done]:
        idle = True
        for i in pending:
            with parts.claimed(i) as mine:
                if mine:
                    shard.make(job, parts, i, bar.update)
                    idle = False
            if time.monotonic() - updated > _UPDATE_S:
                bar.update(parts.samples_done() - bar.n)
                updated = time.monotonic()
        done = set(parts.done())
        if idle and len(done) < parts.shards:
            time.sleep(POLL)
    bar.update(parts.count - bar.n)


@contextmanager
def _once(output: Path) -> Iterator[None]:
    """Raises EncodeError if another thread of this process writes the same output.

    Folders are compared by their real paths, because a folder may have several names.
    """
    folder = os.path.realpath(folder_of(output))
    with _active_lock:
        if folder in _active:
            raise EncodeError(f"{output} is being written by another thread of this process: wait for it")
        _active.add(folder)
    try:
        yield
    finally:
        _active.discard(folder)


def _path(role: str, value: Path | str) -> Path:
    """Returns a path of the user after a check that a file can have it."""
    try:
        path = Path(value)
        usable = b"\0" not in os.fsencode(path)
    except (TypeError, ValueError):
        usable = False
    if not usable:
        raise EncodeError(f"the {role} must be the path of a file, got {_checks.shown(value)}")
    return path


def _path_or_none(role: str, value: Path | str | None) -> Path | None:
    return None if value is None else _path(role, value)


def encode(
    dictionary: Path | str,
    samples: Path | str,
    output: Path | str,
    *,
    lam: float | None = None,
    relative_lam: float | None = None,
    lam_file: Path | str | None = None,
    tol: float = 1e-6,
    max_iter: int = 10000,
    nonnegative: bool = False,
    ridge: float = 0.0,
    weights: Path | str | None = None,
    dtype: str | None = None,
    transpose_dictionary: bool = False,
    shard_size: int | None = None,
    keep_shards: bool = False,
    overwrite: bool = False,
    progress: bool | None = None,
) -> Summary | None:
    """Solves min ½‖A x − y‖² + λ Σ wⱼ|xⱼ| + ½μ‖x‖² for each row y of a file, and writes the codes to a file.

    SciPy reads the output as a CSR matrix. Neither the samples nor the codes need to fit in memory. Samples are solved
    in shards. A finished shard is a file in the folder ``<output>.parts``, and the output is merged from all shards at
    the end. If a call is stopped at any moment, the same call continues the work. Calls in several processes, such as
    the processes of torchrun, divide the shards among them. If the output is complete, the call does nothing.

    Args:
        dictionary: a ``.npy`` file with A (m, n), float32 or float64. The columns of A are the atoms.
        samples: a ``.npy`` file with y (N, m), one row for each sample. Blocks are converted to the dtype of A. A row
            with NaN or infinity gets no codes and the gap NaN.
        output: the ``.npz`` file to write.
        lam: λ > 0. Exactly one of ``lam``, ``relative_lam`` and ``lam_file`` must be given.
        relative_lam: λ of each sample as a fraction of the smallest λ for which its code is zero.
        lam_file: a ``.npy`` file with λ of each sample (N,).
        tol: the relative duality gap to reach, see :meth:`fastunroll.solvers.Lasso.solve`.
        max_iter: the largest number of steps for a sample.
        nonnegative: whether to require x ≥ 0.
        ridge: μ ≥ 0.
        weights: a ``.npy`` file with w (n,).
        dtype: the dtype of all computations, "float32" or "float64". The default is the dtype of the dictionary.
        transpose_dictionary: whether the file of the dictionary holds Aᵀ (n, m), like ``components_`` of scikit-learn.
        shard_size: the number of samples in a shard.
        keep_shards: whether to keep the shards instead of merging them into one file.
        overwrite: whether to replace the output and unfinished work of *another* job. Unfinished work of the same job
            is always continued.
        progress: whether to show progress bars. By default they are shown if standard error is a terminal.

    Returns:
        A summary. Processes of rank > 0 return None, because the process of rank 0 merges the shards.

    Raises:
        EncodeError: a file or option cannot be used, or the disk is full. The message is one sentence.
        EncodeInterrupted: the user has pressed Ctrl-C. The message says how many samples are done.
    """
    written = _path("output", output)
    if written.suffix != ".npz":
        raise EncodeError(f"the output must end in .npz, got {written}")
    options = Options(
        lam, relative_lam, _path_or_none("lam file", lam_file), tol, max_iter, nonnegative, ridge,
        _path_or_none("file of weights", weights), dtype, transpose_dictionary,
    )  # fmt: skip
    if shard_size is not None:
        shard_size = number(_checks.count, "shard size", shard_size)
    keep_shards = number(_checks.flag, "keep_shards", keep_shards)
    overwrite = number(_checks.flag, "overwrite", overwrite)
    if progress is not None:
        progress = number(_checks.flag, "progress", progress)
    rank, world = rank_and_world_size()
    with _once(written):
        job = Job(_path("dictionary", dictionary), _path("input", samples), options)
        try:
            return _run(job, written, rank, world, shard_size, keep_shards, overwrite, progress)
        finally:
            job.close()


def _run(
    job: Job, output: Path, rank: int, world: int, shard_size: int | None, keep_shards: bool, overwrite: bool,
    progress: bool | None,
) -> Summary | None:  # fmt: skip
    for file in job.files:
        if output.exists() and output.samefile(file.path):
            raise EncodeError(f"the output {output} must not be the {file.role} itself: give another --output")
    known = _finished_summary(output, job, overwrite)
    if known is not None and not folder_of(output).exists():
        return None if rank else known
    wanted = Manifest(job.settings, shard_size or default_shard_size(job.count, job.m, job.n, job.dtype.itemsize))
    parts = open_parts(output, wanted, shard_size, overwrite)
    complete = False
    try:
        known = _finished_summary(output, job, overwrite)  # another process may have finished in the meantime
        if known is None:
            known = _solve_and_merge(job, parts, output, rank, world, keep_shards, progress)
        complete = output.exists() and _finished_summary(output, job, overwrite=True) is not None
        return None if rank else known
    except WriteError as error:
        reason = f"cannot write {error.filename}: {error.strerror}"
        raise EncodeError(_unfinished(parts, reason, "free disk space, and ")) from None
    except OSError as error:
        reason = f"cannot use {error.filename or parts.folder}: {error.strerror or error}"
        raise EncodeError(_unfinished(parts, reason, "repair that, and ")) from None
    except MemoryError:
        raise EncodeError(_unfinished(parts, "there is not enough memory", "free memory, and ")) from None
    except KeyboardInterrupt:
        raise EncodeInterrupted(_unfinished(parts, "interrupted", "")) from None
    finally:
        _close(parts, complete)


def _solve_and_merge(
    job: Job, parts: Parts, output: Path, rank: int, world: int, keep_shards: bool, progress: bool | None
) -> Summary | None:
    for path in parts.drop_damaged():
        print(f"{path} is damaged and is solved again", file=sys.stderr)
    off = True if rank else (None if progress is None else not progress)
    summary = Summary(parts.folder if keep_shards else output, job.count, job.n, job.options.tol)
    before, start = parts.samples_done(), time.perf_counter()
    with tqdm(
        total=job.count, initial=before, unit="problem", unit_scale=True, dynamic_ncols=True, disable=off, smoothing=0.1
    ) as bar:
        _make_all(job, parts, rank, world, _Counter(bar, before))
    summary.solved, summary.seconds = job.count - before, time.perf_counter() - start
    if rank:
        return None
    with parts.merging():
        known = _finished_summary(output, job, overwrite=True)  # another process may have finished in the meantime
        if known is not None and not keep_shards:
            return replace(known, solved=summary.solved, seconds=summary.seconds)
        with _bar("checking", parts.shards, off) as bar:
            check(job, parts, summary, bar.update)
        if not keep_shards:
            with _bar("merging", PASSES * parts.shards, off) as bar:
                merge(job, parts, summary, bar.update)
    return summary


def _bar(title: str, total: int, off: bool | None) -> Any:
    return tqdm(total=total, unit="part", desc=title, dynamic_ncols=True, disable=off)


class _Counter:
    """Counts the samples that are done, because a hidden progress bar does not count."""

    def __init__(self, bar: Any, n: int) -> None:
        self._bar, self.n = bar, n

    def update(self, more: int) -> None:
        self.n += more
        self._bar.update(more)


def _unfinished(parts: Parts, reason: str, fix: str) -> str:
    try:
        done = parts.samples_done()
    except OSError:  # the folder cannot be listed, and ``reason`` says why
        done = 0
    return f"{reason}; {done} of {parts.count} samples are done, {fix}the same command continues from there"


def _close(parts: Parts, complete: bool) -> None:
    try:
        parts.close(complete)
    except (OSError, EncodeError) as error:
        if not complete:  # another exception explains why the output is not complete, and must stay visible
            return
        reason = getattr(error, "strerror", None) or error
        raise EncodeError(
            f"the output is complete, but {parts.folder} cannot be removed: {reason}; remove it"
        ) from None
