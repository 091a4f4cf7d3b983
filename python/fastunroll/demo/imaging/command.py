"""The commands ``fastunroll deblur`` and ``fastunroll mri``."""

from __future__ import annotations

import argparse
import math
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..folder import DemoError, require_writable

if TYPE_CHECKING:
    from .compare import Experiment

SECONDS, QUICK_SECONDS = 90.0, 25.0
CONVERGED = {"deblur": 100, "mri": 200}  # iterations
QUICK_CONVERGED = 60
STEPS = 3000  # of a training, at most


def _seconds(given: str) -> float:
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds ≥ 0, got {given!r}")
    return number


def add_parsers(commands: Any) -> None:
    """Adds both commands to the command line."""
    deblur = commands.add_parser(
        "deblur",
        help="sharpen galaxies with an unrolled network, and compare it with the classical methods",
        description="Blurs a picture of galaxies as a telescope does, adds noise, and recovers it by the Wiener "
        "filter, by FISTA with wavelets and with total variation, and by an unrolled network of 16 layers. The network "
        "and the weights λ see other pictures alone.",
    )
    deblur.add_argument("--image", type=Path, metavar="FILE", help="a picture to blur; default: galaxies")
    deblur.add_argument("--colour", action="store_true", help="galaxies in colour, with three times the work")
    deblur.add_argument("--kernel", type=Path, metavar="FILE", help="a small grey picture; default: a Moffat function")
    deblur.set_defaults(run=run_deblur)
    mri = commands.add_parser(
        "mri",
        help="recover sections of a head from a quarter of k-space with an unrolled network",
        description="Simulates magnetic resonance scans of a phantom and, where nilearn is installed, of an averaged "
        "brain, with a smooth phase, one coil and eight, and a quarter of the columns of k-space. It recovers the "
        "pictures by FISTA with wavelets and with total variation, and by an unrolled network of 16 layers.",
    )
    mri.set_defaults(run=run_mri)
    for name, parser in (("deblur", deblur), ("mri", mri)):
        parser.add_argument(
            "--seconds", type=_seconds, metavar="S", help="how long to train a network; 0 uses the weights of the "
            f"package alone; default: {SECONDS:g}, with --quick {QUICK_SECONDS:g}",
        )  # fmt: skip
        parser.add_argument("--quick", action="store_true", help="a smaller picture, less training, fewer iterations")
        parser.add_argument(
            "--train-weights", type=Path, metavar="FILE",
            help="train by the recipe of the weights of the package, and write the weights",
        )  # fmt: skip
        parser.add_argument(
            "--out", type=Path, default=Path(f"fastunroll-{name}"), metavar="DIR", help="default: %(default)s"
        )
        parser.add_argument("--seed", type=int, default=0, metavar="N", help="an integer ≥ 0; default: %(default)s")


def require_packages() -> None:
    """Raises DemoError unless the packages of the extra ``demo`` are installed."""
    for module, package in (("skimage", "scikit-image"), ("matplotlib", "matplotlib")):
        if find_spec(module) is None:
            raise DemoError(f"{package} is not installed: pip install 'fastunroll[demo]'")


def run_deblur(arguments: argparse.Namespace) -> None:
    """Runs ``fastunroll deblur``."""
    require_packages()
    from ...data import PictureError
    from . import deblur

    try:
        kernel = deblur.moffat() if arguments.kernel is None else deblur.read_kernel(arguments.kernel)
        if arguments.image is None:
            scene = deblur.deep_field(kernel, arguments.seed, quick=arguments.quick, colour=arguments.colour)
        else:
            scene = deblur.scene(arguments.image.name, deblur.read_picture(arguments.image), kernel, arguments.seed)
    except PictureError as error:
        raise DemoError(str(error)) from error
    _run(
        arguments,
        deblur.experiment(scene, kernel, arguments.image is None, arguments.kernel is None, _converged(arguments)),
    )


def run_mri(arguments: argparse.Namespace) -> None:
    """Runs ``fastunroll mri``."""
    require_packages()
    from . import mri

    if find_spec("nilearn") is None:
        print("The brain needs nilearn: pip install nilearn. The results are of the phantom alone.")
    _run(arguments, mri.experiment(arguments.seed, _converged(arguments)))


def _converged(arguments: argparse.Namespace) -> int:
    return QUICK_CONVERGED if arguments.quick else CONVERGED[arguments.command]


def _run(arguments: argparse.Namespace, experiment: Experiment) -> None:
    from ...training.loop import Budget
    from .compare import run, train_weights

    if arguments.train_weights is not None:
        require_writable(arguments.train_weights.absolute().parent)
        train_weights(experiment, arguments.train_weights, arguments.seed)
        return
    require_writable(arguments.out)
    seconds = arguments.seconds
    if seconds is None:
        seconds = QUICK_SECONDS if arguments.quick else SECONDS
    run(experiment, arguments.out, budget=Budget(STEPS, seconds) if seconds else None, seed=arguments.seed)
