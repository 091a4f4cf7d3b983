"""Runs layers one by one in PyTorch, for all pieces that are not compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .. import _checks
from ..schemes import Scheme
from .linear import at


class Shrink:
    """The proximal step of each layer: gain·prox_{θ·scale}(z)."""

    def __init__(self, prox: Callable[[int, Tensor, Tensor], Tensor], theta: Sequence[Tensor], gain: Sequence[Any]):
        self.prox, self.theta, self.gains = prox, theta, gain
        self.zero: Tensor | None = None  # in the place of a threshold

    def gain(self, k: int) -> Tensor | float:
        return at(self.gains, k) if self.gains else 1.0

    def __call__(self, k: int, z: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        if self.theta:
            theta = at(self.theta, k)
            theta = theta if isinstance(scale, float) and scale == 1 else theta * scale
        else:
            theta = self.zero = z.real.new_zeros(()) if self.zero is None else self.zero
        x = self.prox(k, z, theta)
        return self.gain(k) * x if self.gains else x


def layers(
    scheme: Scheme, linear: Any, shrink: Shrink, data: Tensor, x: Tensor, s: Tensor | None, first: int, last: int,
    keep: bool = False,
) -> tuple[list[Tensor], Tensor | None]:  # fmt: skip
    """The output of the layer last − 1 from x and s, or with ``keep`` those of all layers from ``first`` on, and the
    second state after them. Of others the next layer takes the memory.
    """
    out = []
    for k in range(first, last):
        found = scheme.step(k, x, s, data, linear, shrink)
        if not isinstance(found, tuple) or len(found) != 2:  # a batch of two would pass for a pair
            raise TypeError(f"{type(scheme).__name__}.step must return a pair (x, s), got {_checks.kind(found)}")
        x, s = found
        if keep:
            out.append(x)
    return out or [x], s


def _state(scheme: Scheme, s0: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The second state that a user gives, if it fits."""
    if scheme.state_of is None:
        return s0
    like = x if scheme.state_of == "x" else y
    _checks.same_device("s0", _checks.tensor("s0", s0), like)
    _checks.same_precision("s0", s0, scheme.state_of, like)
    if s0.shape != like.shape:
        raise ValueError(
            f"s0 must have the shape of {scheme.state_of}, {_checks.shape_text(like.shape)}, got "
            f"{_checks.shape_text(s0.shape)}"
        )
    return s0


def run(
    scheme: Scheme,
    linear: Any,
    shrink: Shrink,
    y: Tensor,
    x0: Tensor | None,
    s0: Tensor | None,
    count: int,
    *,
    keep: bool = False,
    segment: int = 0,
) -> tuple[Tensor, Tensor | None]:
    """Runs ``count`` layers from x0, or from zero. Returns the last x, or every x with ``keep``, and the second state.

    segment: the number of layers between two outputs that are kept for gradients; 0 keeps all. The backward pass
        computes the other layers again.
    """
    data = linear.data(y)
    x = linear.zero(y, data) if x0 is None else x0
    s = scheme.initial(x, y, linear) if s0 is None else _state(scheme, s0, x, y)
    if keep:
        out, s = layers(scheme, linear, shrink, data, x, s, 0, count, keep=True)
        return torch.stack(out), s
    # The transforms of torch.func know no checkpoints: there, all layers are kept.
    keeps_few = 0 < segment < count and torch.is_grad_enabled() and not torch._C._are_functorch_transforms_active()
    size = segment if keeps_few else count
    for first in range(0, count, size):
        part = scheme, linear, shrink, data, x, s, first, min(first + size, count)
        if size == count:
            out, s = layers(*part)
        elif first == 0:  # the linear step knows where it starts by the object, which checkpoints return as another
            out, s = checkpoint(partial(layers, *part), use_reentrant=False)
        else:
            out, s = checkpoint(layers, *part, use_reentrant=False)
        x = out[-1]
    return x, s
