"""``fastunroll encode`` on the command line."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import torch

from .errors import EncodeError, EncodeInterrupted
from .run import encode, several


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command, each by the name that :func:`encode` has for it."""
    files = parser.add_argument_group("files")
    files.add_argument("--dictionary", type=Path, required=True, metavar="D.npy", help="A (m, n), columns are atoms")
    files.add_argument("--input", type=Path, required=True, dest="samples", metavar="Y.npy", help="(samples, m), "
                       "a row for each sample")  # fmt: skip
    files.add_argument("--output", type=Path, required=True, metavar="X.npz", help="CSR matrix (samples, n), as "
                       "scipy.sparse.load_npz reads it")  # fmt: skip
    files.add_argument("--transpose-dictionary", action="store_true", help="the file is (n, m), rows are atoms, as "
                       "components_ of scikit-learn")  # fmt: skip
    files.add_argument("--overwrite", action="store_true", help="replace output and unfinished work of another job; "
                       "that of this job is continued")  # fmt: skip
    files.add_argument("--shards", action="store_true", dest="keep_shards", help="leave the shards in X.npz.parts, "
                       "make no single file")  # fmt: skip
    files.add_argument("--shard-size", type=int, metavar="N", help="samples a shard; default: what takes some 64 MB")

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
        "--max-iter", type=int, default=10000, metavar="N", help="steps a sample; default: %(default)s"
    )
    solving.add_argument("--dtype", choices=["float32", "float64"], help="to compute in; default: the dictionary's")
    solving.add_argument("--threads", type=int, metavar="N", help="at most the CPUs of this machine; default: as "
                         "PyTorch chooses")  # fmt: skip


def _threads(number: int) -> int:
    """``number`` if it is at most that of the CPUs: more threads are slower, and very many crash the process."""
    cpus = os.cpu_count() or 1
    if not 1 <= number <= cpus:
        raise EncodeError(f"threads must be a whole number from 1 to {cpus}, the CPUs of this machine, got {number}")
    return number


def run(arguments: argparse.Namespace) -> None:
    """Runs the command; exits with 2 if it cannot be done, 130 on Ctrl-C."""
    options = {name: value for name, value in vars(arguments).items() if name not in ("run", "threads")}
    of_rank = ""
    try:
        rank, world = several()
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
            print(f"{summary.output} is complete: nothing is left to solve")
        print(summary)
