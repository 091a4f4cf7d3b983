"""The same values in other clothes: strides, lazy views, subclasses; and values that are not finite."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .draw import Draw


class Subclass(torch.Tensor):
    """A tensor of a type of its own, as libraries have them."""


def _transposed(t: Tensor) -> Tensor:
    return t.mT.contiguous().mT if t.dim() > 1 else t


def _outer_first(t: Tensor) -> Tensor:
    """The first dimension has the smallest stride."""
    return t.movedim(0, -1).contiguous().movedim(-1, 0) if t.dim() else t


def _every_second(t: Tensor) -> Tensor:
    return torch.stack([t, torch.full_like(t, 7.0)], dim=-1)[..., 0]


def _offset(t: Tensor) -> Tensor:
    """Starts one element into its storage."""
    return torch.cat([t.new_ones(1), t.reshape(-1)])[1:].view(t.shape)


def _window(t: Tensor) -> Tensor:
    """Columns of a wider matrix."""
    return torch.cat([t, t, t[..., :1]], dim=-1)[..., : t.shape[-1]] if t.dim() and t.shape[-1] else t


def _negated(t: Tensor) -> Tensor:
    return torch._neg_view(-t)


def _conjugated(t: Tensor) -> Tensor:
    """Complex values whose conjugation is pending; of real ones, an imaginary part of such."""
    if t.is_complex():
        return t.conj().resolve_conj().conj()
    return torch.complex(torch.zeros_like(t), -t).conj().imag if t.dtype in (torch.float32, torch.float64) else t


def _real_part(t: Tensor) -> Tensor:
    return torch.complex(t, torch.ones_like(t)).real if t.dtype in (torch.float32, torch.float64) else t


# Differentiable, and the values are those of the argument.
CLOTHES: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": _transposed,
    "outer first": _outer_first,
    "every second": _every_second,
    "offset": _offset,
    "window": _window,
    "negated": _negated,
    "conjugated": _conjugated,
    "real part": _real_part,
    "subclass": lambda t: t.as_subclass(Subclass),
}


def clothe(d: Draw, names: list[str], share: float = 0.4) -> dict[str, Callable[[Tensor], Tensor]]:
    """What some of these tensors wear."""
    worn = {}
    for name in names:
        if d.random.random() < share / max(1.0, len(names) / 3):
            worn[name] = CLOTHES[d.pick("strides", list(CLOTHES))]
    return worn


def expanded(d: Draw, t: Tensor) -> Tensor:
    """Sometimes the first row of the first dimension, repeated without a copy."""
    return t[:1].expand_as(t) if t.dim() > 1 and t.shape[0] > 1 and d.chance("strides=expanded", 0.05) else t


def place(d: Draw, t: Tensor) -> tuple[int, ...]:
    """The indices of one of its values; there may be no flat view."""
    i = torch.tensor(d.random.randrange(t.numel()))
    return tuple(map(int, torch.unravel_index(i, t.shape)))


def spoil(d: Draw, t: Tensor, values: tuple[float, ...] = (math.nan, math.inf, -math.inf)) -> Tensor:
    """A copy, of which one value is not finite."""
    t = t.detach().clone()
    value = d.pick("value", values)
    at = place(d, t)
    if t.is_complex() and d.random.random() < 0.5:
        t[at] = complex(float(t[at].real), value)
    else:
        t[at] = value
    return t
