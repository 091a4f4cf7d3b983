"""All layers of a network in one call, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .. import _fastunroll
from .._precision import own_precision
from . import dispatch, fused, layerwise
from .cache import packed
from .device import is_host, kernels
from .memory import empty
from .plain_gradients import plain_gradients
from .register import (
    address,
    addresses,
    below_autograd,
    contiguous,
    differentiable,
    differentiate,
    have_same_dtype_and_device,
    is_batched,
    is_double,
    is_jit_tracing,
    is_tracing,
    operator,
    require,
)
from .spec import LINEAR_STEPS, PROXES, NetworkSpec, Parameters, fits, sizes


def bound(form: NetworkSpec, p: Parameters) -> Any:
    """The native network over contiguous parameters; good while they live.

    Raises:
        ValueError: a gain is not positive.
    """
    m, n = sizes(form, p)
    arrays = tuple((addresses(group), group[0].numel() if group else 0) for group in p)
    numbers = (
        form.layers, m, n, LINEAR_STEPS.index(form.linear), form.scheme == "fista", form.scheme == "admm",
        form.scheme == "amp", PROXES.index(form.prox), form.group,
    )  # fmt: skip
    native = _fastunroll.Network(is_double(p.W1[0]), numbers, form.support_sizes, arrays)
    if p.gain:
        layer, gain = native.wrong_gain()
        if layer >= 0:
            raise ValueError(f"gain must be positive, but layer {layer} has {gain:g}: learn its logarithm instead")
    return native


class Outcome(NamedTuple):
    """The results of a network: every layer, (K, batch, n); the last, (batch, n); the second state; and what only the
    gradient needs: the trace, and where support selection let elements or groups pass, (K, batch, n / group).

    A result that nobody asked for has no values.
    """

    x: Tensor
    last: Tensor
    s: Tensor
    trace: Tensor
    passed: Tensor


def _outcome_shapes(f: NetworkSpec, m: int, n: int, y: Tensor, keep: bool, record: bool) -> tuple[tuple[int, ...], ...]:
    batch = y.shape[0]
    return (
        (f.layers if keep or record else 0, batch, n),
        (0 if keep else batch, n),
        (batch, f.state_size(m, n)),
        (f.layers, batch, f.saved_size(m, n, is_host(y)) if record else 0),
    )


def _passed(f: NetworkSpec, y: Tensor, n: int, record: bool) -> Tensor:
    selects = record and any(f.support_sizes)
    return torch.empty((f.layers, y.shape[0], n // f.group if selects else 0), dtype=torch.uint8, device=y.device)


def run(
    native: Any, weights: Any, f: NetworkSpec, m: int, n: int, y: Tensor, x0: Tensor | None, s0: Tensor | None,
    keep: bool, record: bool,
) -> Outcome:  # fmt: skip
    """Contiguous batches through a native network whose parameters have not moved, with packed weights or None."""
    x, last, s, trace = empty(_outcome_shapes(f, m, n, y, keep, record), y.dtype)
    out = Outcome(x, last, s, trace, _passed(f, y, n, record))
    native.forward(
        y.shape[0], torch.get_num_threads(), weights, y.data_ptr(), address(x0), address(s0),
        *map(_address_of_any, out),
    )  # fmt: skip
    return out


def _address_of_any(t: Tensor) -> int:
    """0 if there are no values."""
    return t.data_ptr() if t.numel() else 0


def _run_on_device(
    module: Any, f: NetworkSpec, p: Parameters, y: Tensor, x0: Tensor | None, s0: Tensor | None, keep: bool,
    record: bool, reuse: bool,
) -> Outcome:  # fmt: skip
    """In one launch where a kernel serves, else layer by layer."""
    m, n = sizes(f, p)
    x, last, s, trace = map(y.new_empty, _outcome_shapes(f, m, n, y, keep, record))
    out = Outcome(x, last, s, trace, _passed(f, y, n, record))
    chosen = dispatch.plan(module, f, p, y)
    with own_precision(y):
        if chosen is None:
            layerwise.forward(layerwise.Layers(module, f, p, y), x0, s0, *out)
        else:
            fused.forward(module, chosen, f, p, fused.layout(module, f, p, reuse), y, x0, s0, *out[:4])
    return out


def _backward_on_device(
    module: Any, f: NetworkSpec, p: Parameters, grad: Tensor, grad_s: Tensor | None, y: Tensor, x0: Tensor | None,
    s0: Tensor | None, x: Tensor, trace: Tensor, passed: Tensor, needs: Sequence[bool],
) -> list[Tensor]:  # fmt: skip
    chosen = None
    if dispatch.reason_against_gradient(s0, grad_s) is None:
        chosen = dispatch.plan(module, f, p, y, gradient=True)
    with own_precision(y):
        found = None if chosen is None else fused.gradients(module, chosen, f, p, y, grad, x0, x, trace, needs)
        net = layerwise.Layers(module, f, p, y)
        return layerwise.backward(net, grad, grad_s, x0, s0, x, trace, passed, needs, found)


_LISTS = "Tensor[] first, Tensor[] second, Tensor[] step, Tensor[] theta, Tensor[] gain, Tensor[] blend"


def _network_fake(
    y: Tensor, first: list[Tensor], second: list[Tensor], step: list[Tensor], theta: list[Tensor], gain: list[Tensor],
    blend: list[Tensor], x0: Tensor | None, s0: Tensor | None, form: list[int], keep: bool, record: bool, reuse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    f = NetworkSpec.decode(form)
    m, n = sizes(f, Parameters(first, second))
    x, last, s, trace = (y.new_empty(shape) for shape in _outcome_shapes(f, m, n, y, keep, record))
    return x, last, s, trace, _passed(f, y, n, record)


@operator(
    f"network(Tensor y, {_LISTS}, Tensor? x0, Tensor? s0, int[] form, bool keep, bool record, bool reuse)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _network_fake,
)
def _network(
    y: Tensor, first: list[Tensor], second: list[Tensor], step: list[Tensor], theta: list[Tensor], gain: list[Tensor],
    blend: list[Tensor], x0: Tensor | None, s0: Tensor | None, form: list[int], keep: bool, record: bool, reuse: bool,
) -> Outcome:  # fmt: skip
    """All results, as :class:`Outcome`.

    keep: return every layer, and not the last. record: return every layer and what the gradient needs. reuse: matrices
    packed by an earlier call may be used again.
    """
    f, p = NetworkSpec.decode(form), Parameters(first, second, step, theta, gain, blend)
    require(fits(f, p, y, x0, s0), "network")
    y, p = y.contiguous(), Parameters(*map(contiguous, p))
    x0, s0 = (None if t is None else t.contiguous() for t in (x0, s0))
    if (module := kernels(y)) is not None:
        return _run_on_device(module, f, p, y, x0, s0, keep, record, reuse)
    native = bound(f, p)
    return run(native, packed(native, f, p) if reuse else None, f, *sizes(f, p), y, x0, s0, keep, record)


def _gradient_shapes(form: NetworkSpec, p: Parameters, y: Tensor, needs: Sequence[bool]) -> list[Sequence[int]]:
    m, n = sizes(form, p)
    shapes: tuple[Sequence[int], ...] = (y.shape, (y.shape[0], n), (y.shape[0], form.state_size(m, n)))
    out = [shape for need, shape in zip(needs[:3], shapes, strict=True) if need]
    for need, group in zip(needs[3:], p, strict=True):
        out += [t.shape for t in group] if need else []
    return out


def run_backward(
    native: Any, f: NetworkSpec, p: Parameters, grad: Tensor, grad_s: Tensor | None, y: Tensor, x0: Tensor | None,
    s0: Tensor | None, x: Tensor, trace: Tensor, passed: Tensor, needs: Sequence[bool],
) -> list[Tensor]:  # fmt: skip
    """The gradients of :func:`run` that ``needs`` asks for, as the operator returns them. All is contiguous."""
    out = empty(_gradient_shapes(f, p, y, needs), y.dtype)
    left = iter(addresses(out))
    inputs = tuple(next(left) if need else 0 for need in needs[:3])
    grads = tuple(
        ([next(left) for _ in group] if need else [], group[0].numel() if group else 0)
        for need, group in zip(needs[3:], p, strict=True)
    )
    known = (y.data_ptr(), address(x0), address(s0), x.data_ptr(), _address_of_any(trace))
    native.backward(
        y.shape[0], torch.get_num_threads(), known, grad.data_ptr(), grad.dim() == 3, address(grad_s),
        _address_of_any(passed), inputs, grads,
    )  # fmt: skip
    return out


def _backward_fake(
    grad: Tensor, grad_s: Tensor | None, y: Tensor, first: list[Tensor], second: list[Tensor], step: list[Tensor],
    theta: list[Tensor], gain: list[Tensor], blend: list[Tensor], x0: Tensor | None, s0: Tensor | None, x: Tensor,
    trace: Tensor, passed: Tensor, form: list[int], needs: list[bool],
) -> list[Tensor]:  # fmt: skip
    f, p = NetworkSpec.decode(form), Parameters(first, second, step, theta, gain, blend)
    return [y.new_empty(shape) for shape in _gradient_shapes(f, p, y, needs)]


@operator(
    f"network_backward(Tensor grad, Tensor? grad_s, Tensor y, {_LISTS}, Tensor? x0, Tensor? s0, Tensor x,"
    " Tensor trace, Tensor passed, int[] form, bool[] needs) -> Tensor[]",
    _backward_fake,
)
def _network_backward(
    grad: Tensor, grad_s: Tensor | None, y: Tensor, first: list[Tensor], second: list[Tensor], step: list[Tensor],
    theta: list[Tensor], gain: list[Tensor], blend: list[Tensor], x0: Tensor | None, s0: Tensor | None, x: Tensor,
    trace: Tensor, passed: Tensor, form: list[int], needs: list[bool],
) -> list[Tensor]:  # fmt: skip
    """The gradients that ``needs`` asks for, of (y, x0, s0, first..., second..., ..., blend...) in that order."""
    f, p = NetworkSpec.decode(form), Parameters(first, second, step, theta, gain, blend)
    require(fits(f, p, y, x0, s0), "network_backward")
    m, n = sizes(f, p)
    batch, records = y.shape[0], f.saved_size(m, n, is_host(y))
    require(
        x.shape == (f.layers, batch, n) and grad.shape in (x.shape, x.shape[1:]) and len(needs) == 9
        and trace.shape == (f.layers, batch, records) and x.is_contiguous() and trace.is_contiguous()
        and passed.shape == (f.layers, batch, n // f.group if any(f.support_sizes) else 0) and passed.is_contiguous()
        and passed.dtype == torch.uint8 and passed.device == y.device
        and (grad_s is None or grad_s.shape == (batch, f.state_size(m, n)))
        and have_same_dtype_and_device(y, x, grad, grad_s, trace),
        "network_backward",
    )  # fmt: skip
    grad, y, p = grad.contiguous(), y.contiguous(), Parameters(*map(contiguous, p))
    x0, s0, grad_s = (None if t is None else t.contiguous() for t in (x0, s0, grad_s))
    if (module := kernels(y)) is not None:
        return _backward_on_device(module, f, p, grad, grad_s, y, x0, s0, x, trace, passed, needs)
    return run_backward(bound(f, p), f, p, grad, grad_s, y, x0, s0, x, trace, passed, needs)


@dataclass(frozen=True, slots=True)
class Call:
    """A network that records a gradient.

    native: the network bound to the parameters, which are contiguous, for a way past the operators; else None.
    """

    form: NetworkSpec
    counts: Sequence[int]
    keep: bool
    native: Any = None


def _save(
    ctx: Any, call: Call, y: Tensor, x0: Tensor | None, s0: Tensor | None, parameters: Sequence[Tensor], out: Outcome
) -> None:
    # Besides the arguments x is nearly all that the gradient needs: its zeros are the mask of every layer.
    ctx.save_for_backward(y, x0, s0, out.x, out.trace, out.passed, *parameters)
    ctx.call = call
    ctx.set_materialize_grads(False)


def _gradients(
    ctx: Any, grad: Tensor | None, grad_s: Tensor | None, needs_inputs: Sequence[bool], needs: Sequence[bool]
) -> list[Tensor | None]:
    """Those of y, x0, s0 and each parameter; None where it is not needed."""
    call: Call = ctx.call
    y, x0, s0, x, trace, passed, *parameters = ctx.saved_tensors
    p = Parameters.split(parameters, call.counts)
    grad = torch.zeros_like(x[-1]) if grad is None else grad
    if torch.is_grad_enabled() or is_batched(grad, grad_s):
        return plain_gradients(call.form, call.counts, y, x0, s0, parameters, grad, grad_s, [*needs_inputs, *needs])
    groups = [any(group) for group in Parameters.split(needs, call.counts)]
    wanted = [*needs_inputs, *groups]
    # Parameters may have moved since, or come back from elsewhere.
    if call.native is None or is_tracing() or not call.native.is_at(parameters):
        found = iter(_network_backward(grad, grad_s, y, *p, x0, s0, x, trace, passed, call.form.encode(), wanted))
    else:
        grad, grad_s = grad.contiguous(), None if grad_s is None else grad_s.contiguous()
        found = iter(run_backward(call.native, call.form, p, grad, grad_s, y, x0, s0, x, trace, passed, wanted))
    out: list[Tensor | None] = []
    for need, size in zip(wanted, (1, 1, 1, *call.counts), strict=True):
        out += [next(found) if need else None for _ in range(size)]
    return out


class _Network(torch.autograd.Function):
    """The operator and its gradient for calls that nothing watches: with less around it than what torch registers."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, y: Tensor, x0: Tensor | None, s0: Tensor | None, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        f, p = call.form, Parameters.split(parameters, call.counts)
        if call.native is None:
            with below_autograd():
                out = Outcome(*_network(y, *p, x0, s0, f.encode(), call.keep, True, False))
        else:
            out = run(call.native, None, f, *sizes(f, p), y, x0, s0, call.keep, True)
        _save(ctx, call, y, x0, s0, parameters, out)
        return out.x if call.keep else out.last, out.s

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_s: Tensor | None) -> tuple[Tensor | None, ...]:
        needs = ctx.needs_input_grad
        return None, *_gradients(ctx, grad, grad_s, needs[1:4], needs[4:])


def _set_up(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    y, *groups, x0, s0, form, keep, _, _ = inputs
    p = Parameters(*groups)
    _save(
        ctx,
        Call(NetworkSpec.decode(form), p.counts(), keep),
        y,
        x0,
        s0,
        [t for group in p for t in group],
        Outcome(*output),
    )


def _backward(
    ctx: Any, grad_x: Tensor | None, grad_last: Tensor | None, grad_s: Tensor | None, *_: Tensor | None
) -> tuple[Any, ...]:
    call: Call = ctx.call
    require(call.form.layers == ctx.saved_tensors[3].shape[0], "network (without record)")
    need_y, *groups, need_x0, need_s0, _, _, _, _ = ctx.needs_input_grad
    needs = [need for group in groups for need in group]
    grad = grad_x if call.keep else grad_last
    out = _gradients(ctx, grad, grad_s, [need_y, need_x0, need_s0], needs)
    grads = Parameters.split(out[3:], call.counts)
    return out[0], *grads, out[1], out[2], None, None, None, None


differentiate(_network, _backward, _set_up)


def recorded(
    call: Call, y: Tensor, x0: Tensor | None, s0: Tensor | None, parameters: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """The last layer or, with ``keep``, all of them; and the second state: differentiable."""
    if is_tracing():
        p = Parameters.split(parameters, call.counts)
        x, last, s, _, _ = _network(y, *p, x0, s0, call.form.encode(), call.keep, True, False)
        return x if call.keep else last, s
    x, s = _Network.apply(call, y, x0, s0, *parameters)
    return x, s


def _part(
    form: NetworkSpec, p: Parameters, y: Tensor, x0: Tensor | None, s0: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor]:
    return recorded(Call(form, p.counts(), keep), y, x0, s0, [t for group in p for t in group])


def network(
    form: NetworkSpec, p: Parameters, y: Tensor, x0: Tensor | None, s0: Tensor | None, keep: bool, segment: int = 0
) -> tuple[Tensor, Tensor]:
    """The last layer or, with ``keep``, all of them; and the second state after the last.

    segment: with gradients, keep every so many layers only; 0 keeps all.
    """
    if is_jit_tracing():  # for programs that run with gradients and without
        x, last, s, _, _ = _network(y, *map(list, p), x0, s0, form.encode(), keep, True, True)
        return x if keep else last, s
    if not differentiable(y, x0, s0, *(t for group in p for t in group)):
        # Compiled code may replay CUDA graphs, which own the memory that they allocate.
        reuse = y.device.type == "cpu" or not torch.compiler.is_compiling()
        with below_autograd():
            x, last, s, _, _ = _network(y, *map(list, p), x0, s0, form.encode(), keep, False, reuse)
        return x if keep else last, s
    if not 0 < segment < form.layers:
        return _part(form, p, y, x0, s0, keep)
    x, s = x0, s0
    for first in range(0, form.layers, segment):
        last = min(first + segment, form.layers)
        part = form.part(first, last), p.part(first, last)
        x, s = checkpoint(_part, *part, y, x, s, False, use_reentrant=False, preserve_rng_state=False)
        s = s if form.scheme != "proximal_gradient" else None
    return x, y.new_empty(y.shape[0], 0) if s is None else s
