"""All layers of a network in one call: the operators, their fakes and their gradients, for every device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .backends import require_backend, saves_residuals
from .library import below_autograd, differentiate, operator, require
from .network_call import (
    Outcome,
    Spec,
    counts_of,
    decode,
    encode,
    gradient_shapes,
    outcome_shapes,
    parameters_of,
    split,
)
from .plain_gradients import plain_gradients
from .tensors import (
    contiguous,
    contiguous_or_none,
    differentiable,
    have_same_dtype_and_device,
    is_batched,
    is_jit_tracing,
    is_tracing,
)


def _network_fake(
    y: Tensor, x0: Tensor | None, s0: Tensor | None, parameters: list[Tensor], spec: list[int], return_layers: bool,
    save_for_backward: bool, use_cache: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    of, counts = decode(spec)
    p = parameters_of(of, parameters, counts)
    *shapes, selected = outcome_shapes(of, p, y.shape[0], return_layers, save_for_backward, saves_residuals(y))
    return *(y.new_empty(shape) for shape in shapes), y.new_empty(selected, dtype=torch.uint8)


@operator(
    "network(Tensor y, Tensor? x0, Tensor? s0, Tensor[] parameters, int[] spec, bool return_layers,"
    " bool save_for_backward, bool use_cache) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _network_fake,
)
def _network(
    y: Tensor, x0: Tensor | None, s0: Tensor | None, parameters: list[Tensor], spec: list[int], return_layers: bool,
    save_for_backward: bool, use_cache: bool,
) -> Outcome:  # fmt: skip
    """An :class:`Outcome`.

    return_layers: return every layer, and not the last. save_for_backward: return every layer and all else that the
    gradient needs. use_cache: take matrices that an earlier call has packed, and keep those that this one packs.
    """
    of, counts = decode(spec)
    require(sum(counts) == len(parameters), "network")
    p = parameters_of(of, contiguous(parameters), counts)
    require(of.fits(p, y, x0, s0), "network")
    network = require_backend(y, "network").network(of, p)
    require(network is not None, "network")
    x0, s0 = contiguous_or_none(x0), contiguous_or_none(s0)
    found: Outcome = network.forward(y.contiguous(), x0, s0, return_layers, save_for_backward, use_cache)
    return found


def _backward_fake(
    grad: Tensor, grad_s: Tensor | None, y: Tensor, x0: Tensor | None, s0: Tensor | None, parameters: list[Tensor],
    x: Tensor, saved: Tensor, selected: Tensor, spec: list[int], needs: list[bool],
) -> list[Tensor]:  # fmt: skip
    of, counts = decode(spec)
    shapes = gradient_shapes(of, parameters_of(of, parameters, counts), y, needs)
    return [y.new_empty(shape) for shape in shapes]


@operator(
    "network_backward(Tensor grad, Tensor? grad_s, Tensor y, Tensor? x0, Tensor? s0, Tensor[] parameters, Tensor x,"
    " Tensor saved, Tensor selected, int[] spec, bool[] needs) -> Tensor[]",
    _backward_fake,
)
def _network_backward(
    grad: Tensor, grad_s: Tensor | None, y: Tensor, x0: Tensor | None, s0: Tensor | None, parameters: list[Tensor],
    x: Tensor, saved: Tensor, selected: Tensor, spec: list[int], needs: list[bool],
) -> list[Tensor]:  # fmt: skip
    """The gradients that ``needs`` asks for: of y, x0, s0, and of the tensors of each list of parameters."""
    of, counts = decode(spec)
    require(sum(counts) == len(parameters), "network_backward")
    p = parameters_of(of, contiguous(parameters), counts)
    require(of.fits(p, y, x0, s0), "network_backward")
    n, batch = of.sizes(p)[1], y.shape[0]
    wanted = outcome_shapes(of, p, batch, True, True, saves_residuals(y))
    require(
        x.shape == wanted[0] and grad.shape in (wanted[0], (batch, n)) and len(needs) >= 3
        and of.can_differentiate(needs[3:]) and saved.shape == wanted[3] and selected.shape == wanted[4]
        and all(t.is_contiguous() for t in (x, saved, selected))
        and selected.dtype == torch.uint8 and selected.device == y.device
        and (grad_s is None or grad_s.shape == wanted[2]) and have_same_dtype_and_device(y, x, grad, grad_s, saved),
        "network_backward",
    )  # fmt: skip
    network = require_backend(y, "network_backward").network(of, p)
    require(network is not None, "network_backward")
    x0, s0, grad_s = map(contiguous_or_none, (x0, s0, grad_s))
    found: list[Tensor] = network.backward(grad.contiguous(), grad_s, y.contiguous(), x0, s0, x, saved, selected, needs)
    return found


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a network that records a gradient.

    native: the network of a backend over the parameters, which are contiguous, to bypass the operators; else None.
    """

    spec: Spec
    counts: Sequence[int]
    return_layers: bool
    native: Any = None


def _save(
    ctx: Any, call: Call, y: Tensor, x0: Tensor | None, s0: Tensor | None, parameters: Sequence[Tensor], out: Outcome
) -> None:
    # The zeros of x are the mask of every layer, so the gradient needs little besides the arguments and x.
    ctx.save_for_backward(y, x0, s0, out.x, out.saved, out.selected, *parameters)
    ctx.call = call
    ctx.set_materialize_grads(False)


def _gradients(
    ctx: Any, grad: Tensor | None, grad_s: Tensor | None, needs_inputs: Sequence[bool], needs: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients of y, x0, s0 and each parameter; None for those that nobody needs."""
    call: Call = ctx.call
    y, x0, s0, x, saved, selected, *parameters = ctx.saved_tensors
    require(call.spec.layers == x.shape[0], "network (without save_for_backward)")
    grad = torch.zeros_like(x[-1]) if grad is None else grad
    if torch.is_grad_enabled() or is_batched(grad, grad_s):
        return plain_gradients(call.spec, call.counts, y, x0, s0, parameters, grad, grad_s, [*needs_inputs, *needs])
    wanted = [*needs_inputs, *(any(group) for group in split(needs, call.counts))]
    # Parameters may have moved since the forward pass, or come back from elsewhere.
    if call.native is None or is_tracing() or not call.native.is_at(parameters):
        numbers = encode(call.spec, call.counts)
        found = iter(_network_backward(grad, grad_s, y, x0, s0, parameters, x, saved, selected, numbers, wanted))
    else:
        grad, grad_s = grad.contiguous(), contiguous_or_none(grad_s)
        found = iter(call.native.backward(grad, grad_s, y, x0, s0, x, saved, selected, wanted))
    out: list[Tensor | None] = []
    for need, size in zip(wanted, (1, 1, 1, *call.counts), strict=True):
        out += [next(found) if need else None for _ in range(size)]
    return out


class _Network(torch.autograd.Function):
    """The operator and its gradient for calls that torch does not trace: faster than what torch registers."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, y: Tensor, x0: Tensor | None, s0: Tensor | None, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        if call.native is None:
            numbers = encode(call.spec, call.counts)
            with below_autograd():
                out = Outcome(*_network(y, x0, s0, list(parameters), numbers, call.return_layers, True, False))
        else:
            out = call.native.forward(y, x0, s0, call.return_layers, True, False)
        _save(ctx, call, y, x0, s0, parameters, out)
        return out.x if call.return_layers else out.last, out.s

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, grad_s: Tensor | None) -> tuple[Tensor | None, ...]:
        needs = ctx.needs_input_grad
        return None, *_gradients(ctx, grad, grad_s, needs[1:4], needs[4:])


def _set_up(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    y, x0, s0, parameters, numbers, return_layers, _, _ = inputs
    _save(ctx, Call(*decode(numbers), return_layers), y, x0, s0, parameters, Outcome(*output))


def _backward(
    ctx: Any, grad_x: Tensor | None, grad_last: Tensor | None, grad_s: Tensor | None, *_: Tensor | None
) -> tuple[Any, ...]:
    need_y, need_x0, need_s0, needs, *_others = ctx.needs_input_grad
    grad = grad_x if ctx.call.return_layers else grad_last
    of_y, of_x0, of_s0, *of_parameters = _gradients(ctx, grad, grad_s, [need_y, need_x0, need_s0], needs)
    return of_y, of_x0, of_s0, of_parameters, None, None, None, None


differentiate(_network, _backward, _set_up)


def differentiable_network(
    call: Call, y: Tensor, x0: Tensor | None, s0: Tensor | None, parameters: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """The last layer, or every layer with ``return_layers``, and the second state, with a gradient."""
    if is_tracing():
        numbers = encode(call.spec, call.counts)
        x, last, s, _, _ = _network(y, x0, s0, list(parameters), numbers, call.return_layers, True, False)
        return x if call.return_layers else last, s
    x, s = _Network.apply(call, y, x0, s0, *parameters)
    return x, s


def network(
    spec: Spec, p: Any, y: Tensor, x0: Tensor | None, s0: Tensor | None, return_layers: bool, segment: int = 0
) -> tuple[Tensor, Tensor]:
    """The last layer, or every layer with ``return_layers``, and the second state after the last.

    segment: with gradients, keep the output of every ``segment``-th layer only; 0 keeps every layer.
    """
    counts, parameters = counts_of(p), [t for group in p for t in group]
    if is_jit_tracing():  # for programs that run with gradients and without
        x, last, s, _, _ = _network(y, x0, s0, parameters, encode(spec, counts), return_layers, True, True)
        return x if return_layers else last, s
    if not differentiable(y, x0, s0, *parameters):
        # Compiled code may replay CUDA graphs, which own the memory that they allocate.
        use_cache = y.device.type == "cpu" or not torch.compiler.is_compiling()
        with below_autograd():
            x, last, s, _, _ = _network(y, x0, s0, parameters, encode(spec, counts), return_layers, False, use_cache)
        return x if return_layers else last, s
    if not 0 < segment < spec.layers:
        return differentiable_network(Call(spec, counts, return_layers), y, x0, s0, parameters)
    return _in_segments(spec, p, y, x0, s0, segment)


def _in_segments(
    spec: Any, p: Any, y: Tensor, x0: Tensor | None, s0: Tensor | None, segment: int
) -> tuple[Tensor, Tensor]:
    """The last layer and the second state; the backward pass computes the layers of a segment again."""

    def run(part: Any, p: Any, x: Tensor | None, s: Tensor | None) -> tuple[Tensor, Tensor]:
        return differentiable_network(Call(part, counts_of(p), False), y, x, s, [t for group in p for t in group])

    x, s = x0, s0
    for start in range(0, spec.layers, segment):
        stop = min(start + segment, spec.layers)
        part, own = spec.part(start, stop), p.part(start, stop)
        x, s = checkpoint(run, part, own, x, s, use_reentrant=False, preserve_rng_state=False)
        s = s if s is not None and s.shape[-1] else None
    assert x is not None
    return x, y.new_empty(y.shape[0], 0) if s is None else s
