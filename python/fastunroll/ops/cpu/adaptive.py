"""Networks on the CPU whose layers follow statistics of each sample: all layers in one native call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ... import _fastunroll
from ..adaptive_spec import AdaptiveParameters, AdaptiveSpec
from ..network_call import Outcome, gradient_shapes
from ..tensors import address, addresses, is_double
from .memory import empty, empty_outcome
from .products import packed_matrix

# The products of a pass with each matrix, the last entry standing for every W: x Mᵀ is False, x M is True.
Products: TypeAlias = dict[str, tuple[tuple[bool, ...], ...]]
_FORWARD: Products = {
    "glista": ((False,), (True,)), "hyperlista": ((False,), (True,), (False,)), "lamp": ((False,), (True,)),
    "lvamp": ((False,), (False, True), ()),
}  # fmt: skip
_BACKWARD: Products = {
    "glista": ((True,), (False,)), "hyperlista": ((True,), (False,), (True,)), "lamp": ((True,), (False,)),
    "lvamp": ((True,), (False, True), ()),
}  # fmt: skip


class CpuAdaptiveNetwork:
    """An adaptive network over contiguous parameters, with packed matrices for calls without gradients."""

    __slots__ = ("_packed", "m", "n", "p", "spec")
    records_gradients = False  # only through the operator

    def __init__(self, spec: AdaptiveSpec, p: AdaptiveParameters) -> None:
        self.spec, self.p = spec, p
        self.m, self.n = spec.sizes(p)
        self._packed: dict[tuple[bool, str], Any] = {}

    def _native(self, products: Products, pack_W: bool, bfloat16: bool = False) -> Any:
        """The native network over matrices in packed forms, which are cached; over W itself unless ``pack_W``."""
        spec, p, (values,) = self.spec, self.p, self.p.values
        of_matrix, matrices = products[spec.scheme], []
        for i, t in enumerate([*p.fixed, *p.W]):
            wanted = of_matrix[min(i, len(of_matrix) - 1)] if pack_W or i < len(p.fixed) else ()
            packed, adjoint = (packed_matrix(t, a, bfloat16) if a in wanted else None for a in (False, True))
            matrices.append((tuple(t.shape), t.data_ptr(), packed, adjoint))
        return _fastunroll.AdaptiveNetwork(
            is_double(values), spec, m=self.m, n=self.n, saved_size=spec.saved_size(p), values=values.data_ptr(),
            value_count=values.shape[1], matrices=matrices,
        )  # fmt: skip

    def forward(
        self, y: Tensor, x0: Tensor | None, s0: Tensor | None, return_layers: bool, save_for_backward: bool,
        use_cache: bool,
    ) -> Outcome:  # fmt: skip
        """All layers of contiguous batches."""
        out = empty_outcome(self.spec, self.p, y, return_layers, save_for_backward)
        self._native(_FORWARD, use_cache).forward(
            y.shape[0], torch.get_num_threads(), y.data_ptr(), address(x0), address(out.x), address(out.last),
            address(out.saved),
        )  # fmt: skip
        return out

    def backward(
        self, grad: Tensor, grad_s: Tensor | None, y: Tensor, x0: Tensor | None, s0: Tensor | None, x: Tensor,
        saved: Tensor, selected: Tensor, needs: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        """The gradients that ``needs`` asks for, of contiguous batches, in the order of :func:`gradient_shapes`."""
        out = empty(gradient_shapes(self.spec, self.p, y, needs), y.dtype)
        left = iter(addresses(out))
        grad_y, grad_x0, _ = (next(left) if need else 0 for need in needs[:3])
        need_W, need_values = needs[4:]
        grad_W = [next(left) for _ in self.p.W] if need_W else []
        self._native(_BACKWARD, False).backward(
            y.shape[0], torch.get_num_threads(), y.data_ptr(), address(x0), x=x.data_ptr(), saved=saved.data_ptr(),
            grad=grad.data_ptr(), every_layer=grad.dim() == 3, grad_y=grad_y, grad_x0=grad_x0,
            grad_values=next(left) if need_values else 0, grad_W=grad_W,
        )  # fmt: skip
        return out

    def run(self, y: Tensor, x0: Tensor | None, return_layers: bool, bfloat16: bool) -> Tensor:
        """All layers of contiguous batches of any leading shape, without gradients, over packed matrices."""
        batch_shape = y.shape[:-1]
        shape = (self.spec.layers, *batch_shape, self.n) if return_layers else (*batch_shape, self.n)
        (x,) = empty([shape], y.dtype)
        every, last = (x.data_ptr(), 0) if return_layers else (0, x.data_ptr())
        key = bfloat16, _fastunroll.instruction_set()
        native = self._packed.get(key)
        if native is None:
            native = self._packed[key] = self._native(_FORWARD, True, bfloat16)
        native.forward(y.numel() // self.m, torch.get_num_threads(), y.data_ptr(), address(x0), every, last, 0)
        return x
