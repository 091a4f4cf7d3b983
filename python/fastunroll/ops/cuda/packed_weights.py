"""The parameters of a network as the fused kernels read them: padded, in one block of memory each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from ..cache import cached
from ..spec import NetworkSpec, Parameters
from ..tensors import address
from .device import is_capturing, stream_of


def padded(module: Any, size: int) -> int:
    """The size that the fused kernels round this one up to."""
    unit: int = module.fused_padding
    return -(-size // unit) * unit


def _fill(
    module: Any, out: Tensor, tensors: Sequence[Tensor], shape: tuple[int, int], strides: tuple[int, int]
) -> None:
    """out[l][r][c] = tensors[l], seen as an array of this shape with these strides; zero elsewhere."""
    half, like = torch.bfloat16, tensors[0]
    module.pack(
        stream_of(like), from_bfloat16=like.dtype == half, to_bfloat16=out.dtype == half,
        arrays=[t.data_ptr() for t in tensors], shape=shape, strides=strides, out_shape=tuple(out.shape[1:]),
        out_strides=out.stride()[:2], out=out.data_ptr(),
    )  # fmt: skip


def _pack_matrices(module: Any, spec: NetworkSpec, p: Parameters, gradient: bool) -> tuple[Tensor, Tensor]:
    """The factors of the first and of the second product of a layer.

    Affine steps have one product, with [W1 W2] forward and W2ᵀ backward. Gradient steps have two: with A and Wᵀ
    forward, with W and Aᵀ backward.
    """
    like, (m, n) = p.W1[0], spec.sizes(p)
    padded_m, padded_n = padded(module, m), padded(module, n)
    if spec.is_gradient_step:
        to_m, to_n = p.W1, p.W2 or p.W1
        if gradient:
            to_m, to_n = to_n, to_m
        first = like.new_empty(len(to_m), padded_m, padded_n)
        second = like.new_empty(len(to_n), padded_n, padded_m)
        _fill(module, first, to_m, (m, n), (n, 1))
        _fill(module, second, to_n, (n, m), (1, n))
        return first, second
    if gradient:
        first = like.new_empty(len(p.W2), padded_n, padded_n)
        _fill(module, first, p.W2, (n, n), (1, n))
    else:
        count = max(len(p.W1), len(p.W2))
        first = like.new_empty(count, padded_n, padded_m + padded_n)
        _fill(module, first[..., :padded_m], [*p.W1] * (count // len(p.W1)), (n, m), (m, 1))
        _fill(module, first[..., padded_m:], [*p.W2] * (count // len(p.W2)), (n, n), (n, 1))
    return first, first[:0]


class PackedWeights:
    """All parameters of a network: its matrices in their own precision, all others in single precision.

    layers: the native description of the network over them.

    gradient: for the kernel of gradients, which multiplies by the adjoint matrices.
    use_cache: take the matrices that an earlier call has packed, if they have not changed since.
    """

    def __init__(
        self, module: Any, spec: NetworkSpec, p: Parameters, *, gradient: bool = False, use_cache: bool = False
    ) -> None:
        self._module = module
        like, (m, n) = p.W1[0], spec.sizes(p)

        def pack() -> tuple[Tensor, Tensor]:
            return _pack_matrices(module, spec, p, gradient)

        if use_cache and not is_capturing(like.device):
            kind = "fused", spec.is_gradient_step, len(p.W1), stream_of(like)
            first, second = cached(kind, [*p.W1, *p.W2], pack, OptimizerSteps.now())
        else:
            first, second = pack()
        step = self._rows(p.step, m, padded(module, m))
        theta = self._rows(p.theta, n // spec.group, padded(module, n) // spec.group)
        gain, beta = (self._values(group, spec.layers) for group in (p.gain, p.beta))
        self._memory = first, second, step, theta, gain, beta

        def stride(array: Tensor | None) -> int:
            """Between the arrays of layers; 0 if the layers share one."""
            return array.stride(0) if array is not None and len(array) > 1 else 0

        self.layers: Any = module.FusedLayers(
            spec, m, n, first=address(first), second=address(second), step=address(step), theta=address(theta),
            gain=address(gain), beta=address(beta), first_stride=stride(first), second_stride=stride(second),
            step_stride=stride(step), theta_stride=stride(theta),
        )  # fmt: skip

    def _rows(self, group: Sequence[Tensor], columns: int, padded_columns: int) -> Tensor | None:
        """A row for each tensor, which holds one value for all columns, or one for each."""
        if not group:
            return None
        out = group[0].new_empty(len(group), 1, padded_columns, dtype=torch.float32)
        _fill(self._module, out, group, (1, columns), (0, 0 if group[0].numel() == 1 else 1))
        return out

    def _values(self, group: Sequence[Tensor], layers: int) -> Tensor | None:
        """A value for each layer."""
        if not group:
            return None
        out = group[0].new_empty(layers, 1, 1, dtype=torch.float32)
        if len(group) == layers and group[0].numel() == 1:
            _fill(self._module, out, group, (1, 1), (0, 0))
        else:
            _fill(self._module, out.view(1, 1, layers), group, (1, layers), (0, 0 if group[0].numel() == 1 else 1))
        return out


class OptimizerSteps:
    """The number of steps that optimisers have taken: fused ones change tensors without their version counters."""

    count = 0
    is_counting = False

    @classmethod
    def now(cls) -> int:
        if not cls.is_counting:
            cls.is_counting = True
            register_optimizer_step_post_hook(cls._add)
        return cls.count

    @classmethod
    def _add(cls, *_: Any) -> None:
        cls.count += 1
