"""The shortest way into the kernels, for modules: a call costs microseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from .device import kernels, on_host
from .form import Form, Parameters, fits, sizes
from .fused import Resident
from .memory import empty
from .network import Call, bound, recorded
from .packed import Bound, Packed
from .register import address, is_observed, serves


class _Described:
    """What a module computes, with tensors that the kernels can use as they are."""

    __slots__ = ("counts", "device", "dtype", "form", "m", "matrices", "n", "p")

    def __init__(self, form: Form, p: Parameters) -> None:
        self.form, self.p, self.counts = form, p, p.counts()
        self.m, self.n = sizes(form, p)
        self.matrices = len(p.first) + len(p.second)
        self.dtype, self.device = p.first[0].dtype, p.first[0].device

    def bound(self) -> Any:
        return bound(self.form, self.p)


class _Keeper(Protocol):
    def fits(self, tensors: list[Tensor]) -> bool: ...


K = TypeVar("K", bound=_Keeper)


class _Kept(Generic[K]):
    """What was made of a module's tensors, for as long as it fits them."""

    __slots__ = ("_kept", "_make")

    def __init__(self, make: Callable[[_Described, list[Tensor]], K | None]) -> None:
        self._make = make
        self._kept: tuple[K, _Described] | None = None

    def get(
        self, tensors: list[Tensor], describe: Callable[[], tuple[Form, Parameters]]
    ) -> tuple[K, _Described] | None:
        """None if no kernel can use the tensors as they are."""
        kept = self._kept  # which another thread may replace meanwhile
        if kept is None or not kept[0].fits(tensors):
            kept = self._kept = None  # its memory can serve again
            described = _described(tensors, describe)
            made = None if described is None else self._make(described, tensors)
            if described is not None and made is not None:
                kept = self._kept = made, described
        return kept


def _packed(d: _Described, tensors: list[Tensor]) -> Packed:
    return Packed(d.bound(), tensors, d.matrices)


def _halved(d: _Described, tensors: list[Tensor]) -> Packed:
    return Packed(d.bound(), tensors, d.matrices, halved=True)


def _bare(d: _Described, tensors: list[Tensor]) -> Bound:
    return Bound(d.bound(), tensors)


def _resident(d: _Described, tensors: list[Tensor]) -> Resident | None:
    module = kernels(tensors[0])
    return None if module is None else Resident(module, d.form, d.p, tensors)


class Prepared:
    """What a module keeps between calls: its parameters bound, and packed for calls without gradients."""

    __slots__ = ("_bare", "_halved", "_packed", "_resident")

    def __init__(self) -> None:
        self._packed, self._halved = _Kept(_packed), _Kept(_halved)
        self._bare, self._resident = _Kept(_bare), _Kept(_resident)

    def run(
        self,
        tensors: list[Tensor],
        describe: Callable[[], tuple[Form, Parameters]],
        y: Tensor,
        x0: Tensor | None,
        keep: bool,
        halved: bool = False,
    ) -> Tensor | None:
        """All layers; None where the operator has to be asked, which also says what is wrong.

        ``tensors`` are all parameters in order; ``describe`` says what they are, and is asked when they are new.
        ``halved``: where no gradient is recorded, float32 matrices are rounded to bfloat16.
        """
        if not (_plain(y) and (x0 is None or _plain(x0))) or is_observed():
            return None
        recording = torch.is_grad_enabled() and any(
            t.requires_grad for t in ((y, *tensors) if x0 is None else (y, x0, *tensors))
        )
        if not y.is_cpu or on_host():
            return None if recording or halved else self._run_on_device(tensors, describe, y, x0, keep)
        if recording:
            return self._run_recorded(tensors, describe, y, x0, keep)
        ready = (self._halved if halved else self._packed).get(tensors, describe)
        if ready is None:
            return None
        packed, d = ready
        if not _takes(d, y, x0) or not y.is_contiguous() or not (x0 is None or x0.is_contiguous()):
            return None
        lead = y.shape[:-1]
        (x,) = empty([(d.form.layers, *lead, d.n) if keep else (*lead, d.n)], d.dtype)
        every, last = (x.data_ptr(), 0) if keep else (0, x.data_ptr())
        threads = torch.get_num_threads()
        packed.network.forward(y.numel() // d.m, threads, y.data_ptr(), address(x0), 0, every, last, 0, 0)
        return x

    def _run_recorded(
        self,
        tensors: list[Tensor],
        describe: Callable[[], tuple[Form, Parameters]],
        y: Tensor,
        x0: Tensor | None,
        keep: bool,
    ) -> Tensor | None:
        if torch.autograd.forward_ad._current_level >= 0:
            return None
        ready = self._bare.get(tensors, describe)
        if ready is None:
            return None
        native, d = ready[0].network, ready[1]
        if not _takes(d, y, x0):
            return None
        lead = y.shape[:-1]
        batch = y.reshape(-1, d.m).contiguous()
        start = None if x0 is None else x0.reshape(-1, d.n).contiguous()
        x, _ = recorded(Call(d.form, d.counts, keep, native), batch, start, None, tensors)
        return x if y.dim() == 2 else x.reshape((d.form.layers, *lead, d.n) if keep else (*lead, d.n))

    def _run_on_device(
        self,
        tensors: list[Tensor],
        describe: Callable[[], tuple[Form, Parameters]],
        y: Tensor,
        x0: Tensor | None,
        keep: bool,
    ) -> Tensor | None:
        ready = self._resident.get(tensors, describe)
        if ready is None:
            return None
        resident, d = ready
        if not _takes(d, y, x0):
            return None
        start = None if x0 is None else x0.reshape(-1, d.n).contiguous()
        x = resident.run(y.reshape(-1, d.m).contiguous(), start, keep)
        if x is None or y.dim() == 2:
            return x
        return x.reshape((d.form.layers, *y.shape[:-1], d.n) if keep else (*y.shape[:-1], d.n))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a module prepares itself."""
        return Prepared, ()


def _plain(t: Tensor) -> bool:
    return type(t) is Tensor and t.layout is torch.strided


def _takes(d: _Described, y: Tensor, x0: Tensor | None) -> bool:
    return (
        y.dtype is d.dtype
        and y.device == d.device
        and y.dim() > 0
        and y.shape[-1] == d.m
        and (x0 is None or (x0.dtype is d.dtype and x0.device == d.device and x0.shape == (*y.shape[:-1], d.n)))
    )


def _described(tensors: list[Tensor], describe: Callable[[], tuple[Form, Parameters]]) -> _Described | None:
    """None if the kernels cannot use the tensors as they are."""
    usable = all(
        isinstance(t, Tensor) and serves(t) and t.layout is torch.strided and t.is_contiguous()
        and not t.is_inference() for t in tensors
    )  # fmt: skip
    if not usable:
        return None
    form, p = describe()
    described = _Described(form, p)
    return described if fits(form, p, tensors[0].new_empty(0, described.m), None, None) else None
