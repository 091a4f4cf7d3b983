"""Autocast and the plain operations that run where no kernel serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from . import _checks


@contextmanager
def own_precision(x: Tensor) -> Iterator[None]:
    """Plain operations in the dtype of their arguments, autocast or not."""
    if _checks.autocasts(x):
        with torch.autocast(x.device.type, enabled=False):
            yield
    else:
        yield
