"""Networks of any form and size on a device: products by torch, and all that lies between them in one kernel a layer.

csrc/fastunroll_cuda.h says what the kernels do. Here is which products there are, and in which order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from .device import ELEMENTS, where
from .fused import Gradients
from .register import address
from .spec import PROXES, SCHEMES, NetworkSpec, Parameters, sizes


def _of(values: Sequence[Tensor], k: int) -> Tensor:
    return values[min(k, len(values) - 1)]


def _value(values: Sequence[Tensor], k: int) -> Tensor | None:
    """A layer's one value, which may be in a tensor with those of all layers."""
    if not values:
        return None
    if len(values) == 1 and values[0].numel() > 1:
        return values[0].reshape(-1)[k]
    return _of(values, k)


class Layers:
    """The layers of a network over one batch. Everything is contiguous and lies on one device."""

    def __init__(self, module: Any, f: NetworkSpec, p: Parameters, y: Tensor) -> None:
        self.module, self.f, self.p, self.y = module, f, p, y
        self.batch, (self.m, self.n) = y.shape[0], sizes(f, p)
        self.element, self.where = ELEMENTS.index(y.dtype), where(y)
        self.gain: list[Any] = [_value(p.gain, k) for k in range(f.layers)]
        self.blend: list[Any] = [_value(p.beta, k) for k in range(f.layers)]

    def describe(self, k: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """A layer as the kernels want it."""
        f = self.f
        theta = _of(self.p.theta, k) if self.p.theta else None
        numbers = (
            self.m, self.n, f.group, f.support_sizes[k] if f.support_sizes else 0, PROXES.index(f.prox),
            SCHEMES.index(f.scheme), theta.numel() if theta is not None else 0,
        )  # fmt: skip
        return numbers, (address(theta), address(self.gain[k]), address(self.blend[k]))

    def launch(self, kernel: str, *arguments: Any) -> None:
        getattr(self.module, kernel)(self.element, self.where, self.batch, *arguments)

    def matrices(self, k: int) -> tuple[Tensor, Tensor]:
        """W₁ and W₂, or A and W, which a Gram matrix does without."""
        return _of(self.p.W1, k), _of(self.p.W2 or self.p.W1, k)

    def step(self, k: int) -> Tensor | None:
        return _of(self.p.step, k) if self.p.step else None

    def empty(self, *shape: int) -> Tensor:
        return self.y.new_empty(shape)


def first_input(net: Layers, x0: Tensor | None, s0: Tensor | None) -> Tensor | None:
    """v of the first layer; None if it is zero."""
    if s0 is None or net.f.scheme in ("proximal_gradient", "amp"):
        return x0
    if net.f.scheme == "admm":
        return -s0 if x0 is None else x0 - s0
    x = torch.zeros_like(s0) if x0 is None else x0
    return x + net.blend[0] * (x - s0)


def _coupled(net: Layers, k: int, v: Tensor | None, start: Tensor, residual: Tensor) -> tuple[Tensor, Tensor | None]:
    """What is added to v, and by what it is still to be multiplied; fills the residual, start − A v."""
    a, b = net.matrices(k)
    if v is None:
        residual.copy_(start)
    else:
        torch.addmm(start, v, a.mT, alpha=-1, out=residual)
    step = net.step(k)
    if step is not None and step.numel() > 1:
        residual, step = residual * step, None
    return residual if net.f.linear == "gram" else torch.mm(residual, b), step


def forward(
    net: Layers, x0: Tensor | None, s0: Tensor | None, x: Tensor, last: Tensor, s: Tensor, trace: Tensor, passed: Tensor
) -> None:
    """Fills those results that were asked for: every layer, the last, the second state, the trace, what passed."""
    f, y, n = net.f, net.y, net.n
    onsager, splitting, momentum = (f.scheme == name for name in ("amp", "admm", "fista"))
    v, before = first_input(net, x0, s0), x0
    start = y + s0 if onsager and s0 is not None else y
    if splitting:
        s.zero_() if s0 is None else s.copy_(s0)
    final = x[-1] if len(x) else last
    spare = net.empty(*final.shape) if not len(x) and f.layers > 1 else final
    constant = None
    for k in range(f.layers):
        more = k + 1 < f.layers
        a, b = net.matrices(k)
        z: Tensor | None
        step = residual = None
        if f.is_gradient_step:
            residual = trace[k] if onsager and trace.numel() else torch.empty_like(y)
            z, step = _coupled(net, k, v, start, residual)
            added = v
        else:
            if constant is None or len(net.p.W1) > 1:
                constant = torch.mm(y, a.mT)
            z, added = None if v is None else torch.mm(v, b.mT), constant
        if splitting and trace.numel():
            trace[k, :, :n].zero_() if v is None else trace[k, :, :n].copy_(v)
        out = x[k] if len(x) else final if (f.layers - k) % 2 else spare
        goes_on = net.empty(net.batch, net.m if onsager else n) if more and f.scheme != "proximal_gradient" else out
        moved = trace[k].data_ptr() + n * trace.element_size() if splitting and trace.numel() else 0
        following = net.blend[k + 1] if more and momentum else None
        net.launch(
            "end_layer", *net.describe(k),
            (address(z), address(step), address(added), address(before), address(residual), address(y),
             address(following), address(out), address(goes_on) if goes_on is not out else 0,
             address(s) if s.numel() else 0, moved, passed[k].data_ptr() if passed.numel() else 0),
        )  # fmt: skip
        if momentum and not more:
            s.zero_() if before is None else s.copy_(before)
        before = out
        if onsager:
            v, start = out, goes_on
        else:
            v = goes_on
    if len(x) and len(last):
        last.copy_(final)


class _Sums:
    """Gradients of the tensors of one parameter, which layers add to."""

    def __init__(self, group: Sequence[Tensor], needed: bool) -> None:
        self.size = group[0].numel() if group else 0
        self.tensors = [torch.empty_like(t) for t in group] if needed else []
        self.untouched = [True] * len(self.tensors)

    def __bool__(self) -> bool:
        return bool(self.tensors)

    def add_outer(self, k: int, g: Tensor, x: Tensor | None) -> None:
        """The sum over samples of g xᵀ."""
        if not self.tensors or x is None:
            return
        i = min(k, len(self.tensors) - 1)
        if self.untouched[i]:
            torch.mm(g.mT, x, out=self.tensors[i])
        else:
            self.tensors[i].addmm_(g.mT, x)
        self.untouched[i] = False

    def add_rows(self, k: int, rows: Tensor, divisor: Tensor | None = None) -> None:
        """The sum over samples of what each holds for a layer's values."""
        if not self.tensors:
            return
        found = rows.sum(0) if divisor is None else rows.sum(0) / divisor.reshape(-1)
        i = min(k, len(self.tensors) - 1)
        t = self.tensors[i].view(-1)
        if t.numel() > found.numel():  # one tensor with a value for each layer
            if self.untouched[i]:
                t.zero_()
            t = t[k : k + 1]
            t += found
        elif self.untouched[i]:
            t.copy_(found)
        else:
            t += found
        self.untouched[i] = False

    def done(self) -> list[Tensor]:
        for t, untouched in zip(self.tensors, self.untouched, strict=True):
            if untouched:
                t.zero_()
        return self.tensors


class _Backward:
    def __init__(
        self, net: Layers, grad: Tensor, grad_s: Tensor | None, x0: Tensor | None, s0: Tensor | None, x: Tensor,
        trace: Tensor, passed: Tensor, needs: Sequence[bool],
    ) -> None:  # fmt: skip
        self.net, self.grad, self.x0, self.s0, self.x, self.trace, self.passed = net, grad, x0, s0, x, trace, passed
        self.need_y, self.need_x0, self.need_s0 = needs[:3]
        self.sums = [_Sums(group, need) for group, need in zip(net.p, needs[3:], strict=True)]
        self.first, self.second, self.step, self.theta, self.gain, self.blend = self.sums
        size = net.f.state_size(net.m, net.n)
        self.g_s = net.y.new_zeros(net.batch, size) if grad_s is None else grad_s.clone()
        self.g_y = torch.zeros_like(net.y) if self.need_y else None
        computed = torch.float64 if net.y.dtype == torch.float64 else torch.float32
        self.rows = net.y.new_empty(5, net.batch, 1, dtype=computed)  # gain, blend, bent, share and pull
        # Of a shared W₁ only the sum over layers is multiplied.
        self.summed = None if net.f.is_gradient_step or len(net.p.W1) > 1 else net.y.new_zeros(net.batch, net.n)

    def run(self) -> list[Tensor]:
        f = self.net.f
        above = None
        to_start = self.need_x0 or self.need_s0 or (f.scheme == "fista" and self.s0 is not None)
        for k in reversed(range(f.layers)):
            g = self._through_prox(k, above)
            above = self._through_linear(k, g, None, k > 0 or to_start)
        return self._done(*self._start(above))

    def run_after(self, segments: Iterable[tuple[int, Gradients]]) -> list[Tensor]:
        """What is left to do where a kernel goes through the layers: the sums over samples."""
        start = None
        for first, found in segments:
            for i, dz in enumerate(found.dz):
                k = first + i
                self._through_linear(k, dz, None if found.h is None else found.h[i], False)
                if found.theta is not None:
                    rows = found.theta[:, i]
                    self.theta.add_rows(k, rows if self.theta.size > 1 else rows.sum(1, keepdim=True))
                if found.gain is not None:
                    self.gain.add_rows(k, found.gain[:, i].sum(1, keepdim=True), self.net.gain[k])
                if found.blend is not None and (k > 0 or self.net.f.scheme == "admm"):
                    self.blend.add_rows(k, found.blend[:, i].sum(1, keepdim=True))
            start = found.start
        return self._done(start if self.need_x0 else None, None)

    def _done(self, to_x0: Tensor | None, to_s0: Tensor | None) -> list[Tensor]:
        net = self.net
        if self.summed is not None:
            self.first.add_outer(0, self.summed, net.y)
            if self.g_y is not None:
                torch.mm(self.summed, net.p.W1[0], out=self.g_y)
        wanted = [t for t in (self.g_y, to_x0, to_s0) if t is not None]
        return wanted + [t for group in self.sums for t in group.done()]

    def _before(self, k: int) -> Tensor | None:
        """x before layer k."""
        return self.x[k - 1] if k else self.x0

    def _input(self, k: int) -> Tensor | None:
        """v of layer k; None if it is zero."""
        net = self.net
        if net.f.scheme == "admm":
            return self.trace[k, :, : net.n]
        if k == 0:
            return first_input(net, self.x0, self.s0)
        x = self.x[k - 1]
        if net.f.scheme != "fista":
            return x
        before = self._before(k - 1)
        return x + net.blend[k] * (x if before is None else x - before)

    def _through_prox(self, k: int, above: Tensor | None) -> Tensor:
        net, f = self.net, self.net.f
        top = k + 1 == f.layers
        entering = self.grad[k] if self.grad.dim() == 3 else self.grad if top else None
        numbers, arrays = net.describe(k)
        gain, blend, bent, share, pull = self.rows
        to_theta = gain.new_empty(net.batch, numbers[-1]) if self.theta else None
        g = net.empty(net.batch, net.n)
        after = net.blend[k + 1] if f.scheme == "fista" and not top else None
        residual = self.trace[k] if f.scheme == "amp" else None
        moved = self.trace[k].data_ptr() + net.n * g.element_size() if f.scheme == "admm" else 0
        net.launch(
            "prox_gradient", numbers, arrays,
            (address(entering), address(above), address(after), address(self.x[k]), address(self._before(k)),
             address(residual), moved, self.passed[k].data_ptr() if self.passed.numel() else 0, address(self.g_s),
             address(g), address(to_theta), address(gain), address(blend), address(bent), address(share),
             address(pull)),
        )  # fmt: skip
        if to_theta is not None:
            self.theta.add_rows(k, to_theta)
        self.gain.add_rows(k, gain, net.gain[k])
        if f.scheme == "admm":
            self.blend.add_rows(k, blend)
        elif after is not None:
            self.blend.add_rows(k + 1, bent)
        return g

    def _through_linear(self, k: int, g: Tensor, h: Tensor | None, go_on: bool) -> Tensor | None:
        """From the gradient of z to that of v, if it is to ``go_on``; ``h`` is W g of a coupled layer, if
        known, or the gradient of r of an Onsager layer.
        """
        if self.net.f.is_gradient_step:
            return self._through_coupled(k, g, h, go_on)
        net = self.net
        a, b = net.matrices(k)
        if self.summed is not None:
            self.summed += g
        else:
            self.first.add_outer(k, g, net.y)
            if self.g_y is not None:
                self.g_y.addmm_(g, a)
        if self.second:
            self.second.add_outer(k, g, self._input(k))
        return torch.mm(g, b) if go_on else None

    def _through_coupled(self, k: int, g: Tensor, h: Tensor | None, go_on: bool) -> Tensor | None:
        net = self.net
        a, b = net.matrices(k)
        onsager = net.f.scheme == "amp"
        step, to_w = net.step(k), self.second if net.p.W2 or net.f.linear == "gram" else self.first
        v = self._input(k) if self.first or to_w or self.step else None
        residual = self.trace[k] if onsager else None
        if residual is None and (to_w or self.step):
            residual = net.y if v is None else torch.addmm(net.y, v, a.mT, alpha=-1)
        minus = net.empty(net.batch, net.m)
        scaled = torch.empty_like(minus) if to_w else None
        to_step = self.rows.new_empty(net.batch, step.numel()) if self.step and step is not None else None
        if h is None and (go_on or self.g_y is not None or self.step or self.first or to_w):
            h = g if net.f.linear == "gram" else torch.mm(g, b.mT)
            of_state = self.g_s if onsager else None
        else:
            of_state = None  # it is in what was found
        if h is None:
            return None
        net.launch(
            "residual_gradient", net.m, step.numel() if step is not None else 0,
            (address(h), address(residual), address(step), address(self.rows[3]), address(self.rows[4]),
             address(of_state), address(self.g_y), address(minus), address(scaled), address(to_step)),
        )  # fmt: skip
        if to_step is not None:
            self.step.add_rows(k, to_step)
        if scaled is not None:
            to_w.add_outer(k, scaled, g)
        self.first.add_outer(k, minus, v)
        return torch.addmm(g, minus, a) if go_on else None

    def _start(self, g_v: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """From the gradient of the first layer's input to those of x0 and s0."""
        to_x0, to_s0 = g_v, self.g_s
        if g_v is None:
            return None, to_s0 if self.need_s0 else None
        if self.net.f.scheme == "admm":
            to_s0 = self.g_s - g_v
        elif self.net.f.scheme == "fista":
            to_x0 = g_v + self.g_s  # s is x0 before the first layer, or given
            if self.s0 is not None:
                blend = self.net.blend[0]
                to_x0, to_s0 = g_v + self.g_s + blend * g_v, -blend * g_v
                x = torch.zeros_like(self.s0) if self.x0 is None else self.x0
                self.blend.add_rows(0, (g_v * (x - self.s0)).sum(1, keepdim=True))
        return to_x0 if self.need_x0 else None, to_s0 if self.need_s0 else None


def backward(
    net: Layers, grad: Tensor, grad_s: Tensor | None, x0: Tensor | None, s0: Tensor | None, x: Tensor, trace: Tensor,
    passed: Tensor, needs: Sequence[bool], found: Iterable[tuple[int, Gradients]] | None = None,
) -> list[Tensor]:  # fmt: skip
    """The gradients that ``needs`` asks for, in its order.

    ``found``: what a kernel finds of them, for some layers at a time.
    """
    steps = _Backward(net, grad, grad_s, x0, s0, x, trace, passed, needs)
    return steps.run() if found is None else steps.run_after(found)
