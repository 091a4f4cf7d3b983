"""How far a result is from another one."""

from __future__ import annotations

import torch
from torch import Tensor


def relative_error(a: Tensor, b: Tensor) -> float:
    """‖a − b‖ / ‖b‖, zero for two empty tensors."""
    assert a.shape == b.shape
    scale = b.norm().item()
    return (a.to(b.dtype) - b).norm().item() / (scale if scale else 1.0)


def tolerance(dtype: torch.dtype) -> float:
    """What a native result may differ from the reference by, relative."""
    return {torch.float32: 1e-5, torch.complex64: 1e-5}.get(dtype, 1e-12)
