"""The wavelet transform of pictures, on the CPU: one native call for all pictures and levels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ... import _fastunroll
from ..tensors import is_double, resolved
from .memory import empty


def wavelet_transform(x: Tensor, low_pass: Sequence[float], levels: int, adjoint: bool) -> Tensor:
    """W x of pictures (..., H, W), or Wᵀ x."""
    *batch, rows, columns = x.shape
    x = resolved(x)
    (y,) = empty([x.shape], x.dtype)
    _fastunroll.wavelet_transform(
        is_double(x), (math.prod(batch), rows, columns), not x.is_complex(), low_pass, levels, adjoint,
        torch.get_num_threads(), (x.data_ptr(), y.data_ptr()),
    )  # fmt: skip
    return y
