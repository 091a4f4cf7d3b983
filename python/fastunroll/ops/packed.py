"""Weights laid out for the forward pass, kept while they do not change.

Where a gradient is recorded they are laid out anew, as weights are about to change. Otherwise those of an earlier call
are good while each matrix is the same tensor at the same address and version: in-place operations, optimisers,
``load_state_dict`` and ``.to()`` change one of these. What bypasses the version counter (``w.data.mul_()``, writing
through NumPy) is caught by comparing a sample of 64 values of each matrix, unless it changes few values only.

A network's packed weights are found by its last matrix and live as long as that does.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import _fastunroll
from .register import addresses


@dataclass(frozen=True)
class _Packed:
    """Packed weights and what they were made of. Never written again, so that threads may share them."""

    panels: Tensor
    weights: tuple[weakref.ref[Tensor], ...]
    stamp: tuple[object, ...]

    def fits(self, weights: Sequence[Tensor], stamp: tuple[object, ...]) -> bool:
        return self.stamp == stamp and all(r() is w for r, w in zip(self.weights, weights, strict=True))


_networks: dict[int, _Packed] = {}


def _stamp(network: Any, coupled: bool, matrices: Sequence[Tensor]) -> tuple[object, ...]:
    at = addresses(matrices)
    versions = (w._version for w in matrices)
    sample = _fastunroll.fingerprint(at, [w.nbytes for w in matrices])
    return (_fastunroll.instruction_set(), coupled, network.packed_size(), *at, *versions, sample)


def packed(network: Any, coupled: bool, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor | None:
    """The packed form of the contiguous matrices of a native network; that of an earlier call, if it still holds.

    None for tensors of inference mode, which have no version counter: the call packs for itself.
    """
    matrices = (*first, *second)
    if any(w.is_inference() for w in matrices):
        return None
    key, stamp = id(matrices[-1]), _stamp(network, coupled, matrices)
    found = _networks.get(key)
    if found is None or not found.fits(matrices, stamp):
        panels = torch.empty(network.packed_size(), dtype=matrices[0].dtype)
        network.pack(torch.get_num_threads(), panels.data_ptr())
        last = weakref.ref(matrices[-1], lambda _: _networks.pop(key, None))
        found = _Packed(panels, (*map(weakref.ref, matrices[:-1]), last), stamp)
        _networks[key] = found
    return found.panels
