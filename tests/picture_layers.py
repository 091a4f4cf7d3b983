"""Layers over pictures, one table for all of their tests: every scheme, normal operator and prior."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from fastunroll.operators.wavelet_filters import SCALING_FILTERS
from fastunroll.ops import PictureLayers
from torch import Tensor

LEARNED = "z", "x0", "s0", "step", "theta", "numbers", "filters"
# The schemes with their linear steps: the name of the scheme, the linear step, and how many numbers a layer has.
SCHEMES: dict[str, tuple[str, str, int]] = {
    "fista": ("fista", "gradient", 1),
    "proximal gradient": ("proximal_gradient", "gradient", 0),
    "hqs": ("proximal_gradient", "solve", 0),
    "fista with a data step": ("fista", "solve", 1),
    "admm": ("admm", "solve", 1),
    "linearised admm": ("admm", "gradient", 1),
    "primal dual": ("primal_dual", "gradient", 2),
}
WAVELETS = {"db4": ("db4", 2)}  # the prior "wavelet" with these names and levels
PRIORS = "identity", "soft", "nonnegative", "box", "total_variation", "filter_bank", *WAVELETS
REAL_PRIORS = "nonnegative", "box"
# The normal operators of real and of complex pictures: the shape of h for pictures (B, H, W), and the number of coils.
NORMALS: dict[str, tuple[bool, Any, int]] = {
    "blur": (False, lambda B, H, W: (H, W // 2 + 1), 0),
    "a blur for each picture": (False, lambda B, H, W: (B, H, W // 2 + 1), 0),
    "rows": (False, lambda B, H, W: (1, W // 2 + 1), 0),
    "weights": (False, lambda B, H, W: (H, W), 0),
    "weights for each picture": (False, lambda B, H, W: (B, 1, W), 0),
    "downsample": (False, lambda B, H, W: (H, W // 2 + 1), 0),
    "valid": (False, lambda B, H, W: (H, W // 2 + 1), 0),
    "downsample, valid": (True, lambda B, H, W: (H, W), 0),
    "downsample, a blur for each picture": (True, lambda B, H, W: (B, H, W), 0),
    "scan": (True, lambda B, H, W: (H, W), 0),
    "a scan for each picture": (True, lambda B, H, W: (B, H, W), 0),
    "columns": (True, lambda B, H, W: (1, W), 0),
    "complex weights": (True, lambda B, H, W: (H, 1), 0),
    "coils": (True, lambda B, H, W: (H, W), 3),
    "coils, columns for each picture": (True, lambda B, H, W: (B, 1, W), 2),
}
OPERATORS_AND_PRIORS = [
    (normal, prior) for normal, prior in product(NORMALS, PRIORS) if not (NORMALS[normal][0] and prior in REAL_PRIORS)
]
# One of each kind of normal operator and of prior, for what does not depend on how they go together.
SOME = [
    ("blur", "box"), ("a blur for each picture", "db4"), ("rows", "total_variation"), ("weights", "filter_bank"),
    ("valid", "filter_bank"), ("downsample, valid", "soft"),
    ("downsample", "total_variation"), ("downsample, a blur for each picture", "soft"), ("scan", "soft"),
    ("columns", "total_variation"), ("complex weights", "identity"), ("coils", "soft"),
]  # fmt: skip
ALL = [(scheme, *case) for scheme in SCHEMES for case in OPERATORS_AND_PRIORS]
CASES = [("fista", *case) for case in OPERATORS_AND_PRIORS] + [(scheme, *case) for scheme in SCHEMES for case in SOME]
CASES = [*dict.fromkeys(CASES)]
# Sides grow to multiples of 2 for each level of a wavelet.
SHAPES = (1, 1, 1), (2, 1, 7), (2, 9, 1), (2, 3, 2), (3, 7, 10), (2, 18, 13), (1, 33, 35)
BANKS = (5, 3), (3, 7), (9, 4)  # how many filters of which size, of the shapes in turn


def layers(
    normal: str, prior: str, shape: tuple[int, int, int] = (2, 5, 6), count: int = 3, *, scheme: str = "fista",
    start: bool = True, state: bool = False, iterations: int = 4, dtype: torch.dtype = torch.float64, seed: int = 0,
) -> PictureLayers:  # fmt: skip
    is_complex, of_h, coils = NORMALS[normal]
    name, linear, count_of_scheme = SCHEMES[scheme]
    wavelet, levels = WAVELETS.get(prior, (prior, 0))
    factor = 3 if "downsample" in normal else 1 if normal == "valid" else 0
    multiple = max(factor, 1) << levels
    shape = shape[0], *(-(-n // multiple) * multiple for n in shape[1:])
    margins = [0] * 4
    if "valid" in normal:  # a multiple of the factor together
        margins = [min(3, n - factor) // 3 * k for k in (1, 2) for n in shape[1:]]
    random = torch.Generator().manual_seed(seed)

    def draw(*size: int, kind: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(*size, dtype=kind, generator=random)

    count_of_bank, size = BANKS[sum(shape) % len(BANKS)]
    size = min(size, *shape[1:])
    is_bank = prior == "filter_bank"
    pictures = torch.complex128 if is_complex else torch.float64
    z, x0 = draw(*shape, kind=pictures), draw(*shape, kind=pictures)
    h = draw(*of_h(*shape), kind=torch.complex128) if factor else spectrum(draw(*of_h(*shape)).abs(), normal)
    maps = draw(coils, *shape[1:], kind=pictures) / coils**0.5 if coils else None
    of_bands = (count, 3 * levels) if levels else (count, count_of_bank) if is_bank else (count,)
    step, theta = 0.2 + 0.1 * draw(count).abs(), 0.3 + 0.1 * draw(*of_bands).abs()
    numbers = draw(count, count_of_scheme) / 4 if count_of_scheme else None
    filters = draw(count, count_of_bank, size, size) / size / count_of_bank**0.5 if is_bank else None
    moves = torch.randint(2**levels, (2 * count,), generator=random).tolist()
    step, theta, numbers, filters = (None if t is None else t.to(dtype) for t in (step, theta, numbers, filters))
    s0 = draw(*shape, kind=pictures)
    z, x0, s0, maps = (
        None if t is None else t.to(dtype.to_complex() if is_complex else dtype) for t in (z, x0, s0, maps)
    )
    return PictureLayers(
        z, x0 if start else None, s0 if state else None, h.to(dtype.to_complex() if factor else dtype), maps, step,
        None if prior in ("identity", "box") else theta, numbers, filters, kind_of(normal), linear, name,
        "wavelet" if levels else prior, -0.4, 0.9, iterations, SCALING_FILTERS.get(wavelet, ()) if levels else (),
        levels, moves, factor, margins,
    )  # fmt: skip


def kind_of(normal: str) -> str:
    if "weights" in normal:
        return "weights"
    return "downsample" if "downsample" in normal or "valid" in normal else "fourier"


def spectrum(h: Tensor, normal: str) -> Tensor:
    """H with h(−k) = h(k) in the columns of half a spectrum that are mirror images of themselves."""
    if NORMALS[normal][0] or "weights" in normal:
        return h
    return (h + h.flip(-2).roll(1, -2)) / 2


def learning(p: PictureLayers) -> PictureLayers:
    found = {name: getattr(p, name) for name in LEARNED}
    return p._replace(**{name: None if t is None else t.clone().requires_grad_() for name, t in found.items()})


def leaves(p: PictureLayers) -> dict[str, Tensor]:
    return {name: t for name in LEARNED if (t := getattr(p, name)) is not None}


def gradients(x: Tensor, p: PictureLayers) -> dict[str, Tensor]:
    weights = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    found = leaves(p)
    loss = (x * weights.conj()).real.sum()
    zero_without = {"allow_unused": True, "materialize_grads": True}
    return dict(zip(found, torch.autograd.grad(loss, [*found.values()], **zero_without), strict=True))
