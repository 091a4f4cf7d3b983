"""Photographs in shades of grey from 0 to 1, and their blocks of 16×16 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from skimage import transform
from torch import Tensor

from ..data import PictureError
from ..data.files import Image, pictures_in, read_pixels
from ..data.photographs import grey, views
from ..operators import Blocks

SIDE = 16  # the side of a block in pixels
LONGEST = 640  # photographs of the user are scaled down until their longer side has at most this many pixels

# Training uses no held-out picture, and no other view of its scene.
HELD_OUT = ("camera", "chelsea", "coffee", "coins")
TRAINING = (
    "astronaut", "stereo_motorcycle", "rocket", "clock", "moon", "brick", "grass", "gravel", "immunohistochemistry",
    "retina", "hubble_deep_field", "page", "text", "cell",
)  # fmt: skip


@dataclass(frozen=True)
class Photograph:
    """A grey picture whose sides are multiples of :data:`SIDE`."""

    name: str
    pixels: Image

    @property
    def block_count(self) -> int:
        return self.pixels.size // SIDE**2

    @property
    def _to_blocks(self) -> Blocks:
        return Blocks(SIDE, shape=self.pixels.shape)

    def blocks(self) -> Tensor:
        """Returns the blocks of the picture, row by row, as a tensor (blocks, 256)."""
        return self._to_blocks(torch.from_numpy(self.pixels)).float()

    def assemble(self, blocks: Tensor) -> Image:
        """Returns a picture of the same size from other blocks, clipped to [0, 1]."""
        pixels: Image = self._to_blocks.adjoint(blocks.double()).clamp(0, 1).numpy()
        return pixels


def _cropped(name: str, pixels: Image) -> Photograph:
    """Crops a picture around its centre to a multiple of the block size."""
    h, w = (s // SIDE * SIDE for s in pixels.shape)
    if h == 0 or w == 0:
        raise PictureError(
            f"{name} must have at least {SIDE}x{SIDE} pixels, got {pixels.shape[1]}x{pixels.shape[0]}: give a larger "
            "picture"
        )
    top, left = (pixels.shape[0] - h) // 2, (pixels.shape[1] - w) // 2
    return Photograph(name, np.ascontiguousarray(pixels[top : top + h, left : left + w]))


def held_out() -> list[Photograph]:
    """Returns the photographs on which the demo compares methods."""
    return [_cropped(name, grey(views(name)[0])) for name in HELD_OUT]


def from_folder(folder: Path) -> list[Photograph]:
    """Reads every file of a folder, except for hidden files, as a photograph.

    Raises:
        PictureError: the folder cannot be read or is empty, or a file is not a picture.
    """
    return [_read(path) for path in pictures_in(folder)]


def _read(path: Path) -> Photograph:
    pixels = grey(read_pixels(path))
    scale = LONGEST / max(pixels.shape)
    if scale < 1:
        pixels = transform.rescale(pixels, scale, anti_aliasing=True)
    return _cropped(path.name, pixels)


def training_pictures() -> list[Image]:
    """Returns the photographs for training in shades of grey."""
    return [grey(view) for name in TRAINING for view in views(name)]


def training_blocks(count: int, seed: int) -> Tensor:
    """Cuts about ``count`` blocks at random positions out of the training photographs, as a tensor (blocks, 256).

    Photographs are used at full and at half size, and blocks are mirrored and rotated at random. The number of blocks
    of a photograph is proportional to the square root of its area.
    """
    pictures = training_pictures()
    pictures += [transform.rescale(p, 0.5, anti_aliasing=True) for p in pictures]
    share = np.sqrt([p.size for p in pictures])
    share /= share.sum()
    rng = np.random.default_rng(seed)
    blocks = np.concatenate([_random_blocks(p, round(count * s), rng) for p, s in zip(pictures, share, strict=True)])
    return torch.from_numpy(rng.permutation(blocks).reshape(-1, SIDE**2))


def _random_blocks(picture: Image, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    places = np.lib.stride_tricks.sliding_window_view(picture, (SIDE, SIDE))
    blocks = places[rng.integers(0, places.shape[0], count), rng.integers(0, places.shape[1], count)]
    turned = rng.integers(0, 2, (3, count), dtype=bool)
    blocks = np.where(turned[0, :, None, None], blocks[:, ::-1], blocks)
    blocks = np.where(turned[1, :, None, None], blocks[:, :, ::-1], blocks)
    return np.where(turned[2, :, None, None], blocks.swapaxes(1, 2), blocks).astype(np.float32)


def split(images: Sequence[Photograph], blocks: Tensor) -> list[Image]:
    """Assembles pictures from the consecutive blocks of several photographs."""
    parts = blocks.split([p.block_count for p in images])
    return [p.assemble(b) for p, b in zip(images, parts, strict=True)]
