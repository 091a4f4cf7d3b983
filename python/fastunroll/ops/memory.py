"""Memory for results: large ones reuse the pages of earlier ones, since fresh pages cost more than the arithmetic."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _fastunroll

_LARGE = 1 << 18
_HUGE = 1 << 30


def _available() -> int | None:
    """Bytes that can be had without swapping, where the system tells."""
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor on the CPU.

    Raises:
        MemoryError: there is not that much memory. (Linux hands out more than it has, and kills who uses it.)
    """
    count = math.prod(shape)
    size = count * dtype.itemsize
    if size < _LARGE:
        return torch.empty(shape, dtype=dtype)
    if size >= _HUGE and os.name == "posix":
        available = _available()
        if available is not None and size > available:
            raise MemoryError(_too_large(shape, size, available))
    try:
        memory = _fastunroll.Memory(size)
    except MemoryError:
        raise MemoryError(_too_large(shape, size, None)) from None
    return torch.frombuffer(memory, dtype=dtype, count=count).view(*shape)


def _too_large(shape: Sequence[int], size: int, available: int | None) -> str:
    of = "" if available is None else f" of {available / 1e9:.1f} GB available"
    return (
        f"a result of shape {tuple(shape)} takes {size / 1e9:.1f} GB{of}: use a smaller batch, or for training "
        "fewer layers at a time (checkpoint=)"
    )
