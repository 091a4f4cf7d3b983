"""Layers over pictures, on the CPU: one native call for all pictures and layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ... import _fastunroll
from ..tensors import address, is_double, resolved
from .memory import empty
from .spectral import expanded, packed

PRIORS = "identity", "soft", "nonnegative", "box", "total_variation", "filter_bank"
_NEED_INPUT = "box", "total_variation", "filter_bank"  # their gradients follow from what they are given


class PictureLayers(NamedTuple):
    """Layers over pictures: the arguments of :func:`fastunroll.ops.picture_layers`, which describes them."""

    z: Tensor
    x0: Tensor | None
    h: Tensor
    maps: Tensor | None
    step: Tensor
    theta: Tensor | None
    beta: Tensor | None
    filters: Tensor | None
    normal: str
    prior: str
    low: float
    high: float
    iterations: int

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that are given."""
        return [t for t in self if isinstance(t, Tensor)]

    @property
    def saved_shape(self) -> tuple[int, ...]:
        """What is saved of a picture for the gradient: each layer, and before it what a prior was given, if need be."""
        return len(self.step), 2 if self.prior in _NEED_INPUT else 1, *self.z.shape[-2:]

    def call(self, function: Any, kept: int, saved: Tensor, **others: Tensor | None) -> None:
        """Calls a native function with these arguments, and with the addresses of others by name."""
        *batch, rows, columns = self.z.shape
        is_real, of_weights, coils, map_count, map_repeat = not self.z.is_complex(), self.normal == "weights", 0, 1, 1
        if of_weights:
            h, count, repeat = expanded(self.h, batch, 2)
            h = h.expand(*h.shape[:-2], rows, columns)
            h = resolved(h if is_real else h.repeat_interleave(2, -1))
        else:
            h, count, repeat = expanded(self.h, batch, 2)
        maps = self.maps
        if maps is not None:
            maps, map_count, map_repeat = expanded(maps, batch, 3)
            maps, coils = resolved(maps), maps.shape[-3]
        tensors = {"z": self.z, "x0": self.x0, "step": self.step, "theta": self.theta, "beta": self.beta,
                   "filters": self.filters}  # fmt: skip
        held = {name: None if t is None else resolved(t) for name, t in tensors.items()}
        held |= {"weights": h if of_weights else None, "maps": maps, "saved": saved, **others}
        fields: dict[str, Any] = {
            "batch": math.prod(batch), "layers": len(self.step), "threads": torch.get_num_threads(), "rows": rows,
            "columns": columns, "real_images": is_real, "count": count, "repeat": repeat, "coils": coils,
            "map_count": map_count, "map_repeat": map_repeat, "prior": PRIORS.index(self.prior), "low": self.low,
            "high": self.high, "iterations": self.iterations, "kept": kept, "saved_pictures": len(saved),
            "filter_count": 0 if self.filters is None else self.filters.shape[1],
            "filter_size": 0 if self.filters is None else self.filters.shape[2],
            **{name: address(t) for name, t in held.items()},
        }  # fmt: skip
        while not function(
            is_double(self.z),
            None if of_weights else packed(h, is_real, (count, rows, columns), h.shape[-2] == 1),
            **fields,
        ):
            pass  # the instruction set changed after h was packed


def forward(p: PictureLayers, kept: int, saved_pictures: int) -> tuple[Tensor, Tensor]:
    """The last ``kept`` layers, (kept, ..., H, W), and all layers of the first pictures, (saved_pictures, …)."""
    x, saved = empty([(kept, *p.z.shape), (saved_pictures, *p.saved_shape)], p.z.dtype)
    p.call(_fastunroll.picture_forward, kept, saved, x=x)
    return x, saved


def backward(grad: Tensor, p: PictureLayers, saved: Tensor, needs: Sequence[bool]) -> list[Tensor | None]:
    """The gradients of z, x0, step, theta, beta and filters that ``needs`` asks for; None for the others."""
    batch = math.prod(p.z.shape[:-2])
    numbers = [() if t is None else (len(t), batch, *t.shape[1:]) for t in (p.step, p.theta, p.beta, p.filters)]
    pictures = iter(empty([p.z.shape for need in needs[:2] if need], p.z.dtype))
    rows = iter(empty([shape for shape, need in zip(numbers, needs[2:], strict=True) if need], p.step.dtype))
    each = [next(pictures if i < 2 else rows) if need else None for i, need in enumerate(needs)]
    names = "to_z", "to_x0", "to_step", "to_theta", "to_beta", "to_filters"
    others = dict(zip(names, each, strict=True))
    p.call(_fastunroll.picture_backward, len(grad), resolved(saved), grad=resolved(grad), **others)
    return [*each[:2], *(None if t is None else t.sum(1) for t in each[2:])]
