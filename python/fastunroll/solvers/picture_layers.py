"""Iterations over pictures as layers that are compiled: a block of iterations is one native call for all pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

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
    """Iterations with these numbers as layers. A θ of each sample is one of each picture, (B,)."""
    if theta.numel() > 1:
        theta = theta.expand(*p.At_y.shape[:-2], 1, 1).reshape(-1)
    thresholds = [theta if theta.numel() > 1 else theta.reshape(())] if p.prior.has_threshold else []
    return Layers(count, linear, [p.operator], [], [step.reshape(())], p.prior, thresholds, [], scheme)


def are_compiled(p: Problem, make: Callable[[], Layers], *numbers: Tensor) -> bool:
    """Whether there is a native call of such layers for this problem. ``numbers``: those of the layers beside λ."""
    if not isinstance(p.operator, PictureOperator) or isinstance(p.prior, PerLayer):
        return False
    if p.lam.numel() != 1 and (p.lam.numel() == 0 or p.lam.shape[-2:] != (1, 1)):
        return False
    A = p.operator
    if not can_be_read(p.y) or ops.differentiable(p.y, p.lam, p.x0, *numbers) or vars(A).keys() & _METHODS:
        return False
    net = make()
    shared = _with_one_threshold(net)
    if pictures.unsupported_reason(shared) is not None or pictures.refused_reason(shared, p.y) is not None:
        return False
    return ops.fits_pictures(arguments(net, p.At_y, p.x0))


def arguments(net: Layers, z: Tensor, x: Tensor | None, s: Tensor | None = None, first: int = 0) -> ops.PictureLayers:
    """The layers as the kernels take them, from z = Aᴴy, x and the second state on, as iterations from ``first`` on."""
    given = pictures.arguments(_with_one_threshold(net), z, x, s, first)
    if given.theta is None or net.theta[0].dim() == 0:
        return given
    theta = net.theta[0].reshape(1, -1, *[1] * len(given.bands))
    return given._replace(theta=theta.expand(net.count, -1, *given.bands))


def _with_one_threshold(net: Layers) -> Layers:
    """The layers with the threshold of the first picture."""
    return replace(net, theta=[theta.reshape(-1)[0] for theta in net.theta])
