"""Values made of tensors, such as packed weights, cached for as long as the tensors do not change.

A tensor counts as unchanged while it is the same object at the same address, with the same version counter and the
same sample of values. In-place operations, optimisers, ``load_state_dict`` and ``.to()`` change one of these. The
sample notices an edit that bypasses the version counter (``w.data.mul_()``, or through NumPy) if it changes all values
of a matrix, a quarter or more of its rows or columns that lie side by side, or every second, third or fourth of them;
every value of a tensor of at most 4 KB is in the sample. Smaller edits belong under ``torch.no_grad()``, without
``.data``.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from .. import _fastunroll
from .spec import NetworkSpec, Parameters

T = TypeVar("T")


def _shape(t: Tensor) -> tuple[int, int]:
    """Rows, and bytes of a row, in memory that the processor reads."""
    if t.device.type != "cpu" or t.numel() == 0:
        return 0, 0
    rows = t.shape[0] if t.dim() > 1 else 1
    return rows, t.numel() // rows * t.itemsize


class Kept(Generic[T]):
    """A value, and the tensors that it was made of. Threads may share it: it is never changed."""

    __slots__ = ("_watch", "value")

    def __init__(self, tensors: list[Tensor], make: Callable[[], T]) -> None:
        # The versions are read before the data: a change while the value is made is noticed by the next call.
        self._watch = _fastunroll.Watch(tensors, [_shape(t) for t in tensors])
        self.value = make()

    def is_current(self, tensors: list[Tensor]) -> bool:
        """Whether these are the tensors it was made of, unchanged."""
        return self._watch.is_current(tensors)

    def is_same(self, tensors: list[Tensor]) -> bool:
        """Whether these are the tensors it was made of, whatever their values are now."""
        return self._watch.is_same(tensors)


_registry: dict[tuple[int, Hashable], Kept[Any]] = {}


def cached(kind: Hashable, tensors: list[Tensor], make: Callable[[], T]) -> T:
    """The value that ``make`` makes of contiguous tensors: that of an earlier call of this kind, if they are unchanged.

    Tensors of inference mode have no version counter, so nothing is cached for them.
    """
    if any(t.is_inference() for t in tensors):
        return make()
    key = id(tensors[-1]), kind
    found = _registry.get(key)
    if found is None or not found.is_current(tensors):
        if found is None:
            weakref.finalize(tensors[-1], _registry.pop, key, None).atexit = False
        _registry.pop(key, None)
        del found  # its memory can serve again
        found = _registry[key] = Kept(tensors, make)
    value: T = found.value
    return value


def packed(native: Any, f: NetworkSpec, p: Parameters, bfloat16: bool = False) -> Any:
    """The packed matrices of a network, which other networks with the same matrices use too."""
    kind = "packed", f.linear, len(p.W1), len(p.W2), bfloat16, _fastunroll.instruction_set()
    return cached(kind, [*p.W1, *p.W2], lambda: _fastunroll.PackedWeights(native, torch.get_num_threads(), bfloat16))
