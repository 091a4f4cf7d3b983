"""Autocast and the plain operations that run where there is no kernel."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from . import _checks


def own_precision(x: Tensor) -> AbstractContextManager[None]:
    """Plain operations in the dtype of their arguments, autocast or not."""
    return torch.autocast(x.device.type, enabled=False) if _checks.autocasts(x) else nullcontext()
