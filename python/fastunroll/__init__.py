"""Algorithm unrolling, fast: all layers of a network in one native call, forward and backward.

The networks are in :mod:`fastunroll.nn`, the solvers they come from in :mod:`fastunroll.solvers`, linear operators in
:mod:`fastunroll.operators`, losses, with and without ground truth, in :mod:`fastunroll.losses`, and PSNR and SSIM in
:mod:`fastunroll.metrics`.
:mod:`fastunroll.sklearn`, for users of scikit-learn, is loaded when it is first used.
"""

import typing as _typing
from importlib import import_module as _import_module
from importlib.metadata import version as _version

import torch as _torch  # noqa: F401  # first: the native module shares the OpenMP runtime that torch has loaded

from . import convert, data, diagnostics, losses, metrics, nn, operators, prox, reference, schemes, solvers, training
from ._backend import backend
from .functional import gradient_step, ista_step
from .prox import soft_threshold
from .steps import AffineStep, DataStep, GradientStep
from .unrolling import unrolled

if _typing.TYPE_CHECKING:
    from . import sklearn as sklearn
else:

    def __getattr__(name: str) -> object:
        if name == "sklearn":  # loaded when it is used: scikit-learn is an extra
            return _import_module(".sklearn", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = _version("fastunroll")

__all__ = [
    "AffineStep",
    "DataStep",
    "GradientStep",
    "backend",
    "convert",
    "data",
    "diagnostics",
    "gradient_step",
    "ista_step",
    "losses",
    "metrics",
    "nn",
    "operators",
    "prox",
    "reference",
    "schemes",
    "soft_threshold",
    "solvers",
    "training",
    "unrolled",
]
