"""A cache of values that are computed from tensors, such as packed weights, until the tensors change.

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
from .tensors import PLAIN

T = TypeVar("T")


def _shape(t: Tensor) -> tuple[int, int]:
    """The rows, and the bytes of a row; zero for tensors that are not in the processor's memory."""
    if t.device.type != "cpu" or t.numel() == 0:
        return 0, 0
    rows = t.shape[0] if t.dim() > 1 else 1
    return rows, t.numel() // rows * t.itemsize


class CacheEntry(Generic[T]):
    """A value, and the tensors that it was made of. It never changes, so threads may share it.

    monitor: for native calls, which ask it themselves.
    is_current: whether these are the tensors it was made of, unchanged.
    is_same: whether these are the tensors it was made of, whatever their values are now.
    """

    __slots__ = ("is_current", "is_same", "monitor", "value", "version")

    def __init__(self, tensors: list[Tensor], make: Callable[[], T], version: Hashable = 0) -> None:
        self.version = version
        # The monitor reads versions before the data, so the next call notices a change while the value is made.
        self.monitor = monitor = _fastunroll.Monitor(tensors, [_shape(t) for t in tensors])
        self.is_current: Callable[[list[Tensor]], bool] = monitor.is_current
        self.is_same: Callable[[list[Tensor]], bool] = monitor.is_same
        self.value = make()


_is_wrapped: Callable[[Tensor], bool] = torch._C._functorch.is_functorch_wrapped_tensor
_registry: dict[tuple[int, Hashable], CacheEntry[Any]] = {}


def entry(kind: Hashable, tensors: list[Tensor], make: Callable[[], T], version: Hashable = 0) -> CacheEntry[T] | None:
    """What is kept of contiguous tensors: the value that ``make`` makes of them, or the one that an earlier call of
    this kind has made, if the tensors and the ``version`` are the same.

    None where nothing can be kept. Tensors of inference mode have no version counter, those that a transform of
    ``torch.func`` wraps no storage, and the values of a subclass may lie elsewhere.
    """
    for t in tensors:  # quickly: every iteration comes here
        if type(t) not in PLAIN or t.is_inference() or _is_wrapped(t):
            return None
    key = id(tensors[-1]), kind
    found = _registry.get(key)
    if found is None or found.version != version or not found.is_current(tensors):
        if found is None:
            weakref.finalize(tensors[-1], _registry.pop, key, None).atexit = False
        _registry.pop(key, None)
        del found  # frees its memory for the next one
        found = _registry[key] = CacheEntry(tensors, make, version)
    return found


def cached(kind: Hashable, tensors: list[Tensor], make: Callable[[], T], version: Hashable = 0) -> T:
    """The value of an :func:`entry`, or what ``make`` makes where nothing can be kept."""
    found = entry(kind, tensors, make, version)
    return make() if found is None else found.value


def latest(kind: Hashable, tensor: Tensor, version: Hashable = 0) -> CacheEntry[Any] | None:
    """What is kept of a tensor for this version, if anything is. Native code asks its monitor whether it is current."""
    found = _registry.get((id(tensor), kind))
    return found if found is not None and found.version == version else None
