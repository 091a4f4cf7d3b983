"""Networks on a device: all layers in one launch if a fused kernel can run them, else layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._precision import own_precision
from ..network_call import Outcome, outcome_shapes
from ..spec import NetworkSpec, Parameters
from . import fused, kernel_choice, layerwise
from .device import is_capturing, stream_of
from .kernel_choice import Plan
from .packed_weights import OptimizerSteps, PackedWeights


class CudaNetwork:
    """A network over contiguous parameters, with packed weights for calls without gradients.

    Each stream has packed weights of its own, so that no stream waits for another.
    """

    __slots__ = ("_module", "_packed", "_plans", "_steps", "m", "n", "p", "spec")
    records_gradients = False  # only through the operator

    def __init__(self, module: Any, spec: NetworkSpec, p: Parameters) -> None:
        self._module, self.spec, self.p = module, spec, p
        self.m, self.n = spec.sizes(p)
        self._steps = OptimizerSteps.now()
        self._packed: dict[tuple[int, int], PackedWeights] = {}
        self._plans: dict[tuple[int, str | None], Plan | None] = {}

    def forward(
        self, y: Tensor, x0: Tensor | None, s0: Tensor | None, return_layers: bool, save_for_backward: bool,
        use_cache: bool,
    ) -> Outcome:  # fmt: skip
        """All layers of contiguous batches (batch, m)."""
        module, spec, p = self._module, self.spec, self.p
        *shapes, selected_shape = outcome_shapes(
            spec, p, y.shape[0], return_layers, save_for_backward, saves_residuals=False
        )
        x, last, s, saved = map(y.new_empty, shapes)
        out = Outcome(x, last, s, saved, y.new_empty(selected_shape, dtype=torch.uint8))
        plan = kernel_choice.plan(module, spec, p, y)
        with own_precision(y):
            if plan is None:
                layerwise.forward(layerwise.Layers(module, spec, p, y), x0, s0, out)
            else:
                packed = PackedWeights(module, spec, p, use_cache=use_cache)
                fused.forward(module, plan, packed, y, x0, s0, out)
        return out

    def backward(
        self, grad: Tensor, grad_s: Tensor | None, y: Tensor, x0: Tensor | None, s0: Tensor | None, x: Tensor,
        saved: Tensor, selected: Tensor, needs: Sequence[bool],
    ) -> list[Tensor]:  # fmt: skip
        """The gradients that ``needs`` asks for, of contiguous batches, in the order of ``gradient_shapes``."""
        module, spec, p = self._module, self.spec, self.p
        plan = kernel_choice.plan(module, spec, p, y, gradient=True) if s0 is None and grad_s is None else None
        with own_precision(y):
            found = None if plan is None else fused.gradients(module, plan, spec, p, y, grad, x0, x, saved, needs)
            layers = layerwise.Layers(module, spec, p, y)
            return layerwise.backward(layers, grad, grad_s, x0, s0, x, saved, selected, needs, found)

    def run(self, y: Tensor, x0: Tensor | None, return_layers: bool, bfloat16: bool) -> Tensor | None:
        """All layers of contiguous batches of any leading shape, without gradients, in one launch; None if no fused
        kernel can run them.
        """
        batch_shape, flat = y.shape[:-1], y.reshape(-1, self.m)
        plan = None if bfloat16 else self._plan(flat)
        if plan is None:
            return None
        layers = self.spec.layers
        x = y.new_empty((layers, *batch_shape, self.n) if return_layers else (*batch_shape, self.n))
        start, nothing = None if x0 is None else x0.reshape(-1, self.n), y.new_empty(0)
        every, last = (x, nothing) if return_layers else (nothing, x)
        out = Outcome(every, last, nothing, nothing, nothing)
        fused.forward(self._module, plan, self._packed_weights(), flat, start, None, out)
        return x

    def _plan(self, y: Tensor) -> Plan | None:
        """The kernel for a batch, which is looked up once for each size and precision."""
        key = y.shape[0], kernel_choice.precision_of(y)
        if key not in self._plans:
            self._plans[key] = kernel_choice.plan(self._module, self.spec, self.p, y)
        return self._plans[key]

    def _packed_weights(self) -> PackedWeights:
        """Kept while no optimiser takes a step; a captured CUDA graph packs the weights of each replay."""
        like = self.p.W1[0]
        if is_capturing(like.device):
            return PackedWeights(self._module, self.spec, self.p)
        if self._steps != OptimizerSteps.count:
            self._steps, self._packed = OptimizerSteps.count, {}
        packed, stream = self._packed, stream_of(like)
        if stream not in packed:
            packed[stream] = PackedWeights(self._module, self.spec, self.p)
        return packed[stream]
