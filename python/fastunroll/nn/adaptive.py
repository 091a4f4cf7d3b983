"""The base class of networks whose layers depend on statistics of each sample. All layers run in one native call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import ops, reference_adaptive
from .._precision import own_precision
from .network import UnrolledNetwork

Described = tuple[ops.AdaptiveSpec, list[Tensor], Tensor]


class AdaptiveNetwork(UnrolledNetwork):
    """A network whose layers depend on statistics of each sample.

    With float16 or bfloat16 weights it computes in float32, because variances and thresholds need the range of float32.
    If a matrix other than W requires a gradient, the network runs in plain PyTorch.
    """

    def _adaptive(self, depth: int) -> Described:
        """The first layers as the kernels take them: their form, their matrices, and a row of values for each."""
        raise NotImplementedError

    def _describe(self) -> tuple[Any, Any, Tensor | None]:
        form, matrices, values = self._adaptive(self.layers)
        return form, ops.AdaptiveParameters.of(form, matrices, values), None

    def _run(self, y: Tensor, x0: Tensor | None, depth: int, return_layers: bool) -> Tensor:
        with own_precision(y):
            form, matrices, values = self._adaptive(depth)
        wide = torch.promote_types(y.dtype, torch.float32)
        if self._weights == "bf16" and not ops.differentiable(y, x0, values, *matrices):
            factors = 2 if form.scheme == "lvamp" else len(matrices)
            matrices = [w.bfloat16() if i < factors else w for i, w in enumerate(matrices)]
        matrices = [t.to(wide) for t in matrices]
        values = values.to(wide)
        p = ops.AdaptiveParameters.of(form, matrices, values)
        flat, start = y.reshape(-1, self.m).to(wide), None if x0 is None else x0.reshape(-1, self.n).to(wide)
        if ops.is_supported_on_cpu(flat) and not ops.differentiable(*p.fixed):
            x = ops.network(form, p, flat, start, None, return_layers)[0]
        else:
            with own_precision(y):
                every = reference_adaptive.network(
                    form, flat, matrices, values, start, whole=ops.is_tracing() or flat.is_meta
                )
            x = every if return_layers else every[-1]
        return x.reshape((depth, *y.shape[:-1], self.n) if return_layers else (*y.shape[:-1], self.n)).to(y.dtype)


def rows_of(depth: int, *lists: nn.ParameterList, exponential: int = 0) -> Tensor:
    """(depth, values): what the first layers learn side by side; the first ``exponential`` lists are logarithms."""
    columns = [torch.stack([entries[k] for k in range(depth)]) for entries in lists]
    columns = [t.to(torch.promote_types(t.dtype, torch.float32)) for t in columns]  # which exponentials need
    return torch.cat([t.exp() if i < exponential else t for i, t in enumerate(columns)], dim=1)


def first_of(matrices: nn.ParameterList, depth: int) -> list[Tensor]:
    """Returns the matrices of the first layers, or the matrix that all layers share."""
    return [matrices[k] for k in range(min(depth, len(matrices)))]
