"""Networks on the CPU: all layers in one native call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ... import _fastunroll
from ..cache import cached
from ..network_call import Outcome, gradient_shapes
from ..spec import NetworkSpec, Parameters
from ..tensors import address, addresses, is_double
from .memory import empty, empty_outcome


class CpuNetwork:
    """A native network, bound to the addresses of contiguous parameters: valid while these stay where they are.

    Raises:
        ValueError: a gain is not positive.
    """

    __slots__ = ("_native", "_weights", "m", "n", "p", "spec")
    records_gradients = True

    def __init__(self, spec: NetworkSpec, p: Parameters) -> None:
        self.spec, self.p = spec, p
        self.m, self.n = spec.sizes(p)
        arrays = {name: (addresses(group), group[0].numel() if group else 0) for name, group in p._asdict().items()}
        self._native: Any = _fastunroll.Network(is_double(p.W1[0]), spec, m=self.m, n=self.n, **arrays)
        self._weights: dict[bool, Any] = {}  # packed, by whether they are rounded to bfloat16
        if p.gain:
            layer, gain = self._native.wrong_gain()
            if layer >= 0:
                raise ValueError(f"gain must be positive, but layer {layer} has {gain:g}: learn its logarithm instead")

    def is_at(self, parameters: Sequence[Tensor]) -> bool:
        """Whether the parameters, one after another, are still where they were."""
        found: bool = self._native.is_at(parameters)
        return found

    def _packed(self, bfloat16: bool = False) -> Any:
        """The matrices as kernels read them, which other networks with the same matrices use too."""
        spec, p = self.spec, self.p
        kind = "packed", spec.linear, len(p.W1), len(p.W2), bfloat16, _fastunroll.instruction_set()
        return cached(
            kind, [*p.W1, *p.W2],
            lambda: _fastunroll.PackedWeights(self._native, torch.get_num_threads(), bfloat16),
        )  # fmt: skip

    def forward(
        self, y: Tensor, x0: Tensor | None, s0: Tensor | None, return_layers: bool, save_for_backward: bool,
        use_cache: bool,
    ) -> Outcome:  # fmt: skip
        """All layers of contiguous batches."""
        out = empty_outcome(self.spec, self.p, y, return_layers, save_for_backward)
        self._native.forward(
            y.shape[0], torch.get_num_threads(), self._packed() if use_cache else None, y.data_ptr(), address(x0),
            address(s0), *map(address, out),
        )  # fmt: skip
        return out

    def backward(
        self, grad: Tensor, grad_s: Tensor | None, y: Tensor, x0: Tensor | None, s0: Tensor | None, x: Tensor,
        saved: Tensor, selected: Tensor, needs: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        """The gradients that ``needs`` asks for, of contiguous batches, in the order of :func:`gradient_shapes`."""
        out = empty(gradient_shapes(self.spec, self.p, y, needs), y.dtype)
        left = iter(addresses(out))
        of_inputs = tuple(next(left) if need else 0 for need in needs[:3])
        of_parameters = tuple(
            ([next(left) for _ in group] if need else [], group[0].numel() if group else 0)
            for need, group in zip(needs[3:], self.p, strict=True)
        )
        arrays = (y.data_ptr(), address(x0), address(s0), x.data_ptr(), address(saved))
        self._native.backward(
            y.shape[0], torch.get_num_threads(), arrays, grad.data_ptr(), grad.dim() == 3, address(grad_s),
            address(selected), of_inputs, of_parameters,
        )  # fmt: skip
        return out

    def run(self, y: Tensor, x0: Tensor | None, return_layers: bool, bfloat16: bool) -> Tensor:
        """All layers of contiguous batches of any leading shape, without gradients, over packed weights."""
        batch_shape = y.shape[:-1]
        shape = (self.spec.layers, *batch_shape, self.n) if return_layers else (*batch_shape, self.n)
        (x,) = empty([shape], y.dtype)
        every, last = (x.data_ptr(), 0) if return_layers else (0, x.data_ptr())
        batch, threads = y.numel() // self.m, torch.get_num_threads()
        while True:
            weights = self._weights.get(bfloat16)
            if weights is None:
                weights = self._weights[bfloat16] = self._packed(bfloat16)
            if self._native.forward(batch, threads, weights, y.data_ptr(), address(x0), 0, every, last, 0, 0, 0):
                return x
            del self._weights[bfloat16]  # they were packed for another instruction set
