"""The galaxies: pictures of a telescope, blurred by its point spread function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...data import Photographs, PictureError, photograph
from ...data.files import read_pixels
from ...data.photographs import grey
from ...operators import Blur
from . import rivals
from .classical import Method, total_variation, wavelet, wiener
from .compare import Experiment
from .network import denoising_network
from .scene import Scene
from .skies import Skies
from .training import Batch

NOISE = 0.01
DEEP_FIELD = "hubble_deep_field"
SPIRAL = 345, 65, 96  # the corner and the side of a detail, within the margin of the whole picture
BETA, WIDTH = 3.0, 4.0  # of the Moffat function; its full width at half of its maximum in pixels
SIDE, LARGEST = 25, 63  # of the kernel, and of kernels of the user
PATCH = 64  # the side of training pictures
MULTIPLE = 8  # of which the sides of pictures are, for the wavelets
LONGEST = 1024  # pictures of the user are scaled down until their longer side has at most this many pixels


def moffat(side: int = SIDE, beta: float = BETA, width: float = WIDTH) -> Tensor:
    """The point spread function of a telescope below the atmosphere: (1 + r²/α²)^(−β), with a sum of 1.

    Args:
        side: the side of the kernel in pixels.
        beta: β, which says how fast the wings fall.
        width: the full width at half of the maximum in pixels, 2α·√(2^(1/β) − 1).

    Reference: Moffat, *A theoretical investigation of focal stellar images in the photographic emulsion*, 1969.
    """
    at = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    alpha = width / (2 * (2 ** (1 / beta) - 1) ** 0.5)
    kernel = (1 + (at[:, None].square() + at.square()) / alpha**2) ** -beta
    return (kernel / kernel.sum()).float()


def read_kernel(path: Path) -> Tensor:
    """Reads a kernel, a small grey picture. Its sum becomes 1.

    Raises:
        PictureError: the file is not a picture, is black everywhere, or is too large.
    """
    pixels = grey(read_pixels(path))
    if max(pixels.shape) > LARGEST:
        raise PictureError(
            f"{path} must be a kernel of at most {LARGEST}x{LARGEST} pixels, got {pixels.shape[1]}x{pixels.shape[0]}: "
            "crop its borders"
        )
    if not pixels.min() >= 0 or not pixels.sum() > 0:
        raise PictureError(f"{path} must be a kernel with values ≥ 0 that are not all zero: draw it white on black")
    return torch.from_numpy(pixels / pixels.sum()).float()


def read_picture(path: Path) -> Tensor:
    """Reads a picture (1, H, W), or (3, H, W) in colour. Large pictures are scaled down."""
    pixels = read_pixels(path)
    x = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))).float()
    scale = LONGEST / max(x.shape[-2:])
    if scale < 1:
        x = interpolate(x[None], scale_factor=scale, mode="bilinear", antialias=True)[0]
    return x.clamp(0, 1)


def scene(name: str, x: Tensor, kernel: Tensor, seed: int) -> Scene:
    """A blurred picture with noise. Of a blur without a continuation only pixels within the measurement are judged.

    Raises:
        PictureError: the picture is too small for the kernel.
    """
    H, W = (n // MULTIPLE * MULTIPLE for n in x.shape[-2:])
    h, w = kernel.shape
    if min(H - 2 * h, W - 2 * w, H - h - MULTIPLE, W - w - MULTIPLE) < 0:
        raise PictureError(
            f"{name} must be at least twice as large as the kernel, {w}x{h}, got {x.shape[-1]}x{x.shape[-2]} pixels: "
            "give a larger picture or a smaller kernel"
        )
    top, left = (x.shape[-2] - H) // 2, (x.shape[-1] - W) // 2
    x = x[..., top : top + H, left : left + W].contiguous()
    A = Blur(kernel, "valid")
    generator = torch.Generator().manual_seed(2 * seed + 1)
    y = A(x)
    y = y + NOISE * torch.randn(y.shape, generator=generator)
    margin = h // 2, w // 2
    blurred = torch.zeros_like(x)
    down, right = h - 1 - h // 2, w - 1 - w // 2
    blurred[..., down : down + y.shape[-2], right : right + y.shape[-1]] = y
    return Scene(name, x, A, y, blurred, margin)


def deep_field(kernel: Tensor, seed: int, *, quick: bool, colour: bool = False) -> Scene:
    """The deep field of the Hubble space telescope, or a part of it, in grey or in colour."""
    x = photograph("hubble_deep_field", colour=colour).reshape(-1, 872, 1000)
    if quick:
        x = x[:, 300:660, 60:420]
    return scene(DEEP_FIELD, x, kernel, seed)


def methods(converged: int) -> list[Method]:
    """The classical methods, and the weights λ from which each is chosen."""
    weights = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016)
    return [
        wiener((0.02, 0.04, 0.08, 0.16, 0.32, 0.64)),
        wavelet(16, weights, drawn=False),
        wavelet(converged, weights),
        total_variation(16, weights, drawn=False),
        total_variation(converged, weights),
    ]


class Draw:
    """Draws training pictures and their blurs: skies and photographs by turns.

    A batch is blurred with periodic continuation, where every pixel is measured, or without continuation, as the
    pictures for tests are.

    Args:
        kernel: the kernel of the blur.
        side: the side of a picture; by default 64, or twice that of a large kernel.
        skies: the share of skies.
        valid: the share of batches without continuation.
    """

    def __init__(self, kernel: Tensor, side: int | None = None, skies: float = 0.5, valid: float = 0.25) -> None:
        side = max(PATCH, 2 * max(kernel.shape)) if side is None else side
        h, w = kernel.shape
        self.skies, self.share = skies, valid
        self.circular, self.valid, self.margin = Blur(kernel, "circular"), Blur(kernel, "valid"), (h // 2, w // 2)
        self.problems = Skies(side), Photographs(None, side)

    def __call__(self, count: int, generator: torch.Generator) -> Batch:
        skies = round(self.skies * count)
        drawn = [p.draw(n, generator) for p, n in zip(self.problems, (skies, count - skies), strict=True) if n]
        is_valid = float(torch.rand((), generator=generator)) < self.share
        A, margin = (self.valid, self.margin) if is_valid else (self.circular, (0, 0))
        x = torch.cat(drawn)
        y = A(x)
        return Batch(y + NOISE * torch.randn(y.shape, generator=generator), x, A, margin)


def experiment(tested: Scene, kernel: Tensor, galaxies: bool, ships: bool, converged: int) -> Experiment:
    """What ``fastunroll deblur`` compares.

    Args:
        tested: the picture for the test.
        kernel: the kernel of the blur.
        galaxies: whether it shows a sky; weights λ are then chosen on simulated skies, and else on photographs.
        ships: whether the shipped weights are for this kernel.
        converged: the number of iterations of converged methods.
    """
    top, left, side = SPIRAL
    whole = tested.x.shape[-2:] == (872, 1000)
    zoom = (top, left, side) if whole else (top - 300, left - 60, side)
    return Experiment(
        "deblur", "A blurred picture with noise, and what each method makes of it", [tested],
        lambda seed: denoising_network(tested.A, seed), rivals.denoising, Draw(kernel),
        Draw(kernel, skies=float(galaxies), valid=0.0), methods(converged), "blurred", numbers_rate=25.0,
        fade=0.1, half_until=0.3, gamma=0.7, steps=2400, ships=ships, zooms={DEEP_FIELD: zoom},
    )  # fmt: skip
