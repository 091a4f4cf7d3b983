"""All layers of a network in one call, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from .. import _fastunroll
from .memory import empty
from .packed import packed
from .register import address, addresses, alike, contiguous, differentiable, is_double, operator, require

STATES = ("none", "momentum", "splitting", "onsager")
SHRINKAGES = ("none", "soft", "nonnegative")


@dataclass(frozen=True)
class Form:
    """What the layers of a network compute, but for their parameters; :func:`fastunroll.reference.network` says it.

    passing: for each layer how many of the largest pass unshrunk; none if empty.
    """

    layers: int
    coupled: bool = False
    state: str = "none"
    shrinkage: str = "soft"
    group: int = 1
    passing: tuple[int, ...] = ()

    def numbers(self) -> list[int]:
        return [
            self.layers, self.coupled, STATES.index(self.state), SHRINKAGES.index(self.shrinkage), self.group,
            *self.passing,
        ]  # fmt: skip

    @staticmethod
    def of(numbers: Sequence[int]) -> Form:
        layers, coupled, state, shrinkage, group, *passing = numbers
        return Form(layers, bool(coupled), STATES[state], SHRINKAGES[shrinkage], group, tuple(passing))

    def of_pairs(self) -> Form:
        """For complex numbers as pairs of reals."""
        return self if self.shrinkage == "none" else replace(self, group=2 * self.group)

    def part(self, first: int, last: int) -> Form:
        """The layers first … last − 1."""
        return replace(self, layers=last - first, passing=self.passing[first:last])

    def state_size(self, m: int, n: int) -> int:
        return {"none": 0, "onsager": m}.get(self.state, n)

    def trace_size(self, m: int, n: int) -> int:
        return {"onsager": m, "splitting": 2 * n}.get(self.state, 0)


class Parameters(NamedTuple):
    """Lists with one entry, shared by all layers, one for each layer, or none."""

    first: Sequence[Tensor]  # direct W₁ (n, m); coupled A (m, n)
    second: Sequence[Tensor]  # direct W₂ (n, n); coupled W (m, n), A if not given
    step: Sequence[Tensor] = ()  # 1 or m values
    theta: Sequence[Tensor] = ()  # 1 or n / group values
    gain: Sequence[Tensor] = ()  # 1 value a layer, or one tensor with all of them
    blend: Sequence[Tensor] = ()  # as gain

    @staticmethod
    def split(values: Sequence[Any], counts: Sequence[int]) -> Parameters:
        """From one sequence."""
        lists, at = [], 0
        for count in counts:
            lists.append(list(values[at : at + count]))
            at += count
        return Parameters(*lists)

    def counts(self) -> list[int]:
        return [len(group) for group in self]

    def part(self, first: int, last: int) -> Parameters:
        own = [group if len(group) < 2 else group[first:last] for group in self]
        own[4:] = [
            [t[first:last]] if len(own_group) == 1 and (t := own_group[0]).numel() > 1 else own_group
            for own_group in own[4:]
        ]
        return Parameters(*own)


def sizes(form: Form, p: Parameters) -> tuple[int, int]:
    """(m, n)"""
    rows, columns = p.first[0].shape
    return (rows, columns) if form.coupled else (columns, rows)


def fits(form: Form, p: Parameters, y: Tensor, x0: Tensor | None, s0: Tensor | None) -> bool:
    """Whether the arguments of an operator go together."""
    if not (form.layers > 0 and len(p.first) > 0 and p.first[0].dim() == 2):
        return False
    m, n = sizes(form, p)
    batch = y.shape[0]
    second = (m, n) if form.coupled else (n, n)
    one = {1, form.layers}  # one value a layer, perhaps all in one tensor
    allowed = ({m * n}, {m * n if form.coupled else n * n}, {1, m}, {1, n // form.group}, one, one)
    return (
        y.shape == (batch, m)
        and (x0 is None or x0.shape == (batch, n))
        and (s0 is None or s0.shape == (batch, form.state_size(m, n)))
        and all(w.shape == p.first[0].shape for w in p.first) and all(w.shape == second for w in p.second)
        and all(len(group) in (0, 1, form.layers) for group in p)
        and all(len({t.numel() for t in group}) < 2 and group[0].numel() in a
                for group, a in zip(p, allowed, strict=True) if group)
        and (len(p.second) > 0 or form.coupled) and (form.state != "onsager" or (form.coupled and not p.step))
        and (form.group == 1 and not any(form.passing) if form.shrinkage == "none" else len(p.theta) > 0)
        and (form.shrinkage != "nonnegative" or form.group == 1)
        and len(form.passing) in (0, form.layers) and min(form.passing, default=0) >= 0
        and form.group > 0 and n % form.group == 0
        and (form.state not in ("momentum", "splitting") or len(p.blend) > 0)
        and alike(y, x0, s0, *(t for group in p for t in group))
    )  # fmt: skip


def bound(form: Form, p: Parameters) -> Any:
    """The native network over contiguous parameters; good while they live."""
    m, n = sizes(form, p)
    arrays = tuple((addresses(group), group[0].numel() if group else 0) for group in p)
    numbers = (
        form.layers, m, n, form.coupled, form.state == "momentum", form.state == "splitting", form.state == "onsager",
        SHRINKAGES.index(form.shrinkage), form.group,
    )  # fmt: skip
    return _fastunroll.Network(is_double(p.first[0]), numbers, form.passing, arrays)


_LISTS = "Tensor[] first, Tensor[] second, Tensor[] step, Tensor[] theta, Tensor[] gain, Tensor[] blend"


def _shapes(
    form: Sequence[int], y: Tensor, first: Sequence[Tensor], keep: bool, record: bool
) -> tuple[tuple[int, ...], ...]:
    """Of x, the second state and the trace."""
    f, batch = Form.of(form), y.shape[0]
    m, n = sizes(f, Parameters(first, ()))
    return (
        (f.layers, batch, n) if keep else (batch, n),
        (batch, f.state_size(m, n)),
        (f.layers, batch, f.trace_size(m, n) if record else 0),
    )


def _network_fake(
    y: Tensor, first: list[Tensor], second: list[Tensor], step: list[Tensor], theta: list[Tensor], gain: list[Tensor],
    blend: list[Tensor], x0: Tensor | None, s0: Tensor | None, form: list[int], keep: bool, record: bool, reuse: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    shapes = _shapes(form, y, first, keep, record)
    x, s, trace = (y.new_empty(shape) for shape in shapes)
    return x, s, trace


@operator(
    f"network(Tensor y, {_LISTS}, Tensor? x0, Tensor? s0, int[] form, bool keep, bool record, bool reuse)"
    " -> (Tensor, Tensor, Tensor)",
    _network_fake,
)
def _network(
    y: Tensor, first: list[Tensor], second: list[Tensor], step: list[Tensor], theta: list[Tensor], gain: list[Tensor],
    blend: list[Tensor], x0: Tensor | None, s0: Tensor | None, form: list[int], keep: bool, record: bool, reuse: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """x, the second state after the last layer, and the trace that gradients need.

    keep: return every layer. record: make the trace. reuse: matrices packed by an earlier call may be used again.
    """
    f, p = Form.of(form), Parameters(first, second, step, theta, gain, blend)
    require(fits(f, p, y, x0, s0), "network")
    y, p = y.contiguous(), Parameters(*map(contiguous, p))
    x0, s0 = (None if t is None else t.contiguous() for t in (x0, s0))
    x, s, trace = (empty(shape, y.dtype) for shape in _shapes(form, y, first, keep, record))
    native = bound(f, p)
    kind = f"{f.coupled} {len(first)}"
    ready = packed(native, kind, [t for group in p for t in group], len(first) + len(second)) if reuse else None
    (ready.network if ready else native).forward(
        y.shape[0], torch.get_num_threads(), y.data_ptr(), address(x0), address(s0), keep, x.data_ptr(),
        s.data_ptr() if s.numel() else 0, trace.data_ptr() if trace.numel() else 0,
    )  # fmt: skip
    return x, s, trace


def _gradient_shapes(form: Form, p: Parameters, y: Tensor, x: Tensor, needs: Sequence[bool]) -> list[Sequence[int]]:
    shapes: tuple[Sequence[int], ...] = (y.shape, x.shape[1:], (y.shape[0], form.state_size(*sizes(form, p))))
    out = [shape for need, shape in zip(needs[:3], shapes, strict=True) if need]
    for need, group in zip(needs[3:], p, strict=True):
        out += [t.shape for t in group] if need else []
    return out


def _backward_fake(
    grad: Tensor, grad_s: Tensor | None, y: Tensor, first: list[Tensor], second: list[Tensor], step: list[Tensor],
    theta: list[Tensor], gain: list[Tensor], blend: list[Tensor], x0: Tensor | None, s0: Tensor | None, x: Tensor,
    trace: Tensor, form: list[int], needs: list[bool],
) -> list[Tensor]:  # fmt: skip
    f, p = Form.of(form), Parameters(first, second, step, theta, gain, blend)
    return [y.new_empty(shape) for shape in _gradient_shapes(f, p, y, x, needs)]


@operator(
    f"network_backward(Tensor grad, Tensor? grad_s, Tensor y, {_LISTS}, Tensor? x0, Tensor? s0, Tensor x,"
    " Tensor trace, int[] form, bool[] needs) -> Tensor[]",
    _backward_fake,
)
def _network_backward(
    grad: Tensor, grad_s: Tensor | None, y: Tensor, first: list[Tensor], second: list[Tensor], step: list[Tensor],
    theta: list[Tensor], gain: list[Tensor], blend: list[Tensor], x0: Tensor | None, s0: Tensor | None, x: Tensor,
    trace: Tensor, form: list[int], needs: list[bool],
) -> list[Tensor]:  # fmt: skip
    """The gradients that ``needs`` asks for, of (y, x0, s0, first..., second..., ..., blend...) in that order."""
    f, p = Form.of(form), Parameters(first, second, step, theta, gain, blend)
    require(fits(f, p, y, x0, s0), "network_backward")
    m, n = sizes(f, p)
    batch, records = y.shape[0], f.trace_size(m, n)
    require(
        x.shape == (f.layers, batch, n) and grad.shape in (x.shape, x.shape[1:]) and len(needs) == 9
        and trace.shape == (f.layers, batch, records) and x.is_contiguous() and trace.is_contiguous()
        and (grad_s is None or grad_s.shape == (batch, f.state_size(m, n))) and alike(y, x, grad, grad_s, trace),
        "network_backward",
    )  # fmt: skip
    grad, y, p = grad.contiguous(), y.contiguous(), Parameters(*map(contiguous, p))
    x0, s0, grad_s = (None if t is None else t.contiguous() for t in (x0, s0, grad_s))
    out = [empty(shape, y.dtype) for shape in _gradient_shapes(f, p, y, x, needs)]
    left = iter(addresses(out))
    inputs = tuple(next(left) if need else 0 for need in needs[:3])
    grads = tuple(
        ([next(left) for _ in group] if need else [], group[0].numel() if group else 0)
        for need, group in zip(needs[3:], p, strict=True)
    )
    known = (y.data_ptr(), address(x0), address(s0), x.data_ptr(), trace.data_ptr() if trace.numel() else 0)
    bound(f, p).backward(
        batch, torch.get_num_threads(), known, grad.data_ptr(), grad.dim() == 3, address(grad_s), inputs, grads
    )
    return out


class _Network(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, form: Form, keep: bool, counts: tuple[int, ...], y: Tensor, x0: Tensor | None, s0: Tensor | None,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        p = Parameters.split(parameters, counts)
        # x is nearly all that the gradient needs besides the arguments: its zeros are the mask of every layer.
        x, s, trace = _network(y, *p, x0, s0, form.numbers(), True, True, False)
        ctx.save_for_backward(y, x0, s0, x, trace, *parameters)
        ctx.form, ctx.counts = form, counts
        ctx.set_materialize_grads(False)
        return x if keep else x[-1].clone(), s

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, grad_s: Tensor | None) -> tuple[Tensor | None, ...]:
        y, x0, s0, x, trace, *parameters = ctx.saved_tensors
        p = Parameters.split(parameters, ctx.counts)
        groups = Parameters.split(ctx.needs_input_grad[6:], ctx.counts)
        needs = [*ctx.needs_input_grad[3:6], *(any(g) for g in groups)]
        grad = torch.zeros_like(x[-1]) if grad is None else grad
        found = iter(_network_backward(grad, grad_s, y, *p, x0, s0, x, trace, ctx.form.numbers(), needs))
        out: list[Tensor | None] = [None, None, None]
        for need, size in zip(needs, (1, 1, 1, *ctx.counts), strict=True):
            out += [next(found) if need else None for _ in range(size)]
        return tuple(out)


def _whole(
    form: Form, p: Parameters, y: Tensor, x0: Tensor | None, s0: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor]:
    x, s = _Network.apply(form, keep, tuple(p.counts()), y, x0, s0, *(t for group in p for t in group))
    return x, s


def network(
    form: Form, p: Parameters, y: Tensor, x0: Tensor | None, s0: Tensor | None, keep: bool, segment: int = 0
) -> tuple[Tensor, Tensor]:
    """The last layer or, with ``keep``, all of them; and the second state after the last.

    segment: with gradients, keep every so many layers only; 0 keeps all.
    """
    if not differentiable(y, x0, s0, *(t for group in p for t in group)):
        x, s, _ = _network(y, *map(list, p), x0, s0, form.numbers(), keep, False, True)
        return x, s
    if not 0 < segment < form.layers:
        return _whole(form, p, y, x0, s0, keep)
    x, s = x0, s0
    for first in range(0, form.layers, segment):
        last = min(first + segment, form.layers)
        part = form.part(first, last), p.part(first, last)
        x, s = checkpoint(_whole, *part, y, x, s, False, use_reentrant=False, preserve_rng_state=False)
        s = s if form.state != "none" else None
    return x, y.new_empty(y.shape[0], 0) if s is None else s
