"""The proximal operators of pictures by themselves, in one native call."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .cpu.pictures import PictureLayers
from .pictures import fits_pictures, picture_layers
from .spectral import broadcasts
from .tensors import has_tangents, is_tracing, real_dtype


def picture_prox(
    z: Tensor, theta: Tensor, prior: str, *, iterations: int = 0, filters: Tensor | None = None,
    low_pass: Sequence[float] = (), levels: int = 0, move: Sequence[int] = (),
) -> Tensor | None:  # fmt: skip
    """P(z) of a prior of :func:`picture_layers`, which describes the arguments, or None where no kernel takes them.

    It is the layer P((H + ρ)⁻¹(z + ρ·0)) with H = 0 and ρ = 1, whose linear step returns z, infinite pixels too.

    Args:
        z: pictures (..., H, W), real or complex.
        theta: one number, or one for each picture (..., 1, 1), or one for each filter or band.
        prior: ``"total_variation"``, ``"filter_bank"`` or ``"wavelet"``.
        iterations: of total variation.
        filters: of a bank, (count, h, h).
        low_pass: the filter of a wavelet.
        levels: how many a wavelet has.
        move: how many pixels the grid of the wavelet moves down and right.
    """
    if is_tracing() or has_tangents() or z.dim() < 2:
        return None
    bands = tuple(filters.shape[:1]) if filters is not None else (3 * levels,) if levels else ()
    thresholds = _of_one_layer(theta, z.shape[:-2], bands)
    if thresholds is None:
        return None
    rho = torch.ones(1, dtype=real_dtype(z), device=z.device)
    nothing = torch.zeros(1, 1, dtype=real_dtype(z), device=z.device)
    p = PictureLayers(
        z, None, None, nothing, None, rho, thresholds, None, None if filters is None else filters[None],
        normal="weights", linear="solve", scheme="proximal_gradient", prior=prior, low=0.0, high=0.0,
        iterations=iterations, low_pass=low_pass, levels=levels, moves=move,
    )  # fmt: skip
    return picture_layers(p)[0] if fits_pictures(p) else None


def _of_one_layer(theta: Tensor, batch: torch.Size, bands: tuple[int, ...]) -> Tensor | None:
    """θ as layers take it, (1, bands), or (1, pictures, bands) with one for each picture; None if it is otherwise."""
    if theta.shape == bands:
        return theta[None]
    each = (1,) * len(bands)
    if theta.numel() == 1:
        return theta.reshape(1, *each).expand(1, *bands)
    if theta.shape[-2:] != (1, 1) or not broadcasts(theta.shape, (*batch, 1, 1)):
        return None
    count = math.prod(batch)
    return theta.expand(*batch, 1, 1).reshape(1, count, *each).expand(1, count, *bands)
