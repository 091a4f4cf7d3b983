"""The cache of a module's network, with which a call takes microseconds on its way to the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .backends import BACKENDS, backend_for, is_supported
from .cache import CacheEntry
from .network import Call, differentiable_network
from .network_call import counts_of
from .tensors import has_tangents, is_plain

Describe = Callable[[], tuple[Any, Any, Tensor | None]]


class _Described:
    """A module's network on a backend, with the sizes, dtype and device that a call has to fit.

    m: the columns of y. multiply: the function y ↦ Mᴴy whose result the layers take in the place of y, or None.
    """

    __slots__ = ("backend", "counts", "device", "dtype", "has_raw_parameters", "m", "multiply", "n", "network", "spec")

    def __init__(self, backend: Any, network: Any, multiplier: Tensor | None, tensors: list[Tensor]) -> None:
        self.backend, self.network, self.spec = backend, network, network.spec
        self.m, self.n, self.counts = network.m, network.n, counts_of(network.p)
        self.multiply: Callable[[Tensor], Tensor] | None = None
        if multiplier is not None:
            self.m, self.multiply = multiplier.shape[0], backend.adjoint_product(multiplier)
        parameters = [t for group in network.p for t in group]
        self.dtype, self.device = parameters[0].dtype, parameters[0].device
        # Whether the parameters are the module's tensors themselves, and none was computed from them.
        are_equally_many = multiplier is None and len(parameters) == len(tensors)
        self.has_raw_parameters = are_equally_many and all(a is b for a, b in zip(parameters, tensors, strict=True))

    def takes(self, y: Tensor, x0: Tensor | None) -> bool:
        """Whether y has m columns, x0 fits y, and both have the network's dtype and device."""
        return (
            y.dtype is self.dtype
            and y.device == self.device
            and y.dim() > 0
            and y.shape[-1] == self.m
            and self.backend is BACKENDS.get(y.device.type)
            and (x0 is None or (x0.dtype is y.dtype and x0.device == y.device and x0.shape == (*y.shape[:-1], self.n)))
        )


class NetworkCache:
    """A module's network, kept between calls: with packed weights for those that record no gradient."""

    __slots__ = ("_entry",)

    def __init__(self) -> None:
        self._entry: CacheEntry[_Described | None] | None = None

    def run(
        self, tensors: list[Tensor], describe: Describe, y: Tensor, x0: Tensor | None, return_layers: bool,
        bfloat16: bool = False,
    ) -> Tensor | None:  # fmt: skip
        """All layers; None if the caller has to check its arguments and to call :func:`network`.

        Not for calls that are traced (:func:`is_tracing`).

        tensors: all tensors of which the network is made, always in the same order.
        describe: returns, when a tensor has changed, the spec, the parameters, and a matrix M if the layers take Mᴴy in
            the place of y.
        bfloat16: rounds float32 matrices to bfloat16 in calls that record no gradient.
        """
        if not is_plain(y) or not (x0 is None or is_plain(x0)) or has_tangents():
            return None
        records = torch.is_grad_enabled() and (
            y.requires_grad or (x0 is not None and x0.requires_grad) or any(t.requires_grad for t in tensors)
        )
        net = self._described(tensors, describe, records)
        if net is None or not net.takes(y, x0):
            return None
        if records and not (net.has_raw_parameters and net.network.records_gradients):
            return None
        y, x0 = y.contiguous(), None if x0 is None else x0.contiguous()
        y = y if net.multiply is None else net.multiply(y)
        if not records:
            found: Tensor | None = net.network.run(y, x0, return_layers, bfloat16)
            return found
        flat_x0 = None if x0 is None else x0.reshape(-1, net.n)
        call = Call(net.spec, net.counts, return_layers, net.network)
        x, _ = differentiable_network(call, y.reshape(-1, net.m), flat_x0, None, tensors)
        batch_shape = y.shape[:-1]
        if y.dim() == 2:
            return x
        return x.reshape((net.spec.layers, *batch_shape, net.n) if return_layers else (*batch_shape, net.n))

    def _described(self, tensors: list[Tensor], describe: Describe, records: bool) -> _Described | None:
        """None if no kernel can use the tensors as they are."""
        entry = self._entry  # another thread may replace it meanwhile
        # In calls that record a gradient the kernels read the module's own tensors, whatever their values are.
        if entry is None or not (entry.is_same(tensors) if records else entry.is_current(tensors)):
            entry = self._entry = None  # frees its memory for the next one
            if not all(is_plain(t) and is_supported(t) and t.is_contiguous() and not t.is_inference() for t in tensors):
                return None
            entry = self._entry = CacheEntry(tensors, lambda: _describe(tensors, describe))
        return entry.value

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a module gets an empty cache."""
        return NetworkCache, ()


def _describe(tensors: list[Tensor], describe: Describe) -> _Described | None:
    with torch.no_grad():
        spec, p, multiplier = describe()
    p = type(p)(*([t.contiguous() for t in group] for group in p))
    parameters = [t for group in p for t in group]
    y = parameters[0].new_empty(0, spec.sizes(p)[0])
    backend = backend_for(y.device, y.dtype)
    if backend is None or not spec.fits(p, y, None, None):
        return None
    network = backend.network(spec, p)
    return None if network is None else _Described(backend, network, multiplier, tensors)
