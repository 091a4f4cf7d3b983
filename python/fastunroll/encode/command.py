"""The command line of ``fastunroll encode``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from .errors import EncodeError, EncodeInterrupted
from .run import encode, rank_and_world_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command. Each has the name of the argument of :func:`encode` that it sets."""
    files = parser.add_argument_group("files")
    files.add_argument("--dictionary", type=Path, required=True, metavar="D.npy", help="A (m, n), columns are atoms")
    files.add_argument("--input", type=Path, required=True, dest="samples", metavar="Y.npy", help="(samples, m), "
                       "a row for each sample")  # fmt: skip
    files.add_argument("--output", type=Path, required=True, metavar="X.npz", help="CSR matrix (samples, n), as "
                       "scipy.sparse.load_npz reads it")  # fmt: skip
    files.add_argument("--transpose-dictionary", action="store_true", help="the file is (n, m), rows are atoms, as "
                       "components_ of scikit-learn")  # fmt: skip
    files.add_argument("--overwrite", action="store_true", help="replace output and unfinished work of another job; "
                       "unfinished work of the same job is always continued")  # fmt: skip
    files.add_argument("--shards", action="store_true", dest="keep_shards", help="keep the shards in X.npz.parts and "
                       "write no single file")  # fmt: skip
    files.add_argument("--shard-size", type=int, metavar="N", help="samples in a shard; default: about 64 MB")

    problem = parser.add_argument_group("problem", "min ½‖A x − y‖² + λ Σ wⱼ|xⱼ| + ½μ‖x‖²")
    lam = problem.add_mutually_exclusive_group(required=True)
    lam.add_argument("--lam", type=float, metavar="λ", help="> 0, the same for all samples")
    lam.add_argument("--relative-lam", type=float, metavar="R", help="λ of each sample as a fraction, between 0 and 1, "
                     "of the smallest for which its code is zero")  # fmt: skip
    lam.add_argument("--lam-file", type=Path, metavar="L.npy", help="(samples,), λ of each sample")
    problem.add_argument("--weights", type=Path, metavar="W.npy", help="w (n,); default: ones")
    problem.add_argument("--ridge", type=float, default=0.0, metavar="μ", help="default: %(default)s")
    problem.add_argument("--nonnegative", action="store_true", help="require x ≥ 0")

    solving = parser.add_argument_group("solving")
    solving.add_argument("--tol", type=float, default=1e-6, metavar="T", help="relative duality gap; default: "
                         "%(default)s")  # fmt: skip
    solving.add_argument(
        "--max-iter", type=int, default=10000, metavar="N", help="largest number of steps for a sample; default: "
        "%(default)s"
    )  # fmt: skip
    solving.add_argument("--dtype", choices=["float32", "float64"], help="dtype of all computations; default: the "
                         "dtype of the dictionary")  # fmt: skip
    solving.add_argument("--threads", type=int, metavar="N", help="number of threads, at most the number of CPUs; "
                         "default: PyTorch's choice")  # fmt: skip


def _threads(number: int) -> int:
    """Returns ``number`` after a check that it is at most the number of CPUs.

    More threads are slower, and a very large number of threads crashes the process.
    """
    cpus = os.cpu_count() or 1
    if not 1 <= number <= cpus:
        raise EncodeError(f"threads must be an integer from 1 to {cpus}, the number of CPUs, got {number}")
    return number


def run(arguments: argparse.Namespace) -> None:
    """Runs the command. It exits with status 2 after an error, and with 130 after Ctrl-C."""
    options = {name: value for name, value in vars(arguments).items() if name not in ("command", "run", "threads")}
    of_rank = ""
    try:
        rank, world = rank_and_world_size()
        of_rank = f"rank {rank}: " if world > 1 else ""
        if arguments.threads is not None:
            torch.set_num_threads(_threads(arguments.threads))
        summary = encode(**options)
    except EncodeError as error:
        print(f"fastunroll encode: {of_rank}{error}", file=sys.stderr)
        raise SystemExit(2) from None
    except EncodeInterrupted as stopped:
        print(f"\nfastunroll encode: {of_rank}{stopped}", file=sys.stderr)
        raise SystemExit(130) from None
    if summary is not None:
        if not summary.solved and summary.samples:
            print(f"{summary.output} is complete, and nothing is left to solve")
        print(summary)
