"""Networks made ready for calls without gradients: matrices are packed, and kept packed while they do not change.

They are good while each tensor is the same object at the same address and each matrix has the same version: in-place
operations, optimisers, ``load_state_dict`` and ``.to()`` change one of these. What bypasses the version counter
(``w.data.mul_()``, writing through NumPy) is caught by comparing a sample of values of each matrix, unless it changes
few values only. Where a gradient is recorded matrices are packed anew, as they are about to change.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor


class Bound:
    """A native network bound to tensors, whatever their values. Never written again, so that threads may share it."""

    __slots__ = ("matrices", "network")

    def __init__(self, network: Any, tensors: list[Tensor], matrices: int = 0) -> None:
        self.network, self.matrices = network, matrices
        network.watch(tensors, matrices)

    def fits(self, tensors: list[Tensor]) -> bool:
        """Whether these are the tensors it was made of, the ``matrices`` that come first as they were."""
        fits: bool = self.network.is_current(tensors, self.matrices)
        return fits


class Packed(Bound):
    """With its matrices packed; ``halved``, rounded to bfloat16 in half the memory."""

    __slots__ = ()

    def __init__(self, network: Any, tensors: list[Tensor], matrices: int, halved: bool = False) -> None:
        network.pack(torch.get_num_threads(), halved)
        super().__init__(network, tensors, matrices)


_networks: dict[tuple[int, str], Packed] = {}


def packed(network: Any, kind: str, tensors: list[Tensor], matrices: int) -> Packed | None:
    """For callers without a place to keep it: found by the last of the ``matrices`` that come first, and ``kind``.

    None for tensors of inference mode, which have no version counter.
    """
    if any(t.is_inference() for t in tensors[:matrices]):
        return None
    last = tensors[matrices - 1]
    key = id(last), kind
    found = _networks.get(key)
    if found is None or not found.fits(tensors):
        found = Packed(network, tensors, matrices)
        if key not in _networks:
            weakref.finalize(last, _networks.pop, key, None).atexit = False
        _networks[key] = found
    return found
