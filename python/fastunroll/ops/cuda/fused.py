"""Small networks on a device: all layers in one launch, forward and backward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..network_call import Outcome
from ..spec import NetworkSpec, Parameters
from ..tensors import address
from .device import stream_of
from .kernel_choice import Plan
from .packed_weights import PackedWeights, padded


def _aligned(t: Tensor) -> Tensor:
    """The tensor at an address that is a multiple of 16 bytes, which kernels read at once."""
    return t if t.data_ptr() % 16 == 0 else t.clone()


def _aligned_or_none(t: Tensor | None) -> Tensor | None:
    return None if t is None else _aligned(t)


def forward(
    module: Any, plan: Plan, packed: PackedWeights, y: Tensor, x0: Tensor | None, s0: Tensor | None, out: Outcome
) -> None:
    """Fills the results that have values, all but those of support selection."""
    x0, s0 = _aligned_or_none(x0), _aligned_or_none(s0)
    module.fused_network(
        stream_of(y), plan, packed.layers, y.shape[0], address(y), address(x0), address(s0), *map(address, out[:4])
    )


@dataclass(frozen=True)
class Gradients:
    """The results of the gradient kernel, which leaves sums over samples to be completed.

    z: the gradient of z of each layer, (K, batch, n).
    Wz: W times that, (K, batch, m), of gradient steps; with AMP the gradient of the residual.
    x0: the gradient of the first input, (batch, n).
    theta: sums over each tile of samples, (tiles, K, n / group).
    beta, gain: sums over each tile of samples and part of a row, (tiles, K, parts); those of the gain times the gain.
    """

    z: Tensor
    Wz: Tensor | None
    x0: Tensor | None
    theta: Tensor | None
    beta: Tensor | None
    gain: Tensor | None


_SEGMENT, _SEGMENT_FROM = 4, 1 << 24  # layers of a launch, where the iterates have more values than that


def gradients(
    module: Any, plan: Plan, spec: NetworkSpec, p: Parameters, y: Tensor, grad: Tensor, x0: Tensor | None, x: Tensor,
    saved: Tensor, needs: Sequence[bool],
) -> Iterator[tuple[int, Gradients]]:  # fmt: skip
    """The gradients of segments of layers, the last segment first, each with the number of its first layer.

    One segment holds all layers, unless that would need too much memory.
    """
    segment = _SEGMENT if spec.scheme == "proximal_gradient" and x.numel() >= _SEGMENT_FROM else spec.layers
    grad_above: Tensor | None = None  # of the output of a segment, by the segment after it
    for stop in range(spec.layers, 0, -segment):
        start = max(0, stop - segment)
        grad_x = grad[start:stop] if grad.dim() == 3 else grad
        if grad_above is not None and grad.dim() == 3:
            grad_x = torch.cat([grad_x[:-1], (grad_x[-1] + grad_above).unsqueeze(0)])
        elif grad_above is not None:
            grad_x = grad_above
        before = x[start - 1] if start else x0
        found = _gradients_of_segment(
            module, plan, spec.part(start, stop), p.part(start, stop), y, grad_x, before, x[start:stop],
            saved[start:stop], [needs[0], needs[1] or start > 0, *needs[2:]],
        )  # fmt: skip
        grad_above = found.x0
        yield start, found


def _gradients_of_segment(
    module: Any, plan: Plan, spec: NetworkSpec, p: Parameters, y: Tensor, grad: Tensor, x0: Tensor | None, x: Tensor,
    saved: Tensor, needs: Sequence[bool],
) -> Gradients:  # fmt: skip
    packed = PackedWeights(module, spec, p, gradient=True)
    (m, n), batch = spec.sizes(p), y.shape[0]
    need_y, need_x0, _, need_W1, need_W2, need_step, need_theta, need_gain, need_beta = needs
    grad, x0 = _aligned(grad), _aligned_or_none(x0)
    tiles, parts = -(-batch // (16 * plan.row_tiles)), plan.blocks * module.fused_warps

    def sums(columns: int, needed: bool) -> Tensor | None:
        return y.new_empty(tiles, spec.layers, columns, dtype=torch.float32) if needed else None

    need_Wz = spec.is_gradient_step and (need_y or need_step or need_W1 or need_W2)
    found = Gradients(
        z=torch.empty_like(x),
        Wz=y.new_empty(spec.layers, batch, m) if need_Wz else None,
        x0=y.new_empty(batch, n) if need_x0 else None,
        theta=sums(padded(module, n), need_theta),
        beta=sums(parts, need_beta and spec.scheme != "proximal_gradient"),
        gain=sums(parts, need_gain),
    )
    module.fused_gradient(
        stream_of(y), plan, packed.layers, batch, grad.dim() == 3, x=address(x), x0=address(x0),
        saved=address(saved), grad=address(grad), grad_z=address(found.z), Wz=address(found.Wz),
        grad_x0=address(found.x0), grad_theta=address(found.theta), grad_beta=address(found.beta),
        grad_gain=address(found.gain),
    )  # fmt: skip
    theta = None if found.theta is None else found.theta[..., : n : spec.group]
    return Gradients(found.z, found.Wz, found.x0, theta, found.beta, found.gain)
