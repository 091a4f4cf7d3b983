"""Pictures as the networks of PyTorch take them: real batches (N, C, H, W)."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import shape_text


def as_channels(z: Tensor, channels: int) -> Tensor:
    """Pictures as a real batch (N, C, H, W), for a network of C channels.

    One channel takes real pictures (..., H, W). Two channels take complex pictures (..., H, W), by their real and
    imaginary parts. Any number of channels C > 1 takes real pictures (..., C, H, W).
    """
    own = 1 if channels == 1 or z.is_complex() else channels
    dims = 2 if own == 1 else 3
    fits = z.dim() >= dims and 0 not in z.shape[-2:] and (own == 1 or z.shape[-3] == channels)
    if not fits or (z.is_complex() and channels != 2):
        taken = "real pictures (..., H, W)" if channels == 1 else f"real pictures (..., {channels}, H, W)"
        taken += " or complex pictures (..., H, W)" if channels == 2 else ""
        fix = ": complex pictures need channels=2" if z.is_complex() and channels != 2 else ""
        raise ValueError(
            f"a network of {channels} {'channel takes' if channels == 1 else 'channels takes'} {taken}, got {z.dtype} "
            f"of shape {shape_text(z.shape)}{fix}"
        )
    parts = torch.stack([z.real, z.imag], -3) if z.is_complex() else z
    return parts.reshape(-1, channels, *z.shape[-2:])


def from_channels(x: Tensor, z: Tensor) -> Tensor:
    """A real batch (N, C, H, W) as pictures of the shape of ``z``, which :func:`as_channels` has taken."""
    pictures = torch.complex(x[:, 0], x[:, 1]) if z.is_complex() else x
    return pictures.reshape(z.shape)


def levels_of(theta: Tensor, z: Tensor, channels: int) -> Tensor:
    """Numbers that broadcast with pictures ``z``: one for all, of shape (), or one for each of the batch, (N,)."""
    if theta.numel() == 1:
        return theta.reshape(())
    dims = 2 if channels == 1 or z.is_complex() else 3
    try:
        each = theta.expand(*z.shape[: z.dim() - dims], *(1,) * dims)
    except RuntimeError:
        raise ValueError(
            f"theta must be one number, or one for each picture of {shape_text(z.shape)}, got shape "
            f"{shape_text(theta.shape)}"
        ) from None
    return each.reshape(-1)
