"""Colour pictures (H, W, C), which everything here takes as H pictures of W×C: the channels come first."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ._checks import shape_text
from .warn import warn

CHANNELS = 3, 4  # red, green and blue, perhaps with a transparency
LEAST = 16  # pixels of a side


def are_colours_last(shape: Sequence[int]) -> bool:
    """Whether it is the shape of colour pictures (..., H, W, C). PyTorch would make a condition of it in compiling."""
    is_one = len(shape) > 2 and not torch.compiler.is_compiling() and shape[-1] in CHANNELS
    return is_one and min(shape[-3:-1]) >= LEAST


def warn_of_colours(shape: Sequence[int]) -> None:
    """Warns that colour pictures are taken as many narrow ones: Python shows the same text of a line once."""
    H, W, C = shape[-3:]
    warn(
        f"pictures are (..., H, W), so a batch of shape {shape_text(shape)} is one of pictures of {W}×{C}: use "
        f".movedim(-1, -3) if these are {H}×{W} in colour, else state the shape of one sample, ({W}, {C})",
        UserWarning,
    )
