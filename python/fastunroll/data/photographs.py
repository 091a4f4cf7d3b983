"""The photographs of scikit-image, split for training and testing, and patches of photographs as ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from .. import _checks
from ..operators.convert import OperatorLike
from .files import Image, pictures_in, read_pixels, require_package
from .pictures import Pictures

# The package scikit-image contains all of these. No test photograph, nor another view of its scene, is for training.
TESTING = ("camera", "chelsea", "coffee", "coins", "hubble_deep_field")
TRAINING = (
    "astronaut", "stereo_motorcycle", "rocket", "clock", "moon", "brick", "grass", "gravel", "immunohistochemistry",
    "retina", "page", "text", "cell",
)  # fmt: skip

Given = Sequence[object] | Path | str | None


def photograph(name: str, *, colour: bool = False) -> Tensor:
    """Returns a photograph of scikit-image, with values from 0 to 1 in float32.

    Args:
        name: one of "camera", "chelsea", "coffee", "coins" and "hubble_deep_field", which are for testing, or one of
            the photographs of ``fastunroll.data.Photographs.training``.
        colour: return the three channels (3, H, W) of a colour photograph instead of its shades of grey.

    Returns:
        (H, W), or (3, H, W).

    Raises:
        ModuleNotFoundError: scikit-image is not installed.
        ValueError: the name is unknown, or a grey photograph has no colours.
    """
    _checks.choice("name", name, (*TESTING, *TRAINING))
    colour = _checks.flag("colour", colour)
    pixels = views(name)[0]
    if not colour:
        return torch.from_numpy(grey(pixels)).float()
    if pixels.ndim != 3:
        raise ValueError(f"{name} must be a photograph in colour for colour=True, but it is grey: leave out colour")
    return torch.from_numpy(np.ascontiguousarray(pixels[..., :3].transpose(2, 0, 1))).float()


def views(name: str) -> list[Image]:
    """The pixels (h, w) or (h, w, 3) of a photograph from 0 to 1; two views of a stereo photograph."""
    require_package("skimage", "scikit-image", "for its photographs")
    from skimage import data, util

    found = getattr(data, name)()
    return [util.img_as_float64(view) for view in (found[:2] if isinstance(found, tuple) else (found,))]


def grey(pixels: Image) -> Image:
    """Returns pixels (h, w) or (h, w, 3) as shades of grey (h, w)."""
    from skimage.color import rgb2gray

    return rgb2gray(pixels) if pixels.ndim == 3 else pixels


def as_pictures(images: Given) -> Sequence[object]:
    """The grey pictures that a user means: a list of them, those of a folder, or the training photographs for None."""
    if images is None:
        return [grey(view) for name in TRAINING for view in views(name)]
    if isinstance(images, (str, Path)):
        require_package("skimage", "scikit-image", "to read pictures")
        return [grey(read_pixels(path)) for path in pictures_in(Path(images))]
    if not isinstance(images, Sequence):
        raise TypeError(f"images must be a list of pictures, a folder or None, got {_checks.shown(images)}")
    return images


def grey_picture(image: object, shape: tuple[int, int]) -> Tensor:
    """Returns a picture of the user as a float32 tensor (height, width) that holds at least one patch of a shape."""
    image = _checks.array("images", image)
    try:
        pixels = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    except (TypeError, ValueError, RuntimeError, NotImplementedError):
        raise TypeError(f"images must be arrays of numbers, got {_checks.shown(image)}") from None
    if pixels.dim() != 2 or pixels.shape[0] < shape[0] or pixels.shape[1] < shape[1]:
        got = _checks.shape_text(pixels.shape)
        raise ValueError(f"images must be grey and at least {shape[0]}x{shape[1]} pixels, got shape {got}")
    if not bool(pixels.isfinite().all()):
        raise ValueError("images must be finite, but an image holds NaN or infinity: check how it was computed")
    return pixels


class Photographs(Pictures):
    """Draws patches x of photographs, and their measurements y = A x + e, for training with ground truth.

    A patch comes from a random place of a random photograph, at full or at half size, and is mirrored and rotated at
    random.

    Args:
        A: a linear operator on pictures (:func:`fastunroll.operators.as_operator`), or None for y = x + e. Samples have
            its precision and device.
        shape: the shape (H, W) of a patch, or the side of a square.
        noise: the standard deviation σ ≥ 0 of the noise e; of complex noise, E|e|² = σ².
        phase: the standard deviation of a smooth random phase in radians, which makes patches complex. With 0, patches
            are real.
        images: a list of grey photographs (height, width) from 0 to 1; or a folder of pictures; or None for the
            training photographs of scikit-image. Folder and None need ``pip install 'fastunroll[demo]'``.

    Attributes:
        training: the names of the photographs of scikit-image that are for training.
        testing: the names of those that are for testing (:func:`photograph`), and never drawn.

    Raises:
        TypeError: A is not an operator, or an image is not an array of numbers.
        ValueError: no image is given, an image is not grey, not finite or smaller than a patch, or a number is
            negative.
        ModuleNotFoundError: scikit-image is not installed.

    Example::

        blur = fu.operators.Blur(kernel)
        problem = fu.data.Photographs(blur, 96, noise=0.01)
        y, x = next(fu.data.stream(problem, 16))        # (16, 96, 96), another batch with each call of next
        y, x = fu.data.fixed(problem, 64)               # 64 samples to check on
    """

    training, testing = TRAINING, TESTING

    def __init__(
        self,
        A: OperatorLike | None = None,
        shape: tuple[int, int] | int = 96,
        *,
        noise: float = 0.0,
        phase: float = 0.0,
        images: Given = None,
    ) -> None:
        super().__init__(A, shape, noise, phase)  # type: ignore[arg-type]
        least = (max(self.shape),) * 2  # patches are rotated
        self._pictures = [grey_picture(image, least) for image in as_pictures(images)]
        if not self._pictures:
            raise ValueError("images must hold at least one picture, got none")
        halves = [avg_pool2d(p[None, None], 2)[0, 0] for p in self._pictures]
        self._pictures += [p for p in halves if min(p.shape) >= least[0]]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws patches (count, H, W) in float32. All random numbers come from the generator."""
        which = torch.randint(len(self._pictures), (count,), generator=generator).tolist()
        places = torch.rand(count, 2, generator=generator).tolist()
        turns = torch.randint(2, (count, 3), generator=generator).tolist()
        out = torch.empty(count, *self.shape)
        for i, (image, place, (turned, flipped, mirrored)) in enumerate(zip(which, places, turns, strict=True)):
            pixels = self._pictures[image].mT if turned else self._pictures[image]
            (h, w), (H, W) = self.shape, pixels.shape
            top, left = int(place[0] * (H - h + 1)), int(place[1] * (W - w + 1))
            patch = pixels[top : top + h, left : left + w]
            out[i] = patch.flip([d for d, flip in ((0, flipped), (1, mirrored)) if flip])
        return out
