"""Iterations over pictures as layers that are compiled: a block of iterations is one native call for all pictures."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .. import ops
from ..engine import pictures
from ..engine.layers import Layers, LinearStep
from ..operators.pictures import PictureOperator
from ..prox import PerLayer
from ..schemes import Scheme
from .problem import Problem, can_be_read

# What a user may put in the place of a method of one operator, and layers do not call.
_METHODS = {"forward", "adjoint", "normal", "gradient", "collapsed_gradient", "solve", "data_step"}


def layers(p: Problem, scheme: Scheme, linear: LinearStep, step: Tensor, theta: Tensor, count: int) -> Layers:
    """Iterations with these numbers as layers."""
    thresholds = [theta.reshape(())] if p.prior.has_threshold else []
    return Layers(count, linear, [p.operator], [], [step.reshape(())], p.prior, thresholds, [], scheme)


def are_compiled(p: Problem, make: Callable[[], Layers], *numbers: Tensor) -> bool:
    """Whether there is a native call of such layers for this problem. ``numbers``: those of the layers beside λ."""
    if not isinstance(p.operator, PictureOperator) or isinstance(p.prior, PerLayer) or p.lam.numel() != 1:
        return False
    A = p.operator
    if not can_be_read(p.y) or ops.differentiable(p.y, p.lam, p.x0, *numbers) or vars(A).keys() & _METHODS:
        return False
    net = make()
    if pictures.unsupported_reason(net) is not None or pictures.refused_reason(net, p.y) is not None:
        return False
    return ops.fits_pictures(pictures.arguments(net, p.At_y, p.x0))
