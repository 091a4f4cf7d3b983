"""Networks of any structure and size on a device: torch computes the products, one kernel a layer all between them.

csrc/fastunroll_cuda.h describes the kernels. The gradient is written out rather than left to autograd over the same
pieces: autograd would first compute every product of the forward pass again, since only the iterates are saved, and
would hold a gradient of a shared matrix for each layer where this file adds to one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..network_call import Outcome
from ..spec import NetworkSpec, Parameters
from ..tensors import address
from .device import ELEMENTS, stream_of
from .fused import Gradients


def _of(values: Sequence[Tensor], k: int) -> Tensor:
    return values[min(k, len(values) - 1)]


def _value(values: Sequence[Tensor], k: int) -> Tensor | None:
    """The one value of a layer, which may lie in a tensor with the values of all layers."""
    if not values:
        return None
    if len(values) == 1 and values[0].numel() > 1:
        return values[0].reshape(-1)[k]
    return _of(values, k)


class Layers:
    """The layers of a network over one batch. All tensors are contiguous and lie on one device."""

    def __init__(self, module: Any, spec: NetworkSpec, p: Parameters, y: Tensor) -> None:
        self.module, self.spec, self.p, self.y = module, spec, p, y
        self.batch, (self.m, self.n) = y.shape[0], spec.sizes(p)
        self.element, self.stream = ELEMENTS.index(y.dtype), stream_of(y)
        self.gain: list[Any] = [_value(p.gain, k) for k in range(spec.layers)]
        self.beta: list[Any] = [_value(p.beta, k) for k in range(spec.layers)]

    def theta(self, k: int) -> Tensor | None:
        return _of(self.p.theta, k) if self.p.theta else None

    def step(self, k: int) -> Tensor | None:
        return _of(self.p.step, k) if self.p.step else None

    def matrices(self, k: int) -> tuple[Tensor, Tensor]:
        """W1 and W2; A and W of gradient steps. Gram steps use the first alone."""
        return _of(self.p.W1, k), _of(self.p.W2 or self.p.W1, k)

    def launch(self, kernel: str, k: int, **arrays: Tensor | None) -> None:
        """Runs a kernel for layer k over these arrays, as fastunroll_cuda.h names them."""
        theta, step = self.theta(k), self.step(k)
        getattr(self.module, kernel)(
            self.element, self.stream, self.batch, self.spec, layer=k, m=self.m, n=self.n, theta=address(theta),
            theta_size=0 if theta is None else theta.numel(), step_size=0 if step is None else step.numel(),
            gain=address(self.gain[k]), beta=address(self.beta[k]), **{k: address(t) for k, t in arrays.items()},
        )  # fmt: skip

    def empty(self, *shape: int) -> Tensor:
        return self.y.new_empty(shape)


def first_input(net: Layers, x0: Tensor | None, s0: Tensor | None) -> Tensor | None:
    """v of the first layer; None if it is zero."""
    if s0 is None or net.spec.scheme in ("proximal_gradient", "amp"):
        return x0
    if net.spec.scheme == "admm":
        return -s0 if x0 is None else x0 - s0
    x = torch.zeros_like(s0) if x0 is None else x0
    return x + net.beta[0] * (x - s0)


def _gradient_step(
    net: Layers, k: int, v: Tensor | None, start: Tensor, residual: Tensor
) -> tuple[Tensor, Tensor | None]:
    """The summand that the step adds to v, and a number to multiply it by. Fills the residual, start − A v."""
    A, W = net.matrices(k)
    if v is None:
        residual.copy_(start)
    else:
        torch.addmm(start, v, A.mT, alpha=-1, out=residual)
    step = net.step(k)
    if step is not None and step.numel() > 1:
        residual, step = residual * step, None
    return residual if net.spec.linear == "gram" else torch.mm(residual, W), step


def _dual_residual(saved: Tensor, n: int) -> Tensor | None:
    """The second half of what an ADMM layer saves, z − x⁺ in rows of 2 n; None if it saves nothing."""
    return saved[:, n:] if saved.numel() else None


def forward(net: Layers, x0: Tensor | None, s0: Tensor | None, out: Outcome) -> None:
    """Fills the results that have values."""
    spec, y, n = net.spec, net.y, net.n
    x, last, s, saved, selected = out
    is_fista, is_admm, is_amp = (spec.scheme == name for name in ("fista", "admm", "amp"))
    v, before = first_input(net, x0, s0), x0
    start = y + s0 if is_amp and s0 is not None else y
    if is_admm:
        s.zero_() if s0 is None else s.copy_(s0)
    # Without x the layers write in turn to two arrays, so that the last one writes to ``last``.
    final = x[-1] if len(x) else last
    other = net.empty(*final.shape) if not len(x) and spec.layers > 1 else final
    W1_y = None
    for k in range(spec.layers):
        is_last = k + 1 == spec.layers
        W1, W2 = net.matrices(k)
        z: Tensor | None
        step = residual = None
        if spec.is_gradient_step:
            residual = saved[k] if is_amp and saved.numel() else torch.empty_like(y)
            z, step = _gradient_step(net, k, v, start, residual)
            summand = v
        else:
            if W1_y is None or len(net.p.W1) > 1:
                W1_y = torch.mm(y, W1.mT)
            z, summand = None if v is None else torch.mm(v, W2.mT), W1_y
        if is_admm and saved.numel():
            saved[k, :, :n].zero_() if v is None else saved[k, :, :n].copy_(v)
        x_new = x[k] if len(x) else final if (spec.layers - k) % 2 else other
        has_input = not is_last and spec.scheme != "proximal_gradient"  # else x⁺ is the input of the next layer
        input_ = net.empty(net.batch, net.m if is_amp else n) if has_input else None
        net.launch(
            "end_layer", k, z=z, step=step, start=summand, before=before, residual=residual, y=y,
            next_beta=net.beta[k + 1] if is_fista and not is_last else None, x=x_new, input=input_, s=s,
            dual_residual=_dual_residual(saved[k], n) if is_admm else None, selected=selected[k],
        )  # fmt: skip
        if is_fista and is_last:
            s.zero_() if before is None else s.copy_(before)
        before = x_new
        if is_amp:
            v, start = x_new, y if input_ is None else input_
        else:
            v = x_new if input_ is None else input_
    if len(x) and len(last):
        last.copy_(final)


class _Sums:
    """The gradients of the tensors of one parameter, to which layers add."""

    def __init__(self, group: Sequence[Tensor], needed: bool) -> None:
        self.size = group[0].numel() if group else 0
        self.tensors = [torch.empty_like(t) for t in group] if needed else []
        self.is_empty = [True] * len(self.tensors)

    def __bool__(self) -> bool:
        return bool(self.tensors)

    def add_outer(self, k: int, g: Tensor, x: Tensor | None) -> None:
        """Adds the sum over samples of g xᵀ."""
        if not self.tensors or x is None:
            return
        i = min(k, len(self.tensors) - 1)
        if self.is_empty[i]:
            torch.mm(g.mT, x, out=self.tensors[i])
        else:
            self.tensors[i].addmm_(g.mT, x)
        self.is_empty[i] = False

    def add_rows(self, k: int, rows: Tensor, divisor: Tensor | None = None) -> None:
        """Adds the sum over samples of the gradients of a layer's values, one row a sample."""
        if not self.tensors:
            return
        found = rows.sum(0) if divisor is None else rows.sum(0) / divisor.reshape(-1)
        i = min(k, len(self.tensors) - 1)
        t = self.tensors[i].view(-1)
        if t.numel() > found.numel():  # one tensor with a value for each layer
            if self.is_empty[i]:
                t.zero_()
            t = t[k : k + 1]
            t += found
        elif self.is_empty[i]:
            t.copy_(found)
        else:
            t += found
        self.is_empty[i] = False

    def finish(self) -> list[Tensor]:
        """The gradients; zero where no layer has added anything."""
        for t, is_empty in zip(self.tensors, self.is_empty, strict=True):
            if is_empty:
                t.zero_()
        return self.tensors


class _Backward:
    def __init__(
        self, net: Layers, grad: Tensor, grad_s: Tensor | None, x0: Tensor | None, s0: Tensor | None, x: Tensor,
        saved: Tensor, selected: Tensor, needs: Sequence[bool],
    ) -> None:  # fmt: skip
        self.net, self.grad, self.x0, self.s0, self.x, self.saved, self.selected = net, grad, x0, s0, x, saved, selected
        self.need_y, self.need_x0, self.need_s0 = needs[:3]
        self.sums = [_Sums(group, need) for group, need in zip(net.p, needs[3:], strict=True)]
        self.W1, self.W2, self.step, self.theta, self.gain, self.beta = self.sums
        state_size = net.spec.state_size(net.m, net.n)
        self.grad_s = net.y.new_zeros(net.batch, state_size) if grad_s is None else grad_s.clone()
        self.grad_y = torch.zeros_like(net.y) if self.need_y else None
        computed = torch.float64 if net.y.dtype == torch.float64 else torch.float32
        self.gain_rows, self.beta_rows, self.next_beta_rows, self.from_s, self.from_r = net.y.new_empty(
            5, net.batch, 1, dtype=computed
        )
        # The layers of a shared W1 add their gradients of z, which are multiplied once.
        shares_W1 = not net.spec.is_gradient_step and len(net.p.W1) == 1
        self.sum_of_z = net.y.new_zeros(net.batch, net.n) if shares_W1 else None

    def run(self) -> list[Tensor]:
        """The gradients by one kernel a layer, and one more for gradient steps."""
        spec = self.net.spec
        grad_v = None  # the gradient of the input of the layer above
        reaches_start = self.need_x0 or self.need_s0 or (spec.scheme == "fista" and self.s0 is not None)
        for k in reversed(range(spec.layers)):
            grad_z = self._through_prox(k, grad_v)
            grad_v = self._through_linear(k, grad_z, None, k > 0 or reaches_start)
        return self._finish(*self._through_start(grad_v))

    def run_after(self, segments: Iterable[tuple[int, Gradients]]) -> list[Tensor]:
        """The gradients after a fused kernel went through the layers: the sums over samples are left."""
        grad_x0 = None
        for first, found in segments:
            for i, grad_z in enumerate(found.z):
                k = first + i
                self._through_linear(k, grad_z, None if found.Wz is None else found.Wz[i], False)
                if found.theta is not None:
                    rows = found.theta[:, i]
                    self.theta.add_rows(k, rows if self.theta.size > 1 else rows.sum(1, keepdim=True))
                if found.gain is not None:
                    self.gain.add_rows(k, found.gain[:, i].sum(1, keepdim=True), self.net.gain[k])
                if found.beta is not None and (k > 0 or self.net.spec.scheme == "admm"):
                    self.beta.add_rows(k, found.beta[:, i].sum(1, keepdim=True))
            grad_x0 = found.x0
        return self._finish(grad_x0 if self.need_x0 else None, None)

    def _finish(self, grad_x0: Tensor | None, grad_s0: Tensor | None) -> list[Tensor]:
        net = self.net
        if self.sum_of_z is not None:
            self.W1.add_outer(0, self.sum_of_z, net.y)
            if self.grad_y is not None:
                torch.mm(self.sum_of_z, net.p.W1[0], out=self.grad_y)
        wanted = [t for t in (self.grad_y, grad_x0, grad_s0) if t is not None]
        return wanted + [t for group in self.sums for t in group.finish()]

    def _before(self, k: int) -> Tensor | None:
        """x before layer k."""
        return self.x[k - 1] if k else self.x0

    def _input(self, k: int) -> Tensor | None:
        """v of layer k; None if it is zero."""
        net = self.net
        if net.spec.scheme == "admm":
            return self.saved[k, :, : net.n]
        if k == 0:
            return first_input(net, self.x0, self.s0)
        x = self.x[k - 1]
        if net.spec.scheme != "fista":
            return x
        before = self._before(k - 1)
        return x + net.beta[k] * (x if before is None else x - before)

    def _through_prox(self, k: int, grad_v: Tensor | None) -> Tensor:
        """From the gradients of x⁺ and of the input of the layer above to the gradient of z."""
        net, spec = self.net, self.net.spec
        is_last = k + 1 == spec.layers
        next_beta = net.beta[k + 1] if spec.scheme == "fista" and not is_last else None
        theta = net.theta(k)
        theta_rows = None
        if self.theta and theta is not None:
            theta_rows = self.gain_rows.new_empty(net.batch, theta.numel())
        grad_z = net.empty(net.batch, net.n)
        net.launch(
            "prox_gradient", k, grad_x=self.grad[k] if self.grad.dim() == 3 else self.grad if is_last else None,
            grad_v=grad_v, next_beta=next_beta, x=self.x[k], before=self._before(k),
            residual=self.saved[k] if spec.scheme == "amp" else None,
            dual_residual=_dual_residual(self.saved[k], net.n) if spec.scheme == "admm" else None,
            selected=self.selected[k], grad_s=self.grad_s, grad_z=grad_z, grad_theta=theta_rows,
            grad_gain=self.gain_rows, grad_beta=self.beta_rows, grad_next_beta=self.next_beta_rows,
            from_s=self.from_s, from_r=self.from_r,
        )  # fmt: skip
        if theta_rows is not None:
            self.theta.add_rows(k, theta_rows)
        self.gain.add_rows(k, self.gain_rows, net.gain[k])
        if spec.scheme == "admm":
            self.beta.add_rows(k, self.beta_rows)
        elif next_beta is not None:
            self.beta.add_rows(k + 1, self.next_beta_rows)
        return grad_z

    def _through_linear(self, k: int, grad_z: Tensor, Wz: Tensor | None, need_v: bool) -> Tensor | None:
        """From the gradient of z to that of v, if that is needed.

        Wz: W grad_z of a gradient step, if it is known; with AMP the gradient of the residual.
        """
        if self.net.spec.is_gradient_step:
            return self._through_gradient_step(k, grad_z, Wz, need_v)
        net = self.net
        W1, W2 = net.matrices(k)
        if self.sum_of_z is not None:
            self.sum_of_z += grad_z
        else:
            self.W1.add_outer(k, grad_z, net.y)
            if self.grad_y is not None:
                self.grad_y.addmm_(grad_z, W1)
        if self.W2:
            self.W2.add_outer(k, grad_z, self._input(k))
        return torch.mm(grad_z, W2) if need_v else None

    def _through_gradient_step(self, k: int, grad_z: Tensor, Wz: Tensor | None, need_v: bool) -> Tensor | None:
        net = self.net
        A, W = net.matrices(k)
        is_gram, is_amp = net.spec.linear == "gram", net.spec.scheme == "amp"
        step, of_W = net.step(k), self.W2 if net.p.W2 or is_gram else self.W1
        v = self._input(k) if self.W1 or of_W or self.step else None
        residual = self.saved[k] if is_amp else None
        if residual is None and (of_W or self.step):
            residual = net.y if v is None else torch.addmm(net.y, v, A.mT, alpha=-1)
        grad_s = None  # a known Wz has the gradient of the state in it
        if Wz is None and (need_v or self.grad_y is not None or self.step or self.W1 or of_W):
            Wz = grad_z if is_gram else torch.mm(grad_z, W.mT)
            grad_s = self.grad_s if is_amp else None
        if Wz is None:
            return None
        grad_Av = net.empty(net.batch, net.m)
        stepped = torch.empty_like(grad_Av) if of_W else None
        step_rows = self.gain_rows.new_empty(net.batch, step.numel()) if self.step and step is not None else None
        net.launch(
            "residual_gradient", k, Wz=Wz, residual=residual, step=step, from_s=self.from_s, from_r=self.from_r,
            grad_s=grad_s, grad_y=self.grad_y, grad_Av=grad_Av, stepped=stepped, grad_step=step_rows,
        )  # fmt: skip
        if step_rows is not None:
            self.step.add_rows(k, step_rows)
        if stepped is not None:
            of_W.add_outer(k, stepped, grad_z)
        self.W1.add_outer(k, grad_Av, v)
        return torch.addmm(grad_z, grad_Av, A) if need_v else None

    def _through_start(self, grad_v: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """From the gradient of the first layer's input to those of x0 and s0."""
        grad_x0, grad_s0 = grad_v, self.grad_s
        if grad_v is None:
            return None, grad_s0 if self.need_s0 else None
        if self.net.spec.scheme == "admm":
            grad_s0 = self.grad_s - grad_v
        elif self.net.spec.scheme == "fista":
            grad_x0 = grad_v + self.grad_s  # the iterate before x0 is x0 itself, unless it is given
            if self.s0 is not None:
                beta = self.net.beta[0]
                grad_x0, grad_s0 = grad_v + self.grad_s + beta * grad_v, -beta * grad_v
                x = torch.zeros_like(self.s0) if self.x0 is None else self.x0
                self.beta.add_rows(0, (grad_v * (x - self.s0)).sum(1, keepdim=True))
        return grad_x0 if self.need_x0 else None, grad_s0 if self.need_s0 else None


def backward(
    net: Layers, grad: Tensor, grad_s: Tensor | None, x0: Tensor | None, s0: Tensor | None, x: Tensor, saved: Tensor,
    selected: Tensor, needs: Sequence[bool], found: Iterable[tuple[int, Gradients]] | None = None,
) -> list[Tensor]:  # fmt: skip
    """The gradients that ``needs`` asks for, in its order.

    found: the gradients by a fused kernel, of some layers at a time.
    """
    layers = _Backward(net, grad, grad_s, x0, s0, x, saved, selected, needs)
    return layers.run() if found is None else layers.run_after(found)
