"""Keeps autocast away from the plain operations that run if there is no kernel."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from . import _checks


def own_precision(x: Tensor) -> AbstractContextManager[None]:
    """A context in which plain operations keep the dtype of their arguments, with autocast or without."""
    return torch.autocast(x.device.type, enabled=False) if _checks.autocasts(x) else nullcontext()
