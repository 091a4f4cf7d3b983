"""The command line: ``fastunroll demo``, ``fastunroll info``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from . import __version__


class _Parser(argparse.ArgumentParser):
    """Answers a wrong flag in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _fail(command: str, message: str) -> NoReturn:
    print(f"fastunroll {command}: {message}", file=sys.stderr)
    raise SystemExit(2)


def _demo(arguments: argparse.Namespace) -> None:
    for module, package in (("skimage", "scikit-image"), ("matplotlib", "matplotlib"), ("tqdm", "tqdm")):
        if find_spec(module) is None:
            _fail("demo", f"{package} is not installed: pip install 'fastunroll[demo]'")
    from .demo import DemoError, run

    try:
        run(arguments.images, arguments.quick, arguments.out, arguments.seed)
    except DemoError as error:
        _fail("demo", str(error))


def _info(arguments: argparse.Namespace) -> None:
    from ._info import lines

    print("\n".join(lines()))


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

    info = commands.add_parser("info", help="say what this installation runs on, and why")
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
