"""Patches of photographs for sparse coding, and the cosine dictionary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import _checks
from .photographs import as_pictures, grey_picture
from .problems import Samples


class Patches:
    """Draws square patches of photographs, minus their mean, as measurements for sparse coding without ground truth.

    Args:
        images: a list of grey photographs (height, width) from 0 to 1; or a folder of pictures; or None for the
            photographs of scikit-image. Folder and None need ``pip install 'fastunroll[demo]'``.
        side: the side of a patch in pixels.
        contrast: the standard deviation of all patches together, to which they are scaled, or None for no scaling.

    Raises:
        ValueError: an image is not two-dimensional or smaller than a patch, or there is no image.
    """

    def __init__(
        self,
        images: Sequence[NDArray[np.floating]] | Path | str | None = None,
        *,
        side: int = 8,
        contrast: float | None = 1.0,
    ) -> None:
        self.side = _checks.count("side", side)
        self._images = [grey_picture(image, (self.side, self.side)) for image in as_pictures(images)]
        if not self._images:
            raise ValueError("images must hold at least one picture, got none")
        self._scale = 1.0
        if contrast is not None:
            contrast = _checks.positive("contrast", contrast)
            spread = float(self.sample(4096, torch.Generator().manual_seed(0)).y.std())
            self._scale = contrast / spread if spread > 0 else 1.0

    def sample(self, count: int, generator: torch.Generator) -> Samples:
        """Draws ``count`` patches (count, side²) at random positions of random pictures."""
        count, generator = _checks.count("count", count), _checks.generator(generator)
        which = torch.randint(len(self._images), (count,), generator=generator).tolist()
        places = torch.rand(count, 2, generator=generator)
        side, out = self.side, torch.empty(count, self.side**2)
        for i, image in enumerate(which):
            pixels = self._images[image]
            top, left = (int(places[i, d] * (pixels.shape[d] - side + 1)) for d in (0, 1))
            out[i] = pixels[top : top + side, left : left + side].reshape(-1)
        return Samples(self._scale * (out - out.mean(dim=1, keepdim=True)), None)


def cosine_dictionary(side: int = 8, frequencies: int = 16) -> Tensor:
    """Returns the overcomplete cosine dictionary (side², frequencies²) for patches of side × side pixels.

    Columns are products of a vertical and a horizontal cosine cos(π i f / frequencies) with i < side and
    f < frequencies. They have norm 1, and all cosines but the constant have zero mean.

    Args:
        side: the side of a patch in pixels, ≥ 1.
        frequencies: the number of cosines along each axis, ≥ 1.

    Raises:
        ValueError: one of them is no whole number ≥ 1.
    """
    side, frequencies = _checks.count("side", side), _checks.count("frequencies", frequencies)
    i, f = torch.arange(side, dtype=torch.float64), torch.arange(frequencies, dtype=torch.float64)
    atoms = torch.cos(math.pi * i[:, None] * f / frequencies)
    atoms[:, 1:] -= atoms[:, 1:].mean(dim=0)
    D = torch.kron(atoms, atoms)
    return (D / D.norm(dim=0)).float()
