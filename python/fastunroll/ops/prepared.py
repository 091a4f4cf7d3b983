"""The shortest way into the kernels, for modules: a call costs microseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .cache import Kept, packed
from .device import kernels, on_host
from .fused import Resident
from .memory import empty
from .network import Call, bound, recorded
from .register import address, has_tangents, is_plain, is_supported, is_tracing
from .spec import NetworkSpec, Parameters, fits, sizes

Describe = Callable[[], tuple[NetworkSpec, Parameters]]


class _Network:
    """A module's network: its form, its parameters as kernels take them, and what is made of them for a device."""

    __slots__ = ("counts", "device", "dtype", "form", "is_raw", "m", "n", "native", "p", "packed", "resident")

    def __init__(self, form: NetworkSpec, p: Parameters, tensors: list[Tensor]) -> None:
        self.form, self.p, self.counts = form, p, p.counts()
        self.m, self.n = sizes(form, p)
        self.dtype, self.device = p.W1[0].dtype, p.W1[0].device
        flat = [t for group in p for t in group]
        # Whether the kernels read the module's tensors themselves, and nothing that was computed from them.
        self.is_raw = len(flat) == len(tensors) and all(a is b for a, b in zip(flat, tensors, strict=True))
        module = kernels(p.W1[0])
        self.native: Any = bound(form, p) if module is None else None
        self.resident = None if module is None else Resident(module, form, p)
        self.packed: dict[bool, Any] = {}  # by whether weights are rounded to bfloat16

    def takes(self, y: Tensor, m: int, x0: Tensor | None) -> bool:
        """Whether y has m columns, and x0 fits it; of the network's dtype and device."""
        return (
            y.dtype is self.dtype
            and y.device == self.device
            and y.dim() > 0
            and y.shape[-1] == m
            and (self.native is None) == (not y.is_cpu or on_host())
            and (x0 is None or (x0.dtype is y.dtype and x0.device == y.device and x0.shape == (*y.shape[:-1], self.n)))
        )


class NetworkCache:
    """What a module keeps between calls: its network, with packed weights where no gradient is recorded."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: Kept[_Network | None] | None = None

    def run(
        self, tensors: list[Tensor], describe: Describe, measure: Callable[[Tensor], Tensor] | None, y: Tensor, m: int,
        x0: Tensor | None, keep: bool, bfloat16: bool = False,
    ) -> Tensor | None:  # fmt: skip
        """All layers; None where the operator has to be asked, which also says what is wrong.

        tensors: all tensors that the network is made of, always in the same order.
        describe: says what the kernels take, when a tensor has changed.
        measure: what the layers see of y, (..., m); None if that is y.
        bfloat16: where no gradient is recorded, float32 matrices are rounded to bfloat16.
        """
        if not is_plain(y) or not (x0 is None or is_plain(x0)) or is_tracing() or has_tangents():
            return None
        recording = torch.is_grad_enabled() and (
            y.requires_grad or (x0 is not None and x0.requires_grad) or any(t.requires_grad for t in tensors)
        )
        net = self._network(tensors, describe, recording)
        if net is None or not net.takes(y, m, x0) or (recording and not net.is_raw):
            return None
        y = y if measure is None else measure(y)
        y, x0 = y.contiguous(), None if x0 is None else x0.contiguous()
        if net.native is None:
            return None if recording or bfloat16 else _run_on_device(net, y, x0, keep)
        if recording:
            return _run_recorded(net, tensors, y, x0, keep)
        return _run_on_cpu(net, y, x0, keep, bfloat16)

    def _network(self, tensors: list[Tensor], describe: Describe, recording: bool) -> _Network | None:
        """None if no kernel can use the tensors as they are."""
        kept = self._kept  # which another thread may replace meanwhile
        # Where a gradient is recorded, the kernels read the module's own tensors, whatever their values.
        if kept is None or not (kept.is_same(tensors) if recording else kept.is_current(tensors)):
            kept = self._kept = None  # its memory can serve again
            if not all(is_plain(t) and is_supported(t) and t.is_contiguous() and not t.is_inference() for t in tensors):
                return None
            kept = self._kept = Kept(tensors, lambda: _describe(tensors, describe))
        net = kept.value
        if net is not None and net.resident is not None and not net.resident.is_current():
            net.resident = Resident(kernels(net.p.W1[0]), net.form, net.p)
        return net

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a module prepares itself."""
        return NetworkCache, ()


def _describe(tensors: list[Tensor], describe: Describe) -> _Network | None:
    with torch.no_grad():
        form, p = describe()
    if not (all(t.is_contiguous() for group in p for t in group)):
        return None
    m = sizes(form, p)[0]
    return _Network(form, p, tensors) if fits(form, p, tensors[0].new_empty(0, m), None, None) else None


def _run_on_cpu(net: _Network, y: Tensor, x0: Tensor | None, keep: bool, bfloat16: bool) -> Tensor:
    lead = y.shape[:-1]
    (x,) = empty([(net.form.layers, *lead, net.n) if keep else (*lead, net.n)], net.dtype)
    every, last = (x.data_ptr(), 0) if keep else (0, x.data_ptr())
    batch, threads = y.numel() // net.m, torch.get_num_threads()
    while True:
        weights = net.packed.get(bfloat16)
        if weights is None:
            weights = net.packed[bfloat16] = packed(net.native, net.form, net.p, bfloat16)
        if net.native.forward(batch, threads, weights, y.data_ptr(), address(x0), 0, every, last, 0, 0, 0):
            return x
        del net.packed[bfloat16]  # the instruction set is another now


def _run_recorded(net: _Network, tensors: list[Tensor], y: Tensor, x0: Tensor | None, keep: bool) -> Tensor:
    lead = y.shape[:-1]
    start = None if x0 is None else x0.reshape(-1, net.n)
    x, _ = recorded(Call(net.form, net.counts, keep, net.native), y.reshape(-1, net.m), start, None, tensors)
    return x if y.dim() == 2 else x.reshape((net.form.layers, *lead, net.n) if keep else (*lead, net.n))


def _run_on_device(net: _Network, y: Tensor, x0: Tensor | None, keep: bool) -> Tensor | None:
    lead = y.shape[:-1]
    assert net.resident is not None
    x = net.resident.run(y.reshape(-1, net.m), None if x0 is None else x0.reshape(-1, net.n), keep)
    if x is None or y.dim() == 2:
        return x
    return x.reshape((net.form.layers, *lead, net.n) if keep else (*lead, net.n))
