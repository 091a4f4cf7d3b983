"""Facts about devices: their streams, their processors, and CUDA graphs that are being captured."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# In the order of the native code.
ELEMENTS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

_described: dict[torch.device, tuple[int, bool]] = {}


def describe(module: Any, device: torch.device) -> tuple[int, bool]:
    """The number of processors, and whether blocks can share their memory."""
    if device not in _described:
        _described[device] = module.describe(device.index or 0)
    return _described[device]


def stream_of(t: Tensor) -> tuple[int, int]:
    """The device and stream on which kernels over this tensor run."""
    if t.device.type != "cuda":
        return 0, 0
    return t.device.index, torch.cuda.current_stream(t.device).cuda_stream


def is_capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is being captured."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()
