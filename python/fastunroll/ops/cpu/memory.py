"""Memory for results: large ones reuse the pages of earlier ones, since fresh pages cost more than the arithmetic."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import _fastunroll
from ..network_call import Outcome, outcome_shapes

# torch.utils.dlpack.from_dlpack checks its argument first, which takes as long again.
_from_dlpack: Callable[[Any], Tensor] = torch._C._from_dlpack
_HUGE = 1 << 30
_LARGEST_LEARNED = (32 << 20) - (64 << 10)  # bytes of the largest block of which glibc learns


def available_memory() -> int | None:
    """The bytes that are available without swapping; None if the system does not tell."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


@cache
def keep_freed_memory() -> None:
    """Makes the C library keep up to 64 MB of what is freed at the end of its heap, for the next to come.

    Else the temporary tensors of a product may be fresh pages in each call, which take longer than its Fourier
    transforms. glibc keeps twice the largest block that was freed, of at most 32 MB. This is such a block, never
    written; other libraries take no notice.
    """
    np.empty(_LARGEST_LEARNED, np.uint8)


def empty(shapes: Sequence[Sequence[int]], dtype: torch.dtype) -> list[Tensor]:
    """Uninitialised tensors on the CPU, real or complex, of 32 or 64 bits. Several cost little more than one.

    Raises:
        MemoryError: there is not enough memory. Linux grants more than it has, and later kills the process.
    """
    size = max(map(math.prod, shapes), default=0) * dtype.itemsize
    if size >= _HUGE and os.name == "posix":
        available = available_memory()
        if available is not None and size > available:
            raise MemoryError(_too_large(shapes, dtype, available))
    try:
        capsules = _fastunroll.empty(dtype.to_real() is torch.float64, dtype.is_complex, shapes)
    except MemoryError:
        raise MemoryError(_too_large(shapes, dtype, None)) from None
    return list(map(_from_dlpack, capsules))


def empty_outcome(spec: Any, p: Any, y: Tensor, return_layers: bool, save_for_backward: bool) -> Outcome:
    """Uninitialised results of a network."""
    *shapes, selected_shape = outcome_shapes(
        spec, p, y.shape[0], return_layers, save_for_backward, saves_residuals=True
    )
    x, last, s, saved = empty(shapes, y.dtype)
    return Outcome(x, last, s, saved, torch.empty(selected_shape, dtype=torch.uint8))


def _too_large(shapes: Sequence[Sequence[int]], dtype: torch.dtype, available: int | None) -> str:
    largest = max(shapes, key=math.prod)
    size = math.prod(largest) * dtype.itemsize
    of = "" if available is None else f" of {available / 1e9:.1f} GB available"
    return (
        f"a result of shape {tuple(largest)} takes {size / 1e9:.1f} GB{of}: use a smaller batch, or for training keep "
        "fewer layers at a time (keep_every= of fu.unrolled)"
    )
