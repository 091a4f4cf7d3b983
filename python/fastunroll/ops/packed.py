"""Weights laid out for the forward pass, kept while they do not change.

Where a gradient is recorded they are laid out anew, as weights are about to change. Otherwise those of an earlier call
are good while each matrix is the same tensor at the same address and version: in-place operations, optimisers,
``load_state_dict`` and ``.to()`` change one of these. What bypasses the version counter (``w.data.mul_()``, writing
through NumPy) is caught by comparing a sample of 64 values of each matrix, unless it changes few values only.

A network's packed weights are found by its last matrix and live as long as that does.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _fastunroll
from .register import addresses, is_double


@dataclass(frozen=True)
class _Packed:
    """Packed weights and what they were made of. Never written again, so that threads may share them."""

    panels: Tensor
    weights: tuple[weakref.ref[Tensor], ...]
    stamp: tuple[object, ...]

    def fits(self, weights: Sequence[Tensor], stamp: tuple[object, ...]) -> bool:
        return self.stamp == stamp and all(r() is w for r, w in zip(self.weights, weights, strict=True))


_networks: dict[int, _Packed] = {}
_own = threading.local()  # the memory that a thread packs into where weights are not kept


def _pack(w1: Sequence[Tensor], w2: Sequence[Tensor], panels: Tensor) -> Tensor:
    n, m = w1[0].shape
    at1, at2, threads = addresses(w1), addresses(w2), torch.get_num_threads()
    _fastunroll.lista_pack(is_double(w1[0]), m, n, threads, at1, at2, panels.data_ptr())
    return panels


def _stamp(w1: Sequence[Tensor], w2: Sequence[Tensor]) -> tuple[object, ...]:
    at1, at2 = addresses(w1), addresses(w2)
    versions = (w._version for w in (*w1, *w2))
    sample = _fastunroll.fingerprint(at1, w1[0].nbytes), _fastunroll.fingerprint(at2, w2[0].nbytes)
    return (_fastunroll.instruction_set(), len(w1), *at1, *at2, *versions, *sample)


def packed(w1: Sequence[Tensor], w2: Sequence[Tensor], reuse: bool) -> Tensor:
    """The packed form of contiguous CPU matrices; with ``reuse`` that of an earlier call, if it still holds."""
    n, m = w1[0].shape
    weights = (*w1, *w2)
    size = _fastunroll.lista_panels_size(is_double(w1[0]), m, n, len(w1), len(w2))
    if not reuse or any(w.is_inference() for w in weights):  # tensors of inference mode have no version counter
        memory = getattr(_own, "memory", None)
        if memory is None or memory.nbytes < size * w1[0].itemsize:
            memory = _own.memory = torch.empty(size * w1[0].itemsize, dtype=torch.uint8)
        return _pack(w1, w2, memory)
    key, stamp = id(w2[-1]), _stamp(w1, w2)
    found = _networks.get(key)
    if found is None or not found.fits(weights, stamp):
        panels = _pack(w1, w2, torch.empty(size, dtype=w1[0].dtype))
        last = weakref.ref(w2[-1], lambda _: _networks.pop(key, None))
        found = _Packed(panels, (*map(weakref.ref, weights[:-1]), last), stamp)
        _networks[key] = found
    return found.panels
