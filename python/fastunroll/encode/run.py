"""The job from start to end, alone or as one of several processes."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

from tqdm import tqdm

from .. import _checks
from . import shard
from .errors import EncodeError, EncodeInterrupted
from .job import Job, Options, number
from .locks import POLL
from .manifest import Manifest, difference
from .merge import PASSES, check, finished, merge
from .parts import Parts, folder_of, open_parts
from .storage import WriteError
from .summary import Summary

SHARD_BYTES = 1 << 26  # of a shard, if no code is zero
SHARDS = 64  # so many at least, so that a kill loses little, if they do not get too small
_LEAST, _MOST = 256, 1 << 16  # samples a shard
_LOOK = 2.0  # seconds between two looks at what other processes have done

# Locks of files are between processes: these are within this one.
_active: set[str] = set()  # folders that threads are at work in
_active_lock = threading.Lock()


def several() -> tuple[int, int]:
    """Rank and number of processes, as torchrun says."""
    given = {"RANK": os.environ.get("RANK", "0"), "WORLD_SIZE": os.environ.get("WORLD_SIZE", "1")}
    try:
        rank, world = map(int, given.values())
    except ValueError:
        rank, world = -1, 0
    if not 0 <= rank < world:
        words = " and ".join(f"{name}={value}" for name, value in given.items())
        raise EncodeError(f"{words} in the environment do not fit: unset them, or start with torchrun")
    return rank, world


def default_shard_size(count: int, m: int, n: int, itemsize: int) -> int:
    """Samples a shard: its codes fit in little memory, and there are enough shards to share out."""
    fits = SHARD_BYTES // (n * (itemsize + 4) + m * itemsize)
    return max(1, min(fits, _MOST, max(_LEAST, -(-count // SHARDS))))


def _is_finished(output: Path, job: Job, overwrite: bool) -> Summary | None:
    """What is known of the output if it is that of this job."""
    if not output.exists():
        return None
    if output.is_dir():
        raise EncodeError(f"the output {output} is a folder: give the name of a file that ends in .npz")
    known = finished(output)
    reason = "it was not written by fastunroll encode" if known is None else difference(known[0], job.settings)
    if known is not None and not reason:
        return known[1]
    if overwrite:
        return None
    raise EncodeError(
        f"{output} exists, from another job: {reason}; give --overwrite to replace it, or another --output"
    )


def _order(shards: int, rank: int, world: int) -> list[int]:
    """The shards in the order in which a process looks at them: its own, then, from the end, those of the others."""
    mine = range(rank, shards, world)
    return [*mine, *(i for i in reversed(range(shards)) if i % world != rank)]


def _make_all(job: Job, parts: Parts, rank: int, world: int, bar: Any) -> None:
    """Until all shards are there. What another process holds is waited for, and taken over if that process dies."""
    looked = time.monotonic()
    pending = _order(parts.shards, rank, world)
    there = set(parts.done())
    while pending := [i for i in pending if i not in there]:
        idle = True
        for i in pending:
            with parts.claimed(i) as mine:
                if mine:
                    shard.make(job, parts, i, bar.update)
                    idle = False
            if time.monotonic() - looked > _LOOK:
                bar.update(parts.samples_done() - bar.n)
                looked = time.monotonic()
        there = set(parts.done())
        if idle and len(there) < parts.shards:
            time.sleep(POLL)
    bar.update(parts.count - bar.n)


@contextmanager
def _once(output: Path) -> Iterator[None]:
    """Alone among the threads of this process. A folder is known by where it is: it may have several names."""
    folder = os.path.realpath(folder_of(output))
    with _active_lock:
        if folder in _active:
            raise EncodeError(f"{output} is being written by another thread of this process: wait for it")
        _active.add(folder)
    try:
        yield
    finally:
        _active.discard(folder)


@overload
def _path(role: str, value: Path | str) -> Path: ...
@overload
def _path(role: str, value: Path | str | None) -> Path | None: ...
def _path(role: str, value: Path | str | None) -> Path | None:
    """A path that was given, if a file can have it."""
    if value is None:
        return None
    try:
        path = Path(value)
        os.fsencode(path)
    except (TypeError, ValueError):
        raise EncodeError(f"the {role} must be the path of a file, got {_checks.shown(value)}") from None
    if "\0" in str(path):
        raise EncodeError(f"the {role} must be the path of a file, got {_checks.shown(value)}")
    return path


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
    """min ½‖A x − y‖² + λ Σ wⱼ|xⱼ| + ½μ‖x‖² for each row y of a file, into a file that scipy reads as a CSR matrix.

    Neither needs to fit in memory. Samples are solved a shard at a time; a shard is a file in ``<output>.parts``, there
    when it is whole, and the output is made of all of them at the end. The same call goes on where an earlier one was
    stopped, at any instant, and calls in several processes, such as torchrun starts, share the shards out. If the
    output is complete nothing is done.

    Args:
        dictionary: ``.npy`` file of A, (m, n), float32 or float64, whose columns are the atoms.
        samples: ``.npy`` file of y, (N, m), a row for each sample; converted to A's dtype a block at a time. A row
            with NaN or infinity gets no codes and a gap of NaN.
        output: file to be written, ``.npz``.
        lam: λ > 0. Exactly one of this and the next two is given.
        relative_lam: λ of each sample as a fraction of the smallest for which its code is zero.
        lam_file: ``.npy`` file of λ, (N,).
        tol: relative duality gap to reach, as in :meth:`fastunroll.solvers.Lasso.solve`.
        max_iter: at most so many steps a sample.
        nonnegative: require x ≥ 0.
        ridge: μ ≥ 0.
        weights: ``.npy`` file of w, (n,).
        dtype: "float32" or "float64", to compute in; by default that of the dictionary.
        transpose_dictionary: the file holds Aᵀ, (n, m), as ``components_`` of scikit-learn.
        shard_size: samples a shard.
        keep_shards: leave the shards as they are, rather than make one file of them.
        overwrite: replace output and unfinished work of *another* job; work of this one is continued.
        progress: show bars; by default if standard error is a terminal.

    Returns:
        A summary; None in processes of a rank above 0, which leave the last step to the first.

    Raises:
        EncodeError: files or options that cannot be used, or a disk that is full; the message is one sentence.
        EncodeInterrupted: Ctrl-C; the message says how much is done.
    """
    written = _path("output", output)
    if written.suffix != ".npz":
        raise EncodeError(f"the output must end in .npz, got {written}")
    options = Options(
        lam, relative_lam, _path("lam file", lam_file), tol, max_iter, nonnegative, ridge,
        _path("file of weights", weights), dtype, transpose_dictionary,
    )  # fmt: skip
    if shard_size is not None:
        shard_size = number(_checks.count, "shard size", shard_size)
    keep_shards = number(_checks.flag, "keep_shards", keep_shards)
    overwrite = number(_checks.flag, "overwrite", overwrite)
    if progress is not None:
        progress = number(_checks.flag, "progress", progress)
    rank, world = several()
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
            raise EncodeError(f"the output {output} is the {file.role}, which would be lost: give another --output")
    known = _is_finished(output, job, overwrite)
    if known is not None and not folder_of(output).exists():
        return None if rank else known
    wanted = Manifest(job.settings, shard_size or default_shard_size(job.count, job.m, job.n, job.dtype.itemsize))
    parts = open_parts(output, wanted, shard_size, overwrite)
    complete = False
    try:
        known = _is_finished(output, job, overwrite)  # by a process that was ahead
        if known is None:
            known = _worked(job, parts, output, rank, world, keep_shards, progress)
        complete = output.exists() and _is_finished(output, job, overwrite=True) is not None
        return None if rank else known
    except WriteError as error:
        what = f"cannot write {error.filename}: {error.strerror}"
        raise EncodeError(_unfinished(parts, what, "make room, and ")) from None
    except OSError as error:
        what = f"cannot use {error.filename or parts.folder}: {error.strerror or error}"
        raise EncodeError(_unfinished(parts, what, "mend that, and ")) from None
    except MemoryError:
        raise EncodeError(_unfinished(parts, "there is not enough memory", "free some, and ")) from None
    except KeyboardInterrupt:
        raise EncodeInterrupted(_unfinished(parts, "interrupted", "")) from None
    finally:
        _left(parts, complete)


def _worked(
    job: Job, parts: Parts, output: Path, rank: int, world: int, keep_shards: bool, progress: bool | None
) -> Summary | None:
    for path in parts.drop_damaged():
        print(f"{path} is damaged and is made again", file=sys.stderr)
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
        known = _is_finished(output, job, overwrite=True)  # by a process that was ahead
        if known is not None and not keep_shards:
            return replace(known, solved=summary.solved, seconds=summary.seconds)
        with _bar("checking", parts.shards, off) as bar:
            check(job, parts, summary, bar.update)
        if not keep_shards:
            with _bar("merging", PASSES * parts.shards, off) as bar:
                merge(job, parts, summary, bar.update)
    return summary


def _bar(what: str, total: int, off: bool | None) -> Any:
    return tqdm(total=total, unit="part", desc=what, dynamic_ncols=True, disable=off)


class _Counter:
    """The samples that are done: a bar that is not shown does not count."""

    def __init__(self, bar: Any, n: int) -> None:
        self._bar, self.n = bar, n

    def update(self, more: int) -> None:
        self.n += more
        self._bar.update(more)


def _unfinished(parts: Parts, what: str, fix: str) -> str:
    try:
        done = parts.samples_done()
    except OSError:  # what is there cannot even be listed, which the reason has said
        done = 0
    return f"{what}; {done} of {parts.count} samples are done, {fix}the same command goes on from there"


def _left(parts: Parts, complete: bool) -> None:
    try:
        parts.close(complete)
    except (OSError, EncodeError) as error:
        if not complete:  # nothing was to be removed, and why it is not complete must not be hidden by this
            return
        reason = getattr(error, "strerror", None) or error
        raise EncodeError(
            f"the output is complete, but {parts.folder} cannot be removed: {reason}; remove it"
        ) from None
