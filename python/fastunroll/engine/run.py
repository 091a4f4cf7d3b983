"""The entrance of the engine. It runs all layers in one native call if they are compiled, else one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _checks, ops
from .._precision import own_precision
from ..operators import LinearOperator, as_operator
from ..operators.products import Products
from ..products import product
from ..prox import Proximal
from ..schemes import FISTA, Scheme
from ..steps import AffineStep, DataStep, GradientStep
from . import linear, pictures, stepwise
from .layers import SCHEMES, Layers, support_sizes


def run(
    net: Layers, y: Tensor, x0: Tensor | None, s0: Tensor | None, *, keep: bool = False, segment: int = 0,
    wants_state: bool = True, rounds: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Returns the last layer, (..., n), or with ``keep`` all layers, (K, ..., n), and the second state.

    segment: the number of layers between two outputs that are kept for gradients; 0 keeps all. wants_state: whether
        the second state is returned for sure. rounds: whether compiled layers over one matrix, without gradients, have
        matrices rounded to bfloat16.
    """
    if net.unsupported_reason() is not None:
        return _run_stepwise(net, y, x0, s0, keep, segment)
    if net.is_of_pictures:
        found = pictures.run(net, y, x0, s0, keep, wants_state and net.scheme.has_state)
        return _run_stepwise(net, y, x0, s0, keep, segment) if found is None else found
    if net.has_matrix_of_each_sample:
        if not is_batch_of_samples(y) or s0 is not None or segment:
            return _run_stepwise(net, y, x0, s0, keep, segment)
        return _run_samples(net, y, x0, keep)
    return run_learning(compiled(net), y, x0, s0, keep=keep, segment=segment, rounds=rounds)


class Compiled(NamedTuple):
    """Layers as the kernels take them. With a multiplier M, the layers take Mᴴy in the place of y."""

    spec: ops.NetworkSpec
    parameters: ops.Parameters
    multiplier: Tensor | None


def compiled(net: Layers) -> Compiled:
    """Layers for which :meth:`Layers.unsupported_reason` is None, as the kernels take them."""
    kernel = net.prox.kernel
    assert kernel is not None
    step_kind, first, second, step, multiplier = "gradient", net.first, net.second, net.step, None
    if isinstance(net.linear, AffineStep):
        step_kind = "affine"
    elif isinstance(net.linear, DataStep):
        first, second, step, multiplier = net.linear.as_gradient_steps(first[0], step)
    elif net.linear.via == "gram":
        step_kind, first, second, multiplier = "gram", [net.linear.gram_matrix], [], (second or first)[0]
    sizes = support_sizes(kernel, net.count)
    spec = ops.NetworkSpec(net.count, step_kind, SCHEMES[type(net.scheme)], kernel.name, kernel.group, sizes)
    numbers = [t for name in net.scheme.numbers for t in getattr(net.scheme, name)]
    return Compiled(spec, ops.Parameters(first, second, step, net.theta, _gains(net), numbers), multiplier)


def _rounded(p: ops.Parameters) -> ops.Parameters:
    """Returns the parameters with matrices rounded to bfloat16."""
    first, second = ([w.bfloat16().to(w.dtype) for w in group] for group in (p.W1, p.W2))
    return p._replace(W1=first, W2=second)


def _frozen(p: ops.Parameters, count: int) -> int:
    """Returns the number of layers before the first layer that learns, at most ``count`` − 1."""
    for k in range(count - 1):
        if any(t.requires_grad for group in p.part(k, k + 1) for t in group):
            return k
    return count - 1


def run_learning(
    net: Compiled, y: Tensor, x0: Tensor | None, s0: Tensor | None = None, *, keep: bool = False, segment: int = 0,
    rounds: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Runs compiled layers, of which those before the first layer that learns need no gradient."""
    spec, p, multiplier = net
    parameters = [t for group in p for t in group]
    if rounds and not ops.differentiable(y, x0, s0, *parameters):
        p = _rounded(p)
    y = y if multiplier is None else product(y, multiplier, adjoint=True)
    learns = ops.differentiable(*parameters) and not ops.differentiable(y, x0, s0)
    frozen = _frozen(p, spec.layers) if learns and not segment and not torch.compiler.is_compiling() else 0
    if not frozen:
        return run_compiled(spec, p, y, x0, s0, keep=keep, segment=segment)
    with torch.no_grad():
        first, s = run_compiled(spec.part(0, frozen), p.part(0, frozen), y, x0, s0, keep=keep)
    start, state = first[-1] if keep else first, None if spec.scheme == "proximal_gradient" else s
    x, s = run_compiled(spec.part(frozen, spec.layers), p.part(frozen, spec.layers), y, start, state, keep=keep)
    return torch.cat([first, x]) if keep else x, s


def run_compiled(
    spec: ops.NetworkSpec,
    p: ops.Parameters,
    y: Tensor,
    x0: Tensor | None,
    s0: Tensor | None = None,
    *,
    keep: bool = False,
    segment: int = 0,
) -> tuple[Tensor, Tensor]:
    """Runs layers whose arguments fit each other, by the kernels, or by the reference if there are none.

    Returns x, (K, ..., n) if ``keep``, else (..., n), and the second state.
    """
    m, n = spec.sizes(p)
    lead = y.shape[:-1]
    if not ops.is_supported(y, complex_too=True):
        with own_precision(y):
            x, s = spec.reference(p, y, x0, s0)
        return x if keep else x[-1], s
    x0, s0 = (None if t is None else t.reshape(-1, t.shape[-1]) for t in (x0, s0))
    x, s = _network(spec, p, y.reshape(-1, m), x0, s0, keep, segment)
    return x.reshape((spec.layers, *lead, n) if keep else (*lead, n)), s.reshape(*lead, s.shape[-1])


def _as_pairs(matrix: Tensor) -> Tensor:
    """The real matrix (2m, 2n) of pairs (re, im) that computes the product with a complex matrix (m, n)."""
    re, im = matrix.real, matrix.imag
    rows = torch.stack([torch.stack([re, -im], dim=-1), torch.stack([im, re], dim=-1)], dim=-3)
    return rows.flatten(-2).flatten(0, 1)


def _pairs_of(matrix: Tensor) -> Tensor:
    """:func:`_as_pairs` of a matrix. Without gradients it is kept until the matrix changes."""
    if ops.is_tracing() or ops.differentiable(matrix) or not (ops.is_plain(matrix) and matrix.is_contiguous()):
        return _as_pairs(matrix)
    return ops.cached("pairs", [matrix], lambda: _as_pairs(matrix.detach()))


def _pairs(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()).flatten(-2)


def _network(
    spec: ops.NetworkSpec, p: ops.Parameters, y: Tensor, x0: Tensor | None, s0: Tensor | None, keep: bool, segment: int
) -> tuple[Tensor, Tensor]:
    """Runs flat batches through the native operator. Complex numbers become pairs of reals that shrink together."""
    if not y.is_complex():
        return ops.network(spec, p, y, x0, s0, keep, segment)
    step = [t if t.numel() == 1 else t.repeat_interleave(2) for t in p.step]
    # The scale |r|₂/√m of AMP's threshold sees twice as many rows.
    theta = [t * 2**0.5 for t in p.theta] if spec.scheme == "amp" else p.theta
    real = p._replace(W1=[*map(_pairs_of, p.W1)], W2=[*map(_pairs_of, p.W2)], step=step, theta=theta)
    start, state = (None if t is None else _pairs(t) for t in (x0, s0))
    x, s = ops.network(spec.of_pairs(), real, _pairs(y), start, state, keep, segment)
    return torch.view_as_complex(x.unflatten(-1, (-1, 2))), torch.view_as_complex(s.unflatten(-1, (-1, 2)))


def _gains(net: Layers) -> list[Tensor]:
    """The gain of each layer, times that of the proximal operator."""
    factors = [net.prox.gain(t) for t in net.theta]
    of_prox = [factor for factor in factors if factor is not None]
    if not of_prox or not net.gain:
        return of_prox or net.gain
    gain = linear.separate(net.gain)
    return [linear.at(of_prox, k) * linear.at(gain, k) for k in range(max(len(of_prox), len(gain)))]


def is_batch_of_samples(y: Tensor) -> bool:
    """Whether the kernel of layers over a matrix for every sample takes y: (B, m), real, on the CPU."""
    return y.dim() == 2 and ops.is_supported_on_cpu(y)


class SampleNumbers(NamedTuple):
    """The numbers of layers over a matrix for every sample, as :func:`fastunroll.ops.sample_layers` takes them."""

    step: Tensor
    theta: Tensor
    beta: Tensor | None
    prox: str


def sample_numbers(net: Layers, y: Tensor) -> SampleNumbers:
    """The numbers of all layers over a matrix for every sample."""
    step = linear.stacked(net.step or [y.new_ones(())], net.count).flatten()
    momenta: Any = net.scheme.beta if isinstance(net.scheme, FISTA) else None
    beta = None if momenta is None else linear.stacked(linear.separate(momenta), net.count).flatten()
    kernel = net.prox.kernel
    assert kernel is not None
    return SampleNumbers(step, linear.stacked(net.theta, net.count), beta, kernel.name)


def _run_samples(net: Layers, y: Tensor, x0: Tensor | None, keep: bool) -> tuple[Tensor, Tensor]:
    """Runs layers over a matrix for every sample, by their kernel: x, and the iterate before the last."""
    A, y = net.first[0].arguments(y=y)
    x = ops.sample_layers(A, y, x0, *sample_numbers(net, y), keep)
    start = torch.zeros_like(x[-1]) if x0 is None else x0
    return (x if keep else x[-1]), (x[-2] if len(x) > 1 else start)


def _linear(net: Layers, y: Tensor, x0: Tensor | None) -> Any:
    """The linear step as the stepwise engine calls it."""
    if isinstance(net.linear, DataStep):
        return linear.Data(_products(as_operator(net.linear.A), y, x0), net.step)
    if isinstance(net.linear, GradientStep) and not net.is_dense:
        return _of_operator(net, net.linear, _products(net.first[0], y, x0))
    first, second = ([linear.Matrix(A) for A in of] for of in (net.first, net.second))
    if isinstance(net.linear, AffineStep):
        return linear.Affine(first, second)
    if net.linear.via == "gram":
        return linear.Gram((second or first)[0].adjoint, linear.Matrix(net.linear.gram_matrix), net.step)
    return linear.Gradient(first, second, net.step)


def _of_operator(net: Layers, step: GradientStep, A: Products) -> Any:
    """The gradient step of an operator."""
    if step.via == "gram":
        return linear.Gram(A.adjoint, A.normal, net.step)
    collapses = A.op.collapsed and not net.scheme.needs_residual
    return (linear.CollapsedGradient if collapses else linear.OperatorGradient)(A, net.step)


def _products(A: LinearOperator, y: Tensor, x0: Tensor | None) -> Products:
    """The products of layers, which have the samples of y."""
    like = None if x0 is None else ("x0", x0)
    return Products(A, y, like=like, widens=True)


def _proximal(prox: Proximal, y: Tensor) -> Callable[[int, Tensor, Tensor], Tensor]:
    """The proximal operator of each layer. Under autocast, those that take it run in the precision of autocast."""
    if not (prox.takes_autocast and _checks.autocasts(y)):
        return lambda k, z, theta: prox.at_layer(k)(z, theta)
    kind, dtype = y.device.type, torch.get_autocast_dtype(y.device.type)

    def proximal(k: int, z: Tensor, theta: Tensor) -> Tensor:
        with torch.autocast(kind, dtype=dtype):
            found: Tensor = prox.at_layer(k)(z, theta)
        return found

    return proximal


def stepwise_pieces(net: Layers, y: Tensor, x0: Tensor | None) -> tuple[Scheme, Any, stepwise.Shrink]:
    """The scheme, the linear step and the proximal step of layers as the stepwise engine calls them."""
    scheme = replace(net.scheme, **{name: linear.separate(getattr(net.scheme, name)) for name in net.scheme.numbers})
    shrink = stepwise.Shrink(_proximal(net.prox, y), net.theta, linear.separate(net.gain))
    return scheme, _linear(net, y, x0), shrink


def _run_stepwise(
    net: Layers, y: Tensor, x0: Tensor | None, s0: Tensor | None, keep: bool, segment: int
) -> tuple[Tensor, Tensor | None]:
    scheme, step, shrink = stepwise_pieces(net, y, x0)
    with own_precision(y):
        return stepwise.run(scheme, step, shrink, y, x0, s0, net.count, keep=keep, segment=segment)
