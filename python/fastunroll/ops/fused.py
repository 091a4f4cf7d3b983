"""Small networks on a device: all layers in one launch, with parameters laid out for it beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from . import dispatch
from .cache import cached
from .device import is_capturing, where
from .dispatch import PRECISIONS, Plan, numbers, padded, precision_of
from .register import address
from .spec import NetworkSpec, Parameters, sizes


class Matrices:
    """The matrices of a network as a kernel reads them: padded, first and second.

    With ``gradient`` for the kernel of gradients, which goes through the matrices the other way round.
    """

    def __init__(self, module: Any, f: NetworkSpec, p: Parameters, gradient: bool = False) -> None:
        like, (m, n) = p.W1[0], sizes(f, p)
        wide, long = padded(module, m), padded(module, n)
        if f.is_gradient_step:
            to_m, to_n = p.W1, p.W2 or p.W1
            if gradient:
                to_m, to_n = to_n, to_m
            self.first = like.new_empty(len(to_m), wide, long)
            self.second = like.new_empty(len(to_n), long, wide)
            _fill(module, self.first, to_m, (m, n), (n, 1))
            _fill(module, self.second, to_n, (n, m), (1, n))
        elif gradient:
            self.first = like.new_empty(len(p.W2), long, long)
            self.second = self.first[:0]
            _fill(module, self.first, p.W2, (n, n), (1, n))
        else:
            count = max(len(p.W1), len(p.W2))
            self.first = like.new_empty(count, long, wide + long)
            self.second = self.first[:0]
            _fill(module, self.first[..., :wide], [*p.W1] * (count // len(p.W1)), (n, m), (m, 1))
            _fill(module, self.first[..., wide:], [*p.W2] * (count // len(p.W2)), (n, n), (n, 1))


def _fill(module: Any, out: Tensor, tensors: Sequence[Tensor], shape: tuple[int, int], steps: tuple[int, int]) -> None:
    """out[l][r][c] = tensors[l], seen as of this shape with these steps between its elements; else zero."""
    half, like = torch.bfloat16, tensors[0]
    module.pack(
        where(like), like.dtype == half, out.dtype == half, [t.data_ptr() for t in tensors],
        (*shape, *steps, *out.shape[1:], *out.stride()[:2]), out.data_ptr(),
    )  # fmt: skip


class Layout:
    """All parameters of a network as a kernel reads them: its matrices, and all others in single precision."""

    def __init__(self, module: Any, f: NetworkSpec, p: Parameters, matrices: Matrices) -> None:
        self._module = module
        self.first, self.second = matrices.first, matrices.second
        m, n = sizes(f, p)
        self.step = self._rows(p.step, m, padded(module, m))
        self.theta = self._rows(p.theta, n // f.group, padded(module, n) // f.group)
        self.gain, self.blend = (self._values(group, f.layers) for group in (p.gain, p.beta))

    def strides(self) -> tuple[int, ...]:
        """Between the layers of matrices, steps and thresholds."""
        arrays = (self.first, self.second, self.step, self.theta)
        return tuple(a.stride(0) if a is not None and len(a) > 1 else 0 for a in arrays)

    def addresses(self) -> tuple[int, ...]:
        return tuple(map(address, (self.first, self.second, self.step, self.theta, self.gain, self.blend)))

    def _rows(self, group: Sequence[Tensor], columns: int, padded: int) -> Tensor | None:
        """A row for each tensor, of one value over and over or of as many as there are columns."""
        if not group:
            return None
        out = group[0].new_empty(len(group), 1, padded, dtype=torch.float32)
        _fill(self._module, out, group, (1, columns), (0, 0 if group[0].numel() == 1 else 1))
        return out

    def _values(self, group: Sequence[Tensor], layers: int) -> Tensor | None:
        """A value for each layer."""
        if not group:
            return None
        out = group[0].new_empty(layers, 1, 1, dtype=torch.float32)
        if len(group) == layers and group[0].numel() == 1:
            _fill(self._module, out, group, (1, 1), (0, 0))
        else:
            _fill(self._module, out.view(1, 1, layers), group, (1, layers), (0, 0 if group[0].numel() == 1 else 1))
        return out


class _Steps:
    """How many steps optimisers have taken: fused ones change tensors without moving their version counters."""

    count = 0
    watched = False

    @classmethod
    def now(cls) -> int:
        if not cls.watched:
            cls.watched = True
            register_optimizer_step_post_hook(cls._taken)
        return cls.count

    @classmethod
    def _taken(cls, *_: Any) -> None:
        cls.count += 1


class Resident:
    """A network laid out on a device for calls without gradients. Each stream has a layout: none waits for another."""

    __slots__ = ("_layouts", "_module", "_plans", "_steps", "form", "parameters")

    def __init__(self, module: Any, f: NetworkSpec, p: Parameters) -> None:
        self._module, self.form, self.parameters = module, f, p
        self._steps = _Steps.now()
        self._layouts: dict[tuple[int, int], Layout] = {}
        self._plans: dict[tuple[int, str | None], Plan | None] = {}

    def is_current(self) -> bool:
        """Whether no optimiser has taken a step since."""
        return self._steps == _Steps.count

    def plan(self, y: Tensor) -> Plan | None:
        """The kernel for a batch."""
        key = y.shape[0], precision_of(y)
        if key not in self._plans:
            self._plans[key] = dispatch.plan(self._module, self.form, self.parameters, y)
        return self._plans[key]

    def layout(self) -> Layout:
        """Kept, but for a CUDA graph that is being captured: that lays out the weights of each replay."""
        like = self.parameters.W1[0]
        if is_capturing(like.device):
            return _laid_out(self._module, self.form, self.parameters)
        stream = where(like)
        if stream not in self._layouts:
            self._layouts[stream] = _laid_out(self._module, self.form, self.parameters)
        return self._layouts[stream]

    def run(self, y: Tensor, x0: Tensor | None, keep: bool) -> Tensor | None:
        """All layers, or the last, of contiguous batches (batch, m); None if no kernel can run them."""
        chosen = self.plan(y)
        if chosen is None:
            return None
        f, (_, n) = self.form, sizes(self.form, self.parameters)
        out = y.new_empty((f.layers, y.shape[0], n) if keep else (y.shape[0], n))
        nothing = y.new_empty(0)
        x, last = (out, nothing) if keep else (nothing, out)
        forward(self._module, chosen, f, self.parameters, self.layout(), y, x0, None, x, last, nothing, nothing)
        return out


def _laid_out(module: Any, f: NetworkSpec, p: Parameters) -> Layout:
    return Layout(module, f, p, Matrices(module, f, p))


def layout(module: Any, f: NetworkSpec, p: Parameters, reuse: bool) -> Layout:
    """With ``reuse`` over the matrices that an earlier call has laid out, if these have not changed since."""
    like = p.W1[0]
    if not reuse or is_capturing(like.device):
        return _laid_out(module, f, p)
    kind = "laid out", f.is_gradient_step, len(p.W1), where(like), _Steps.now()
    return Layout(module, f, p, cached(kind, [*p.W1, *p.W2], lambda: Matrices(module, f, p)))


def forward(
    module: Any, chosen: Plan, f: NetworkSpec, p: Parameters, parameters: Layout, y: Tensor, x0: Tensor | None,
    s0: Tensor | None, x: Tensor, last: Tensor, s: Tensor, trace: Tensor,
) -> None:  # fmt: skip
    """Fills what of x, last, s and the trace has room for values."""
    x0, s0 = _aligned_or_none(x0), _aligned_or_none(s0)
    outcome = (t.data_ptr() if t.numel() else 0 for t in (x, last, s, trace))
    module.fused_network(
        where(y), PRECISIONS.index(chosen.precision), chosen.shape, numbers(module, f, p, y),
        parameters.strides(), parameters.addresses(), (y.data_ptr(), address(x0), address(s0), *outcome),
    )  # fmt: skip


def _aligned(t: Tensor) -> Tensor:
    """At an address that 16 bytes can be read from."""
    return t if t.data_ptr() % 16 == 0 else t.clone()


def _aligned_or_none(t: Tensor | None) -> Tensor | None:
    return None if t is None else _aligned(t)


@dataclass(frozen=True)
class Gradients:
    """What the kernel of gradients finds: of z, (K, batch, n); coupled, W dz, (K, batch, m); of x0; and what is left to
    be summed over tiles of samples, of theta (tiles, K, n / group), of blend and, times it, of gain (tiles, K, parts).
    """

    dz: Tensor
    h: Tensor | None
    start: Tensor | None
    theta: Tensor | None
    blend: Tensor | None
    gain: Tensor | None


_SEGMENT, _SEGMENT_FROM = 4, 1 << 24  # layers at a time, where iterates have more values than that


def gradients(
    module: Any, chosen: Plan, f: NetworkSpec, p: Parameters, y: Tensor, grad: Tensor, x0: Tensor | None, x: Tensor,
    trace: Tensor, needs: Sequence[bool],
) -> Iterator[tuple[int, Gradients]]:  # fmt: skip
    """From the last layer to the first, all at once or, to need less memory, some at a time: the first of them too."""
    segment = _SEGMENT if f.scheme == "proximal_gradient" and x.numel() >= _SEGMENT_FROM else f.layers
    above: Tensor | None = None
    for last in range(f.layers, 0, -segment):
        first = max(0, last - segment)
        part, own = f.part(first, last), p.part(first, last)
        entering = grad[first:last] if grad.dim() == 3 else grad
        if above is not None and grad.dim() == 3:
            entering = torch.cat([entering[:-1], (entering[-1] + above).unsqueeze(0)])
        elif above is not None:
            entering = above
        start = x[first - 1] if first else x0
        needed = [needs[0], needs[1] or first > 0, *needs[2:]]
        found = _gradients_of(module, chosen, part, own, y, entering, start, x[first:last], trace[first:last], needed)
        above = found.start
        yield first, found


def _gradients_of(
    module: Any, chosen: Plan, f: NetworkSpec, p: Parameters, y: Tensor, grad: Tensor, x0: Tensor | None, x: Tensor,
    trace: Tensor, needs: Sequence[bool],
) -> Gradients:  # fmt: skip
    """All layers in one launch; ``needs`` as of the operator."""
    parameters = Layout(module, f, p, Matrices(module, f, p, gradient=True))
    m, n = sizes(f, p)
    batch = y.shape[0]
    need_y, need_x0, _, need_first, need_second, need_step, need_theta, need_gain, need_blend = needs
    grad, x0 = _aligned(grad), _aligned_or_none(x0)
    tiles = -(-batch // (16 * chosen.tall))

    def sums(columns: int, needed: bool) -> Tensor | None:
        return y.new_empty(tiles, f.layers, columns, dtype=torch.float32) if needed else None

    dz = torch.empty_like(x)
    inner = f.is_gradient_step and (need_y or need_step or need_first or need_second)
    h = y.new_empty(f.layers, batch, m) if inner else None
    start = y.new_empty(batch, n) if need_x0 else None
    theta = sums(padded(module, n), need_theta)
    parts = chosen.blocks * module.fused_warps
    blend, gain = sums(parts, need_blend and f.scheme != "proximal_gradient"), sums(parts, need_gain)
    module.fused_gradient(
        where(y), PRECISIONS.index(chosen.precision), chosen.shape, numbers(module, f, p, y),
        parameters.strides(), parameters.addresses(), grad.dim() == 3,
        (x.data_ptr(), address(x0), address(trace), grad.data_ptr(), dz.data_ptr(), address(h), address(start),
         address(theta), address(blend), address(gain)),
    )  # fmt: skip
    return Gradients(dz, h, start, None if theta is None else theta[..., : n : f.group], blend, gain)
