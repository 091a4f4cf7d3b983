"""The operators of imaging, one table for all of their tests: every boundary, kind of mask, size and option."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastunroll as fu
import torch
from torch import Tensor

lin = fu.operators
Size = tuple[int, int]
EACH = 2  # samples, where each has a kernel, mask or map of its own
COILS = 3


def random(dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def real(dtype: torch.dtype, *shape: int) -> Tensor:
    return random(dtype.to_real(), *shape)


def positive(dtype: torch.dtype, *shape: int) -> Tensor:
    return real(dtype, *shape).abs() / 4


def binary(dtype: torch.dtype, *shape: int) -> Tensor:
    return (real(dtype, *shape) > -0.3).to(dtype.to_real())


def kernel(dtype: torch.dtype, *shape: int) -> Tensor:
    """Positive in one half of the table, of both signs in the other: by the parity of a side."""
    return positive(dtype, *shape) if shape[-1] % 2 else real(dtype, *shape) / 4


@dataclass(frozen=True)
class Case:
    """make: the operator for a dtype of x and a size of pictures. takes: the x for which it is defined.

    sample: the shape of one sample of x. exact: whether its norm is ‖A‖ and no larger bound. each: whether each sample
    has something of its own. slack: how much larger than ‖A‖ the norm may be.
    """

    make: Callable[[torch.dtype, Size], Any]
    takes: str = "either"
    sizes: tuple[Size, ...] = ((9, 7), (8, 12))
    sample: Callable[[Size], tuple[int, ...]] = lambda size: size
    exact: bool = False
    each: bool = False
    slack: float = 1.6

    @property
    def dtypes(self) -> list[torch.dtype]:
        every = torch.float32, torch.float64, torch.complex64, torch.complex128
        return [d for d in every if self.takes == "either" or d.is_complex == (self.takes == "complex")]

    @property
    def batches(self) -> list[tuple[int, ...]]:
        return [(EACH,), (3, EACH)] if self.each else [(), (1,), (2, 3), (0,)]


def blurs() -> dict[str, Case]:
    cases = {}
    for boundary in ("circular", "reflect", "constant", "valid"):
        for name, shape in {"odd": (3, 5), "even": (4, 2), "of a row": (1, 3)}.items():
            cases[f"Blur, {boundary}, {name} kernel"] = Case(
                lambda dtype, size, b=boundary, s=shape: lin.Blur(kernel(dtype, *s), b), slack=2.5
            )
        cases[f"Blur, {boundary}, a kernel for each sample"] = Case(
            lambda dtype, size, b=boundary: lin.Blur(kernel(dtype, EACH, 3, 3), b), each=True
        )
        cases[f"Blur, {boundary}, learned"] = Case(
            lambda dtype, size, b=boundary: lin.Blur(kernel(dtype, 2, 3), b, learn=True), slack=2.5
        )
        cases[f"Blur, {boundary}, large primes"] = Case(
            lambda dtype, size, b=boundary: lin.Blur(kernel(dtype, 3, 2), b), sizes=((37, 4), (5, 41)), slack=2.5
        )
        cases[f"Blur, {boundary}, complex kernel"] = Case(
            lambda dtype, size, b=boundary: lin.Blur(random(dtype, 3, 4), b), "complex", slack=2.5
        )
        cases[f"Blur, {boundary}, stated shape"] = Case(
            lambda dtype, size, b=boundary: lin.Blur(kernel(dtype, 4, 4), b, shape=size),
            exact=boundary == "circular", slack=2.5,
        )  # fmt: skip
    return cases


def volume(size: Size) -> tuple[int, int, int]:
    """Of 4 pictures, or of 5 where the first side is odd."""
    return 4 + size[0] % 2, *size


def blurs_of_volumes() -> dict[str, Case]:
    """Each boundary, with sides of kernels that are even, odd and one, a kernel for each sample, and a stated shape."""
    cases = {}
    small: dict[str, Any] = {"sizes": ((3, 3), (4, 5)), "sample": volume, "slack": 3.5}
    for boundary in ("circular", "reflect", "constant", "valid"):
        cases[f"Blur, volumes, {boundary}"] = Case(
            lambda dtype, size, b=boundary: lin.Blur(kernel(dtype, 4, 1, 3), b, dims=3), **small
        )
        cases[f"Blur, volumes, {boundary}, a learned kernel for each sample"] = Case(
            lambda dtype, size, b=boundary: lin.Blur(kernel(dtype, EACH, 2, 2, 3), b, dims=3, learn=True),
            each=True,
            **small,
        )
        cases[f"Blur, volumes, {boundary}, learned, stated shape"] = Case(
            lambda dtype, size, b=boundary: lin.Blur(kernel(dtype, 2, 3, 2), b, dims=3, shape=volume(size), learn=True),
            exact=boundary == "circular",
            **small,
        )
    cases["Blur, volumes, complex kernel"] = Case(
        lambda dtype, size: lin.Blur(random(dtype, 2, 3, 2), dims=3), "complex", **small
    )
    return cases


def downsampled_volumes() -> dict[str, Case]:
    """With and without a stated shape, and with kernels for each sample."""
    return {
        "Downsample, volumes, learned, stated shape": Case(
            lambda dtype, size: lin.Downsample(2, kernel(dtype, 3, 2, 2), dims=3, shape=volume(size), learn=True),
            sizes=((2, 4), (4, 6)), sample=volume, exact=True,
        ),
        "Downsample, volumes, reflect": Case(
            lambda dtype, size: lin.Downsample(2, kernel(dtype, 3, 2, 1), "reflect", dims=3),
            sizes=((2, 4), (4, 6)), sample=volume, slack=12,
        ),
        "Downsample, volumes, a kernel for each sample": Case(
            lambda dtype, size: lin.Downsample(2, kernel(dtype, EACH, 2, 2, 2), dims=3),
            sizes=((4, 2), (2, 6)), sample=volume, each=True, slack=12,
        ),
    }  # fmt: skip


def scans_of_volumes() -> dict[str, Case]:
    """Each kind of mask and maps."""
    of_volumes: dict[str, Any] = {"sizes": ((2, 4), (3, 5)), "sample": volume}
    return {
        "Fourier, volumes": Case(
            lambda dtype, size: lin.Fourier(positive(dtype, *volume(size)), dims=3), "complex", exact=True, **of_volumes
        ),
        "Fourier, volumes, lines, not centred": Case(
            lambda dtype, size: lin.Fourier(binary(dtype, *size), False, dims=3), "complex", exact=True, **of_volumes
        ),
        "Fourier, volumes, real": Case(
            lambda dtype, size: lin.Fourier(positive(dtype, *volume(size)), dims=3, real=True),
            "real", exact=True, **of_volumes,
        ),
        "Fourier, volumes, real, learned columns": Case(
            lambda dtype, size: lin.Fourier(positive(dtype, size[1]), dims=3, real=True, learn=True),
            "real", exact=True, **of_volumes,
        ),
        "Fourier, volumes, learned lines for each sample": Case(
            lambda dtype, size: lin.Fourier(positive(dtype, EACH, 1, *size), dims=3, learn=True),
            "complex", exact=True, each=True, **of_volumes,
        ),
        "MultiCoilFourier, volumes, learned": Case(
            lambda dtype, size: lin.MultiCoilFourier(
                positive(dtype, *size), random(dtype, COILS, *volume(size)), dims=3, learn_mask=True, learn_maps=True
            ),
            "complex", slack=2.5, **of_volumes,
        ),
        "MultiCoilFourier, volumes, for each sample": Case(
            lambda dtype, size: lin.MultiCoilFourier(
                binary(dtype, EACH, *volume(size)), random(dtype, EACH, COILS, *volume(size)), False, dims=3
            ),
            "complex", each=True, slack=2.5, **of_volumes,
        ),
        "Mask, volumes, learned": Case(
            lambda dtype, size: lin.Mask(positive(dtype, *volume(size)), dims=3, learn=True), exact=True, **of_volumes
        ),
        "Mask, volumes, for each sample": Case(
            lambda dtype, size: lin.Mask(binary(dtype, EACH, *volume(size)), dims=3), exact=True, each=True,
            **of_volumes,
        ),
    }  # fmt: skip


DYADIC = ((8, 12), (4, 4))
OPERATORS: dict[str, Case] = {
    **blurs(),
    "Fourier": Case(lambda dtype, size: lin.Fourier(positive(dtype, *size)), "complex", exact=True),
    "Fourier, not centred": Case(
        lambda dtype, size: lin.Fourier(binary(dtype, *size), centered=False), "complex", exact=True
    ),
    "Fourier, columns": Case(lambda dtype, size: lin.Fourier(binary(dtype, size[1])), "complex", exact=True),
    "Fourier, rows": Case(lambda dtype, size: lin.Fourier(binary(dtype, size[0], 1)), "complex", exact=True),
    "Fourier, a mask for each sample": Case(
        lambda dtype, size: lin.Fourier(binary(dtype, EACH, *size)), "complex", each=True, exact=True
    ),
    "Fourier, columns for each sample": Case(
        lambda dtype, size: lin.Fourier(positive(dtype, EACH, 1, size[1])), "complex", each=True, exact=True
    ),
    "Fourier, learned": Case(
        lambda dtype, size: lin.Fourier(positive(dtype, *size), learn=True), "complex", exact=True
    ),
    "Fourier, real": Case(lambda dtype, size: lin.Fourier(positive(dtype, *size), real=True), "real", exact=True),
    "Fourier, real, not centred": Case(
        lambda dtype, size: lin.Fourier(binary(dtype, *size), False, real=True), "real", exact=True
    ),
    "Fourier, real, columns": Case(
        lambda dtype, size: lin.Fourier(positive(dtype, size[1]), real=True), "real", exact=True
    ),
    "Fourier, real, learned columns for each sample": Case(
        lambda dtype, size: lin.Fourier(positive(dtype, EACH, 1, size[1]), real=True, learn=True),
        "real",
        each=True,
        exact=True,
    ),
    "Fourier, real, times a complex number": Case(
        lambda dtype, size: (0.6 - 0.7j) * lin.Fourier(positive(dtype, *size), real=True), "real", exact=True
    ),
    "MultiCoilFourier": Case(
        lambda dtype, size: lin.MultiCoilFourier(binary(dtype, *size), random(dtype, COILS, *size)), "complex"
    ),
    "MultiCoilFourier, columns, not centred, learned": Case(
        lambda dtype, size: lin.MultiCoilFourier(
            positive(dtype, size[1]), random(dtype, COILS, *size), False, learn_mask=True, learn_maps=True
        ),
        "complex",
        slack=2.5,  # the largest weight and the largest sensitivity meet nowhere
    ),
    "MultiCoilFourier, a mask for each sample": Case(
        lambda dtype, size: lin.MultiCoilFourier(binary(dtype, EACH, *size), random(dtype, COILS, *size)),
        "complex",
        each=True,
    ),
    "MultiCoilFourier, maps for each sample": Case(
        lambda dtype, size: lin.MultiCoilFourier(binary(dtype, size[1]), random(dtype, EACH, COILS, *size)),
        "complex",
        each=True,
    ),
    "Mask": Case(lambda dtype, size: lin.Mask(binary(dtype, *size)), exact=True),
    "Mask, learned": Case(lambda dtype, size: lin.Mask(positive(dtype, *size), learn=True), exact=True),
    "Mask, complex": Case(lambda dtype, size: lin.Mask(random(dtype, *size)), "complex", exact=True),
    "Mask, for each sample": Case(lambda dtype, size: lin.Mask(binary(dtype, EACH, *size)), each=True, exact=True),
    **blurs_of_volumes(),
    **scans_of_volumes(),
    **downsampled_volumes(),
    "Downsample": Case(lambda dtype, size: lin.Downsample(2, kernel(dtype, 3, 3)), sizes=((8, 12), (6, 10)), slack=6),
    "Downsample, stated shape": Case(
        lambda dtype, size: lin.Downsample(3, kernel(dtype, 2, 3), shape=size), sizes=((9, 15), (6, 12)), exact=True
    ),
    "Downsample, reflect": Case(
        lambda dtype, size: lin.Downsample(2, kernel(dtype, 3, 4), "reflect"), sizes=DYADIC, slack=8
    ),
    "Downsample, valid, learned": Case(
        lambda dtype, size: lin.Downsample(2, kernel(dtype, 2, 2), "valid", learn=True),
        sizes=((9, 7), (5, 13)),
        slack=6,
    ),
    "Downsample, learned": Case(
        lambda dtype, size: lin.Downsample(2, kernel(dtype, 3, 3), learn=True), sizes=((8, 12),), slack=6
    ),
    "Wavelet, haar": Case(lambda dtype, size: lin.Wavelet("haar"), sizes=DYADIC, exact=True),
    "Wavelet, two levels": Case(lambda dtype, size: lin.Wavelet("db4", 2), sizes=DYADIC, exact=True),
    "Wavelet, volumes": Case(lambda dtype, size: lin.Wavelet("sym4", 2, 3), sizes=DYADIC, sample=volume, exact=True),
    "DCT": Case(lambda dtype, size: lin.DCT(), exact=True),
    "DCT, volumes": Case(lambda dtype, size: lin.DCT(3), sizes=((3, 5), (2, 4)), sample=volume, exact=True),
    "Blocks": Case(lambda dtype, size: lin.Blocks(3, shape=size), sizes=((9, 6), (12, 6)), exact=True),
    "BlockDCT": Case(lambda dtype, size: lin.BlockDCT(4), sizes=((8, 8), (12, 12)), exact=True),
    "Gradient": Case(lambda dtype, size: lin.Gradient(), slack=1.1),
    "Gradient, stated shape": Case(lambda dtype, size: lin.Gradient(shape=size), exact=True),
    "Gradient, volumes": Case(lambda dtype, size: lin.Gradient(3), sizes=((3, 5), (2, 4)), sample=volume, slack=1.3),
    "Convolution": Case(
        lambda dtype, size: lin.Convolution(real(dtype, COILS, 3, 2)), sample=lambda size: (COILS, *size), slack=1.3
    ),
    "Convolution, stride, learned": Case(
        lambda dtype, size: lin.Convolution(real(dtype, COILS, 3, 5), 2, learn=True),
        sizes=((4, 3), (5, 4)),
        sample=lambda size: (COILS, *size),
        slack=1.6,
    ),
    "Convolution, volumes": Case(
        lambda dtype, size: lin.Convolution(real(dtype, 2, 2, 3, 2)),
        sizes=((3, 4),),
        sample=lambda size: (2, 3, *size),
        slack=1.6,
    ),
    "Stack": Case(
        lambda dtype, size: lin.Stack(lin.Blur(kernel(dtype, 3, 3)), lin.Mask(binary(dtype, *size))), slack=2
    ),
    "Stack of a kernel for each sample": Case(
        lambda dtype, size: lin.Stack(lin.Blur(kernel(dtype, EACH, 3, 3)), lin.DCT()), each=True, slack=2
    ),
    "Blur of wavelet coefficients": Case(
        lambda dtype, size: lin.Blur(kernel(dtype, 3, 3)) @ lin.Wavelet("db2", 2).H, sizes=DYADIC, slack=2
    ),
    "Fourier of cosine coefficients": Case(
        lambda dtype, size: 0.5 * lin.Fourier(binary(dtype, *size)) @ lin.DCT().H, "complex", slack=2
    ),
}

ALL = [(name, dtype, size) for name, case in OPERATORS.items() for dtype in case.dtypes for size in case.sizes]
DOUBLE = [row for row in ALL if row[1] in (torch.float64, torch.complex128)]
# Every other row, by turns: each precision has one of two sizes, so real and complex pictures have both.
HALF = [
    (name, dtype, size)
    for name, case in OPERATORS.items()
    for i, dtype in enumerate(case.dtypes)
    for j, size in enumerate(case.sizes)
    if (i + j) % len(case.sizes) == 0
]
FIRST = [row for row in DOUBLE if row[2] == OPERATORS[row[0]].sizes[0]]  # in double precision, of one size


def samples(case: Case, dtype: torch.dtype, size: Size, batch: tuple[int, ...]) -> Tensor:
    return torch.randn(*batch, *case.sample(size), dtype=dtype)
