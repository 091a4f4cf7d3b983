"""Memory for results: large ones reuse the pages of earlier ones, since fresh pages cost more than the arithmetic."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from .. import _fastunroll

_HUGE = 1 << 30


def available_memory() -> int | None:
    """Bytes that can be had without swapping, where the system tells."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


def empty(shapes: Sequence[Sequence[int]], dtype: torch.dtype) -> list[Tensor]:
    """Uninitialised tensors on the CPU, float32 or float64: many cost little more than one.

    Raises:
        MemoryError: there is not that much memory. (Linux hands out more than it has, and kills who uses it.)
    """
    size = max(map(math.prod, shapes), default=0) * dtype.itemsize
    if size >= _HUGE and os.name == "posix":
        available = available_memory()
        if available is not None and size > available:
            raise MemoryError(_too_large(shapes, dtype, available))
    try:
        capsules = _fastunroll.empty(dtype is torch.float64, shapes)
    except MemoryError:
        raise MemoryError(_too_large(shapes, dtype, None)) from None
    return [from_dlpack(c) for c in capsules]


def _too_large(shapes: Sequence[Sequence[int]], dtype: torch.dtype, available: int | None) -> str:
    largest = max(shapes, key=math.prod)
    size = math.prod(largest) * dtype.itemsize
    of = "" if available is None else f" of {available / 1e9:.1f} GB available"
    return (
        f"a result of shape {tuple(largest)} takes {size / 1e9:.1f} GB{of}: use a smaller batch, or for training "
        "fewer layers at a time (checkpoint=)"
    )
