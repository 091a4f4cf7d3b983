"""The command line: ``fastunroll demo``, ``reproduce``, ``encode``, ``tune`` and ``info``."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .encode.command import add_arguments as add_encode_arguments
from .encode.command import run as run_encode


class _Parser(argparse.ArgumentParser):
    """Answers a wrong flag in one line, a misspelt one by the one that was meant."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, which would speak of the options that a misspelt one leaves missing."""
        for given in [] if self._subparsers else args:
            name = given.split("=")[0]
            if name.startswith("--") and name != "--" and name not in self._option_string_actions:
                near = difflib.get_close_matches(name, self._option_string_actions, 1)
                self.error(f"there is no option {name}" + "".join(f": did you mean {option}?" for option in near))
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _fail(command: str, message: str) -> NoReturn:
    print(f"fastunroll {command}: {message}", file=sys.stderr)
    raise SystemExit(2)


def _demo(arguments: argparse.Namespace) -> None:
    for module, package in (("skimage", "scikit-image"), ("matplotlib", "matplotlib")):
        if find_spec(module) is None:
            _fail("demo", f"{package} is not installed: pip install 'fastunroll[demo]'")
    from .demo import DemoError, run

    try:
        run(arguments.images, arguments.quick, arguments.out, arguments.seed)
    except DemoError as error:
        _fail("demo", str(error))


def _reproduce(arguments: argparse.Namespace) -> None:
    if find_spec("matplotlib") is None:
        _fail("reproduce", "matplotlib is not installed: pip install matplotlib")
    from .reproduce import ReproduceError, reproduce

    settings = arguments.settings or (["snr40"] if arguments.quick else None)
    try:
        page = reproduce(
            arguments.networks, settings, arguments.seeds, arguments.out, size=arguments.size, quick=arguments.quick
        )
    except ReproduceError as error:
        _fail("reproduce", str(error))
    print(page)
    print(f"written to {arguments.out}: reproduction.json, .md and .png, and the weights")


def _listed(given: str) -> list[str]:
    return [part.strip() for part in given.split(",") if part.strip()]


def _seeds(given: str) -> list[int]:
    try:
        seeds = [int(part) for part in _listed(given)]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise argparse.ArgumentTypeError(f"must be whole numbers ≥ 0 with commas between, got {given!r}")
    return seeds


def _size(given: str) -> tuple[int, int]:
    m, _, n = given.partition("x")
    if not (m.isdecimal() and n.isdecimal() and int(m) > 0 and int(n) > 0):
        raise argparse.ArgumentTypeError(f"must be two whole numbers, as 250x500, got {given!r}")
    return int(m), int(n)


def _tune(arguments: argparse.Namespace) -> None:
    import torch

    from .ops.backends import problem
    from .ops.cuda import timings
    from .tune import tune

    why = problem(torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_available() else 0))
    if why:
        _fail("tune", f"there are no CUDA kernels here to choose among: {why}")
    device = torch.device("cuda", torch.cuda.current_device())
    path = arguments.out or timings.own_folder() / timings.file_name(timings.name_of(device))
    try:
        tune(device, bar=True).write(path)
    except (OSError, RuntimeError) as error:
        _fail("tune", str(error))
    print(f"{timings.name_of(device)}: written to {path}" + ("" if arguments.out else ", which later processes read"))


def _info(arguments: argparse.Namespace) -> None:
    from ._info import lines, self_tests

    print("\n".join(lines()))
    if arguments.check:
        results = self_tests()
        print("\n".join(f"self-test        {device}: {problem or 'passed'}" for device, problem in results.items()))
        if any(results.values()):
            raise SystemExit(1)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line; exits with 2 on a wrong argument, 130 on Ctrl-C."""
    parser = _Parser(prog="fastunroll", description="Algorithm unrolling, fast: all layers in one native call.")
    parser.add_argument("--version", action="version", version=f"fastunroll {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    demo = commands.add_parser(
        "demo",
        help="train unrolled networks on photographs and compare them with the classical solvers",
        description="Compressed sensing of photographs: trains two 16-layer LISTA networks, one on the truth and one "
        "on the KKT residual alone, and compares them with ISTA and FISTA on photographs they have not seen.",
    )
    demo.add_argument("--images", type=Path, metavar="DIR", help="judge by the pictures in this folder")
    demo.add_argument("--quick", action="store_true", help="train for seconds rather than minutes")
    demo.add_argument("--out", type=Path, default=Path("fastunroll-demo"), metavar="DIR", help="default: %(default)s")
    demo.add_argument("--seed", type=int, default=0, metavar="N", help="a whole number ≥ 0; default: %(default)s")
    demo.set_defaults(run=_demo)

    again = commands.add_parser(
        "reproduce",
        help="train the whole family and set what it reaches beside what was published",
        description="Trains unrolled networks on sparse recovery, tests them on fresh samples, and writes what they "
        "reach as JSON, a table and a figure, published numbers beside. What a folder holds already is not done again.",
    )
    again.add_argument("--networks", type=_listed, metavar="A,B", help="some of them, rather than all")
    again.add_argument("--settings", type=_listed, metavar="A,B", help="of noiseless, snr40, snr20, condition15, "
                       "condition100; default: all but the last, with --quick snr40")  # fmt: skip
    again.add_argument("--seeds", type=_seeds, default=[0], metavar="0,1", help="of the matrices; default: 0")
    again.add_argument("--size", type=_size, metavar="MxN", help="of the matrices; default: those of the literature")
    again.add_argument("--quick", action="store_true", help="a third of the steps: minutes, and some decibels less")
    again.add_argument(
        "--out", type=Path, default=Path("fastunroll-reproduce"), metavar="DIR", help="default: %(default)s"
    )
    again.set_defaults(run=_reproduce)

    codes = commands.add_parser(
        "encode",
        help="solve the Lasso for every row of a file that may be larger than memory",
        description="Writes the Lasso codes of every row of a .npy file as one CSR matrix. Neither has to fit in "
        "memory. Stopped or killed, the same command goes on; started several times, or by torchrun, the processes "
        "share the work.",
    )
    add_encode_arguments(codes)
    codes.set_defaults(run=run_encode)

    measure = commands.add_parser(
        "tune",
        help="measure the kernels of this machine's GPU, so that calls choose the fastest",
        description="Times every CUDA kernel over sizes, batches and precisions for a minute. What is found decides in "
        "later processes which of them a call gets. Results change by rounding where another kernel is chosen.",
    )
    measure.add_argument("--out", type=Path, metavar="FILE", help="default: fastunroll/DEVICE.json in the user's cache")
    measure.set_defaults(run=_tune)

    info = commands.add_parser("info", help="say what this installation runs on, and why")
    info.add_argument("--check", action="store_true", help="compare the kernels of each device with plain PyTorch")
    info.set_defaults(run=_info)

    arguments = parser.parse_args(argv)
    if getattr(arguments, "seed", 0) < 0:
        parser.error(f"argument --seed: must be ≥ 0, got {arguments.seed}")
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print("\nfastunroll: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
