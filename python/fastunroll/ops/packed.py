"""Weights laid out for the forward pass, kept while they do not change.

A network's packed weights are found by its first matrix and live as long as that does. Where a gradient is recorded
they are made anew: weights are about to change. Otherwise they are good while each matrix is the same tensor at the
same address and version: in-place operations, optimisers, ``load_state_dict`` and ``.to()`` change one of these. What
bypasses the version counter (``w.data.mul_()``, writing through NumPy) is caught by comparing a sample of 64 values of
each matrix, unless it changes few values only.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _fastunroll
from .register import addresses, is_double


class _Packed:
    """The packed weights of one network."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stamp: tuple[object, ...] = ()
        self.panels: Tensor | None = None

    def bring_up_to_date(
        self, w1: Sequence[Tensor], w2: Sequence[Tensor], versions: Sequence[int], reuse: bool
    ) -> Tensor:
        at1, at2 = addresses(w1), addresses(w2)
        n, m = w1[0].shape
        size1, size2 = n * m * w1[0].itemsize, n * n * w2[0].itemsize
        sample = _fastunroll.fingerprint(at1, size1), _fastunroll.fingerprint(at2, size2)
        stamp = (_fastunroll.instruction_set(), w1[0].dtype, m, n, *at1, *at2, *versions, *sample)
        with self.lock:
            if self.panels is None or stamp != self.stamp or not reuse:
                size = _fastunroll.lista_panels_size(is_double(w1[0]), m, n, len(w1), len(w2))
                if self.panels is None or self.panels.numel() != size or self.panels.dtype != w1[0].dtype:
                    self.panels = torch.empty(size, dtype=w1[0].dtype)
                _fastunroll.lista_pack(
                    is_double(w1[0]), m, n, torch.get_num_threads(), at1, at2, self.panels.data_ptr()
                )
                self.stamp = stamp
            return self.panels


_networks: dict[int, tuple[weakref.ref[Tensor], _Packed]] = {}


def packed(w1: Sequence[Tensor], w2: Sequence[Tensor], reuse: bool) -> Tensor:
    """The packed form of contiguous CPU matrices, made anew if a weight has changed or without ``reuse``."""
    if any(w.is_inference() for w in (*w1, *w2)):  # these have no version counter
        return _Packed().bring_up_to_date(w1, w2, (), False)
    first = w2[0]
    key = id(first)
    entry = _networks.get(key)
    if entry is None or entry[0]() is not first:
        entry = (weakref.ref(first, lambda _: _networks.pop(key, None)), _Packed())
        _networks[key] = entry
    return entry[1].bring_up_to_date(w1, w2, [w._version for w in (*w1, *w2)], reuse)
