"""Reads pictures from files. A file that is not a picture raises an error of one sentence."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..warn import warn

Image = NDArray[np.float64]

LARGEST = 2**26  # pixels: larger files are refused before they are decoded


class PictureError(ValueError):
    """A picture or a folder of pictures cannot be used. The message is one sentence."""


def require_package(module: str, package: str, what: str) -> None:
    """Raises ModuleNotFoundError unless a package of the extra ``demo`` is installed."""
    if find_spec(module) is None:
        raise ModuleNotFoundError(f"{package} must be installed {what}: pip install 'fastunroll[demo]'")


def read_pixels(path: Path) -> Image:
    """Returns the pixels of a file, (h, w) for shades of grey or (h, w, 3) for colours, from 0 to 1.

    Integers of 8 and 16 bits are divided by their largest value. A transparency channel is left out, with a UserWarning
    if some pixels are transparent. Pixels that are stored as floating-point numbers are used as they are.

    Raises:
        PictureError: the file is not a picture, is damaged or too large, or holds NaN or infinity.
        ModuleNotFoundError: Pillow is not installed.
    """
    require_package("PIL", "Pillow", "to read pictures")
    from PIL import Image as pillow
    from PIL import ImageOps, UnidentifiedImageError

    try:
        with pillow.open(path) as file:
            if file.width * file.height > LARGEST:
                raise PictureError(
                    f"{path} must have at most {LARGEST} pixels, got {file.width}x{file.height}: scale it down"
                )
            picture = ImageOps.exif_transpose(file)
            if "A" in picture.getbands() and np.asarray(picture.getchannel("A")).min() < 255:
                warn(
                    f"{path} has transparent pixels, and their colours are used as they are stored: "
                    "put the picture on a background first if they mean nothing",
                    UserWarning,
                )
            if picture.mode == "F":
                pixels = np.asarray(picture, np.float64)
            elif picture.mode.startswith("I"):
                pixels = np.asarray(picture, np.float64) / 65535
            else:
                grey = picture.mode in ("1", "L", "LA")
                pixels = np.asarray(picture.convert("L" if grey else "RGB"), np.float64) / 255
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{path} cannot be read as a picture: its format is unknown: give PNG, JPEG or TIFF"
        ) from error
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:  # raised for damaged pictures
        reason = getattr(error, "strerror", None) or error
        raise PictureError(f"{path} cannot be read as a picture: {reason}") from error
    if not np.isfinite(pixels).all():
        raise PictureError(f"{path} must hold finite pixels, but it has NaN or infinity: check how it was written")
    return pixels


def pictures_in(folder: Path) -> list[Path]:
    """Returns the files of a folder, except for hidden files.

    Raises:
        PictureError: it is not a folder, or is empty.
    """
    if not folder.is_dir():
        raise PictureError(f"{folder} is not a folder: give a folder that holds pictures")
    paths = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    if not paths:
        raise PictureError(f"{folder} holds no files: put pictures into it")
    return paths
