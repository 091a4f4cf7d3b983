"""The command line: ``fastunroll deblur``, ``mri``, ``demo``, ``reproduce``, ``encode``, ``tune`` and ``info``."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .demo.folder import DemoError
from .demo.imaging.command import add_parsers as add_imaging_parsers
from .demo.imaging.command import require_packages
from .encode.command import add_arguments as add_encode_arguments
from .encode.command import run as run_encode


class _Parser(argparse.ArgumentParser):
    """An argument parser that reports errors in one line, and suggests the right option for a misspelt option."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Checks the names of options first. argparse alone would complain about missing options instead."""
        args = sys.argv[1:] if args is None else args
        for given in takewhile(lambda a: a.startswith("-"), args) if self._subparsers else args:
            name = given.split("=")[0]
            if name.startswith("--") and name != "--" and name not in self._option_string_actions:
                near = difflib.get_close_matches(name[2:], (o[2:] for o in self._option_string_actions), 1)
                self.error(f"there is no option {name}" + "".join(f": did you mean --{option}?" for option in near))
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _fail(command: str, message: str) -> NoReturn:
    print(f"fastunroll {command}: {message}", file=sys.stderr)
    raise SystemExit(2)


def _demo(arguments: argparse.Namespace) -> None:
    require_packages()
    from .demo.main import run

    run(arguments.images, arguments.quick, arguments.out, arguments.seed)


def _reproduce(arguments: argparse.Namespace) -> None:
    if find_spec("matplotlib") is None:
        _fail("reproduce", "matplotlib is not installed: pip install matplotlib")
    from .reproduce import ReproduceError, reproduce

    if arguments.imaging:
        return _reproduce_imaging(arguments)
    settings = arguments.settings or (["snr40"] if arguments.quick else None)
    try:
        page = reproduce(
            arguments.networks, settings, arguments.seeds, arguments.out, size=arguments.size, quick=arguments.quick
        )
    except ReproduceError as error:
        _fail("reproduce", str(error))
    print(page)
    print(f"The folder {arguments.out} has reproduction.json, .md and .png, and the weights.")


def _reproduce_imaging(arguments: argparse.Namespace) -> None:
    from .data import PictureError
    from .reproduce import ReproduceError

    if (arguments.networks, arguments.settings, arguments.size) != (None, None, None):
        _fail("reproduce", "--networks, --settings and --size are of sparse recovery: leave them out with --imaging")
    if len(arguments.seeds) != 1:
        _fail("reproduce", f"--imaging takes one seed, got {len(arguments.seeds)}: run it once for each")
    require_packages()
    from .reproduce.imaging import Settings, reproduce_imaging

    try:
        page = reproduce_imaging(arguments.out, Settings.of_command(arguments.seeds[0], arguments.quick))
    except (ReproduceError, PictureError) as error:
        _fail("reproduce", str(error))
    print(page)
    print(f"The folder {arguments.out} has imaging.json, imaging.md, and the weights.")


def _listed(given: str) -> list[str]:
    return [part.strip() for part in given.split(",") if part.strip()]


def _seeds(given: str) -> list[int]:
    try:
        seeds = [int(part) for part in _listed(given)]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise argparse.ArgumentTypeError(f"must be integers ≥ 0 with commas between them, got {given!r}")
    return seeds


def _size(given: str) -> tuple[int, int]:
    m, _, n = given.partition("x")
    if not (m.isdecimal() and n.isdecimal() and int(m) > 0 and int(n) > 0):
        raise argparse.ArgumentTypeError(f"must be two integers such as 250x500, got {given!r}")
    return int(m), int(n)


def _tune(arguments: argparse.Namespace) -> None:
    import torch

    from .ops.backends import problem
    from .ops.cuda import timings
    from .tune import tune

    why = problem(torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_available() else 0))
    if why:
        _fail("tune", f"a GPU with CUDA kernels is needed, but {why}")
    device = torch.device("cuda", torch.cuda.current_device())
    path = arguments.out or timings.own_folder() / timings.file_name(timings.name_of(device))
    try:
        tune(device, bar=True).write(path)
    except (OSError, RuntimeError) as error:
        _fail("tune", str(error))
    later = "" if arguments.out else " Later processes use them."
    print(f"The timings of {timings.name_of(device)} are in {path}.{later}")


def _info(arguments: argparse.Namespace) -> None:
    from ._info import lines, self_tests

    print("\n".join(lines()))
    if arguments.check:
        results = self_tests()
        print("\n".join(f"self-test        {device}: {problem or 'passed'}" for device, problem in results.items()))
        if any(results.values()):
            raise SystemExit(1)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line. It exits with status 2 after a wrong argument, and with 130 after Ctrl-C."""
    parser = _Parser(prog="fastunroll", description="Fast algorithm unrolling. All layers run in one native call.")
    parser.add_argument("--version", action="version", version=f"fastunroll {__version__}")
    commands = parser.add_subparsers(required=True, dest="command", metavar="command")

    demo = commands.add_parser(
        "demo",
        help="train unrolled networks on photographs and compare them with the classical solvers",
        description="Compressed sensing of photographs. The demo trains two LISTA networks of 16 layers, one with "
        "ground truth and one on the KKT residual alone, and compares them with ISTA and FISTA on other photographs.",
    )
    demo.add_argument("--images", type=Path, metavar="DIR", help="compare on the pictures in this folder")
    demo.add_argument("--quick", action="store_true", help="train for seconds instead of minutes")
    demo.add_argument("--out", type=Path, default=Path("fastunroll-demo"), metavar="DIR", help="default: %(default)s")
    demo.add_argument("--seed", type=int, default=0, metavar="N", help="an integer ≥ 0; default: %(default)s")
    demo.set_defaults(run=_demo)

    add_imaging_parsers(commands)

    again = commands.add_parser(
        "reproduce",
        help="train all networks and compare their errors with published errors",
        description="Trains unrolled networks on sparse recovery, tests them on new samples, and writes their errors "
        "and the published errors as JSON, a table and a figure. Results that the folder already has are not computed "
        "again.",
    )
    again.add_argument("--networks", type=_listed, metavar="A,B", help="names of networks; default: all")
    again.add_argument("--settings", type=_listed, metavar="A,B", help="noiseless, snr40, snr20, condition15 or "
                       "condition100; default: all but the last, with --quick snr40")  # fmt: skip
    again.add_argument("--seeds", type=_seeds, default=[0], metavar="0,1", help="seeds of the matrices; default: 0")
    again.add_argument("--size", type=_size, metavar="MxN", help="size of the matrices; default: as in the literature")
    again.add_argument("--quick", action="store_true", help="train with a third of the steps, for minutes; errors are "
                       "some decibels larger")  # fmt: skip
    again.add_argument("--imaging", action="store_true", help="compare with ISTA-Net⁺ and, where it is installed, with "
                       "DeepInverse on photographs, at equal training seconds")  # fmt: skip
    again.add_argument(
        "--out", type=Path, default=Path("fastunroll-reproduce"), metavar="DIR", help="default: %(default)s"
    )
    again.set_defaults(run=_reproduce)

    codes = commands.add_parser(
        "encode",
        help="solve the Lasso for every row of a file that may be larger than memory",
        description="Solves the Lasso for every row of a .npy file, and writes the codes as a CSR matrix. Neither "
        "needs to fit in memory. If the command is stopped or killed, the same command continues the work. Several "
        "processes, also those of torchrun, share the work.",
    )
    add_encode_arguments(codes)
    codes.set_defaults(run=run_encode)

    measure = commands.add_parser(
        "tune",
        help="time the kernels on the GPU of this machine, so that calls choose the fastest",
        description="Times every CUDA kernel over sizes, batches and precisions for a minute. Later processes use the "
        "timings to choose the kernel of each call. Another kernel changes the rounding of results.",
    )
    measure.add_argument("--out", type=Path, metavar="FILE", help="default: fastunroll/DEVICE.json in the user's cache")
    measure.set_defaults(run=_tune)

    info = commands.add_parser(
        "info",
        help="show the versions, kernels and devices of this installation",
        description="Shows the versions of fastunroll and PyTorch, the kernels, and the devices that they run on.",
    )
    info.add_argument("--check", action="store_true", help="compare the kernels of each device with plain PyTorch")
    info.set_defaults(run=_info)

    arguments, left = parser.parse_known_args(argv)
    if left:
        problem = f"there is no option {left[0]}" if left[0].startswith("-") else f"{left[0]!r} follows no option"
        _fail(arguments.command, f"{problem} (see fastunroll {arguments.command} --help)")
    if getattr(arguments, "seed", 0) < 0:
        name, seed = arguments.command, arguments.seed
        _fail(name, f"argument --seed: must be ≥ 0, got {seed} (see fastunroll {name} --help)")
    try:
        arguments.run(arguments)
    except DemoError as error:
        _fail(arguments.command, str(error))
    except KeyboardInterrupt:
        print("\nfastunroll: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
