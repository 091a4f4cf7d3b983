"""The entrance of the engine: all layers in one native call where they are compiled, else one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .. import ops
from .._precision import own_precision
from ..products import product
from ..schemes import ADMM, AMP, FISTA, ProximalGradient
from ..steps import AffineStep, DataStep, GradientStep
from . import linear, native, stepwise
from .layers import Layers, support_sizes

_SCHEMES = {ProximalGradient: "proximal_gradient", FISTA: "fista", ADMM: "admm", AMP: "amp"}


def run(
    net: Layers, y: Tensor, x0: Tensor | None, s0: Tensor | None, *, keep: bool = False, segment: int = 0
) -> tuple[Tensor, Tensor | None]:
    """The last layer, (..., n), or with ``keep`` all of them, (K, ..., n); and the second state.

    segment: the number of layers between two outputs that are kept for gradients; 0 keeps all.
    """
    engine = _compiled if net.unsupported_reason() is None else _stepwise
    return engine(net, y, x0, s0, keep, segment)


def compiled(net: Layers) -> tuple[ops.NetworkSpec, ops.Parameters]:
    """Compiled layers as the kernels take them."""
    kernel = net.prox.kernel
    assert kernel is not None
    kind, first, second = "gradient", net.first, net.second
    if isinstance(net.linear, AffineStep):
        kind = "affine"
    elif _is_gram(net):
        kind, first, second = "gram", [net.linear.gram_matrix], []  # type: ignore[union-attr]
    sizes = support_sizes(kernel, net.count)
    spec = ops.NetworkSpec(net.count, kind, _SCHEMES[type(net.scheme)], kernel.name, kernel.group, sizes)
    numbers = [t for name in net.scheme.numbers for t in getattr(net.scheme, name)]
    return spec, ops.Parameters(first, second, net.step, net.theta, _gains(net), numbers)


def _is_gram(net: Layers) -> bool:
    return isinstance(net.linear, GradientStep) and net.linear.via == "gram"


def _compiled(
    net: Layers, y: Tensor, x0: Tensor | None, s0: Tensor | None, keep: bool, segment: int
) -> tuple[Tensor, Tensor]:
    spec, p = compiled(net)
    data = product(y, (net.second or net.first)[0], adjoint=True) if _is_gram(net) else y
    return native.run(spec, p, data, x0, s0, keep=keep, segment=segment)


def _gains(net: Layers) -> list[Tensor]:
    """The gain of each layer, times that of the proximal operator."""
    factors = [net.prox.gain(t) for t in net.theta]
    of_prox = [factor for factor in factors if factor is not None]
    if not of_prox or not net.gain:
        return of_prox or net.gain
    gain = _separate(net.gain)
    return [linear.at(of_prox, k) * linear.at(gain, k) for k in range(max(len(of_prox), len(gain)))]


def _separate(values: Sequence[Tensor]) -> list[Tensor]:
    """One entry for each layer, where one tensor holds the values of all layers."""
    return [*values[0].reshape(-1, 1)] if len(values) == 1 and values[0].numel() > 1 else [*values]


def _linear(net: Layers) -> Any:
    """The linear step as the stepwise engine calls it."""
    first: list[Any]
    first, second = ([linear.Matrix(A) if isinstance(A, Tensor) else A for A in of] for of in (net.first, net.second))
    if isinstance(net.linear, AffineStep):
        return linear.Affine(first, second)
    if isinstance(net.linear, DataStep):
        return linear.Data(first[0], net.step)
    if net.linear.via == "gram":
        G = linear.Matrix(net.linear.gram_matrix) if net.is_dense else first[0].normal
        return linear.Gram((second or first)[0].adjoint, G, net.step)
    if not net.is_dense and first[0].collapsed and not net.scheme.needs_residual:
        return linear.CollapsedGradient(first[0], net.step)
    return (linear.Gradient if net.is_dense else linear.OperatorGradient)(first, second, net.step)


def _stepwise(
    net: Layers, y: Tensor, x0: Tensor | None, s0: Tensor | None, keep: bool, segment: int
) -> tuple[Tensor, Tensor | None]:
    step, prox, scheme = _linear(net), net.prox, net.scheme
    scheme = replace(scheme, **{name: _separate(getattr(scheme, name)) for name in scheme.numbers})
    shrink = stepwise.Shrink(lambda k, z, theta: prox.at_layer(k)(z, theta), net.theta, _separate(net.gain))
    with own_precision(y):
        if x0 is None:
            x0 = y.new_zeros(*y.shape[:-1], net.sizes[1]) if net.is_dense else torch.zeros_like(net.first[0].adjoint(y))
        return stepwise.run(scheme, step, shrink, y, x0, s0, net.count, keep=keep, segment=segment)
