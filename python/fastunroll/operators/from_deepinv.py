"""Physics of DeepInverse as the operators of this package: their kernels, masks and maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .blur import Blur
from .channels import RealChannels
from .fourier import Fourier
from .linear_operator import LinearOperator
from .mask import Mask
from .multi_coil import MultiCoilFourier
from .recognised import shared


def of_deepinv(physics: Any) -> LinearOperator | None:
    """The operator that computes the same as a physics of DeepInverse, of tensors that it shares; None for other ones.

    A physics that learns stays what it is, so that its parameters are found.
    """
    kind = type(physics)
    make = _KINDS.get(kind.__name__) if kind.__module__.split(".")[0] == "deepinv" else None
    if make is None or any(p.requires_grad for p in physics.parameters()):
        return None
    return make(physics)


class DeepinvBlur(Blur):
    """A blur of pictures (B, C, H, W)."""

    is_shared = False  # the first dimension alone is the batch


def _blur(physics: Any, boundary: str) -> LinearOperator | None:
    kernel = physics.filter
    if not isinstance(kernel, Tensor) or kernel.dim() != 4 or kernel.is_complex():
        return None
    if bool((kernel == kernel[:1, :1]).all()):
        kernel = kernel[0, 0]
    return shared(DeepinvBlur(kernel, boundary), kernel=kernel)


def _blur_of_padding(physics: Any) -> LinearOperator | None:
    boundary = {"circular": "circular", "valid": "valid", "constant": "constant", "zeros": "constant"}
    found = boundary.get(physics.padding)
    return None if found is None else _blur(physics, found)


def _mri_mask(physics: Any) -> Tensor | None:
    """The mask (H, W) or (B, H, W) of both channels, if these are the same."""
    mask = physics.mask
    if getattr(physics, "three_d", False) or mask.dim() != 4 or not torch.equal(mask[:, 0], mask[:, 1]):
        return None
    return mask[0, 0] if len(mask) == 1 else mask[:, 0]


def _mri(physics: Any) -> LinearOperator | None:
    mask = _mri_mask(physics)
    if mask is None or not mask.is_floating_point():
        return None
    return RealChannels(shared(Fourier(mask), mask=mask))


def _multi_coil_mri(physics: Any) -> LinearOperator | None:
    mask, maps = _mri_mask(physics), physics.coil_maps
    if mask is None or maps.dim() != 4 or not maps.is_complex() or mask.dtype != maps.dtype.to_real():
        return None
    maps = maps[0] if len(maps) == 1 else maps
    return RealChannels(shared(MultiCoilFourier(mask, maps), mask=mask, maps=maps))


def _inpainting(physics: Any) -> LinearOperator | None:
    mask = physics.mask
    if not isinstance(mask, Tensor) or mask.dim() < 3 or not mask.is_floating_point():
        return None
    return shared(Mask(mask), mask=mask)


_KINDS: dict[str, Callable[[Any], LinearOperator | None]] = {
    "Blur": _blur_of_padding,
    "BlurFFT": lambda physics: _blur(physics, "circular"),
    "MRI": _mri,
    "MultiCoilMRI": _multi_coil_mri,
    "Inpainting": _inpainting,
}
