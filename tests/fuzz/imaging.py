"""Random operators of imaging, each with its dense matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import fastunroll as fu
import torch
from torch import Tensor

from . import matrices
from .draw import Draw
from .matrices import Size
from .subject import Leaves

lin = fu.operators
SIDES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 16, 17, 24, 31, 37]
PIXELS = 160  # at most, in a picture or a volume
WAVELETS = ["haar", "db2", "db4", "sym5", "coif1"]


@dataclass(frozen=True)
class Pictures:
    """The pictures of a call: their precision, whether they are complex, their sides and the shape of their batch.

    size: (H, W), or (D, H, W) where they are volumes.
    """

    real: torch.dtype
    is_complex: bool
    size: Size
    lead: Size

    @property
    def dims(self) -> int:
        return len(self.size)

    @property
    def dtype(self) -> torch.dtype:
        return self.real.to_complex() if self.is_complex else self.real


@dataclass
class Operator:
    """A random operator.

    make: fastunroll's, of tensors by name, which become parameters if the second argument says so.
    matrix: the dense matrix of such an operator, (m, n) or one for each sample (..., m, n).
    leaves: the tensors. of_samples: the names of those with the leading shape of the samples.
    is_each: whether a tensor has another value for each sample, or for some axes of the batch.
    is_real: whether pictures are real, and measurements complex.
    learns: whether tensors may become parameters.
    """

    make: Callable[[Leaves, bool], Any]
    matrix: Callable[[Any], Tensor]
    shape_in: Size
    shape_out: Size
    leaves: dict[str, Tensor] = field(default_factory=dict)
    of_samples: tuple[str, ...] = ()
    is_each: bool = False
    is_real: bool = False
    learns: bool = True

    def measured(self, p: Pictures) -> torch.dtype:
        """The dtype of y."""
        return p.real.to_complex() if self.is_real else p.dtype


class Held:
    """Draws the tensors of one operator, under names of their own."""

    def __init__(self, d: Draw, p: Pictures, prefix: str) -> None:
        self.d, self.p, self.prefix = d, p, prefix
        self.leaves: dict[str, Tensor] = {}
        self.of_samples: list[str] = []
        self.is_each = False

    def keep(self, name: str, t: Tensor) -> str:
        key = f"{self.prefix}{name}"
        self.leaves[key] = t
        return key

    def each(self, what: str) -> Size:
        """The leading shape of a tensor: of all samples, of each, or of some axes of the batch."""
        lead = self.p.lead
        if not lead or 0 in lead or not self.d.chance(f"{what} for each sample", 0.25):
            return ()
        self.is_each = True
        if self.d.random.random() < 0.6:
            return lead
        some = tuple(1 if self.d.random.random() < 0.4 else n for n in lead)
        return some[self.d.random.randrange(len(some)) :]

    def normal(self, name: str, *shape: int, each: bool = True, is_complex: bool = False, scale: float = 1.0) -> str:
        lead = self.each(name) if each else ()
        dtype = self.p.real.to_complex() if is_complex else self.p.real
        key = self.keep(name, (self.d.normal(*lead, *shape, dtype=dtype) * scale).to(dtype))
        if lead and lead == self.p.lead:
            self.of_samples.append(key)
        return key

    def mask(self, name: str, shape: Size, *, each: bool = True) -> str:
        """Weights, or zeros and ones."""
        kind = self.d.pick("mask", ["weights", "binary"])
        lead = self.each(name) if each and len(shape) == self.p.dims else ()
        found = torch.rand(*lead, *shape, dtype=torch.float64) + 0.1
        found = (found > 0.5).double() if kind == "binary" else found
        key = self.keep(name, found.to(self.p.real))
        if lead and lead == self.p.lead:
            self.of_samples.append(key)
        return key

    def operator(self, make: Any, matrix: Any, shape_in: Size, shape_out: Size, **options: Any) -> Operator:
        return Operator(make, matrix, shape_in, shape_out, self.leaves, tuple(self.of_samples), self.is_each, **options)


def _blur(d: Draw, p: Pictures, prefix: str, boundaries: tuple[str, ...] = ()) -> Operator:
    held, boundary = Held(d, p, prefix), d.pick("boundary", boundaries or ["circular", "reflect", "constant", "valid"])
    sides = [d.random.randint(1, min(n, 5)) for n in p.size]
    is_complex = p.is_complex and d.chance("complex kernel", 0.2)
    kernel = held.normal("kernel", *sides, is_complex=is_complex, scale=prod(sides) ** -0.5)
    shape = p.size if d.chance("stated shape", 0.3) else None
    measured = tuple(n - k + 1 for n, k in zip(p.size, sides, strict=True)) if boundary == "valid" else p.size
    return held.operator(
        lambda v, learn: lin.Blur(v[kernel], boundary, dims=p.dims, shape=shape, learn=learn),
        lambda op: matrices.blur(op.kernel, boundary, p.size), p.size, measured,
    )  # fmt: skip


def _circular(d: Draw, p: Pictures, prefix: str) -> Operator:
    return _blur(d, p, prefix, ("circular",))


def _downsample(d: Draw, p: Pictures, prefix: str) -> Operator:
    factors = [f for f in (1, 2, 3) if all(n % f == 0 for n in p.size)]
    factor, held = d.pick("factor", factors), Held(d, p, prefix)
    sides = [d.random.randint(1, min(n, 4)) for n in p.size]
    kernel = held.normal("kernel", *sides, scale=prod(sides) ** -0.5)
    fits = all((n - k + 1) % factor == 0 for n, k in zip(p.size, sides, strict=True))
    boundary = d.pick("boundary", ["circular", "reflect", "constant", *(["valid"] if fits else [])])
    blurred = tuple(n - k + 1 for n, k in zip(p.size, sides, strict=True)) if boundary == "valid" else p.size
    shape = p.size if d.chance("stated shape", 0.3) else None

    def matrix(op: Any) -> Tensor:
        B = matrices.blur(op.blur.kernel, boundary, p.size)
        return matrices.downsampling(blurred, factor).to(B.dtype) @ B

    return held.operator(
        lambda v, learn: lin.Downsample(factor, v[kernel], boundary, dims=p.dims, shape=shape, learn=learn), matrix,
        p.size, tuple(n // factor for n in blurred),
    )  # fmt: skip


def _mask_shape(d: Draw, size: Size) -> Size:
    """All sides, one for all along one axis or another, or the last sides alone."""
    return d.pick("mask of", [size, (*size[:-2], 1, size[-1]), (*size[:-1], 1), size[1:]], [3, 1, 1, 1])


def _fourier(d: Draw, p: Pictures, prefix: str) -> Operator:
    held = Held(d, p, prefix)
    mask, centered = held.mask("mask", _mask_shape(d, p.size)), d.random.random() < 0.6
    is_real = not p.is_complex
    return held.operator(
        lambda v, learn: lin.Fourier(v[mask], centered, dims=p.dims, real=is_real, learn=learn),
        lambda op: matrices.masked(op.mask, matrices.fourier(p.size, centered), p.size), p.size, p.size,
        is_real=is_real,
    )  # fmt: skip


def _coils(d: Draw, p: Pictures, prefix: str) -> Operator:
    held, count, centered = Held(d, p, prefix), d.pick("coils", [1, 2, 3]), d.random.random() < 0.6
    mask = held.mask("mask", _mask_shape(d, p.size))
    maps = held.normal("maps", count, *p.size, is_complex=True, scale=count**-0.5)
    return held.operator(
        lambda v, learn: lin.MultiCoilFourier(
            v[mask], v[maps], centered, dims=p.dims, learn_mask=learn, learn_maps=learn
        ),
        lambda op: matrices.coils(op.mask, op.maps, centered, p.size), p.size, (count, *p.size),
    )  # fmt: skip


def _mask(d: Draw, p: Pictures, prefix: str) -> Operator:
    held, shape = Held(d, p, prefix), _mask_shape(d, p.size)
    shape = shape if len(shape) == p.dims else p.size
    if p.is_complex and d.chance("complex mask", 0.3):
        mask = held.normal("mask", *shape, is_complex=True)
    else:
        mask = held.mask("mask", shape)
    return held.operator(
        lambda v, learn: lin.Mask(v[mask], dims=p.dims, learn=learn),
        lambda op: torch.diag_embed(matrices.of_pixels(op.mask, p.size)), p.size, p.size,
    )  # fmt: skip


def _constant(make: Callable[[], Any], matrix: Tensor, shape_in: Size, shape_out: Size) -> Operator:
    """An operator without tensors."""
    return Operator(lambda v, learn: make(), lambda op: matrix, shape_in, shape_out)


def _levels(size: Size) -> list[int]:
    return [levels for levels in (1, 2, 3) if all(n % 2**levels == 0 for n in size)]


def _volume(d: Draw, size: Size, factor: int = 1) -> Size:
    """Sometimes the size of volumes."""
    if len(size) > 2 or prod(size) > PIXELS // 4 or not d.chance("volumes", 0.3):
        return size
    return (factor * d.random.randint(1, max(1, 4 // factor)), *size)


def _wavelet(d: Draw, p: Pictures, prefix: str) -> Operator:
    levels, name = d.pick("wavelet levels", _levels(p.size)), d.pick("wavelet", WAVELETS)
    size = _volume(d, p.size, 2**levels)
    A = matrices.wavelet(name, levels, size)
    return _constant(lambda: lin.Wavelet(name, levels, len(size)), A, size, size)


def _dct(d: Draw, p: Pictures, prefix: str) -> Operator:
    size = _volume(d, p.size)
    return _constant(lambda: lin.DCT(len(size)), matrices.cosines(size), size, size)


def _blocks(d: Draw, p: Pictures, prefix: str) -> Operator:
    side = d.pick("block", [n for n in (1, 2, 3, 4) if all(k % n == 0 for k in p.size)])
    shape_out = p.size[0] * p.size[1] // side**2, side**2
    if d.random.random() < 0.5:
        return _constant(lambda: lin.Blocks(side, shape=p.size), matrices.blocks(p.size, side), p.size, shape_out)
    A = matrices.block_cosines(p.size, side)
    return _constant(lambda: lin.BlockDCT(side, shape=p.size), A, p.size, shape_out)


def _differences(d: Draw, p: Pictures, prefix: str) -> Operator:
    size = _volume(d, p.size)
    shape = size if d.chance("stated shape", 0.3) else None
    A = matrices.differences(size)
    return _constant(lambda: lin.Gradient(len(size), shape=shape), A, size, (len(size), *size))


def _convolution(d: Draw, p: Pictures, prefix: str) -> Operator:
    held, size = Held(d, p, prefix), p.size
    if len(size) == 2 and prod(size) <= PIXELS // 8 and d.chance("volumes", 0.3):
        size = (d.random.randint(1, 3), *size)
    count, stride = d.pick("filters", [1, 2, 3]), d.pick("stride", [1, 2, 3], [3, 2, 1])
    sides = [d.random.randint(1, 4) for _ in size]
    filters = held.normal("filters", count, *sides, each=False, scale=(count * len(sides)) ** -0.5 / 2)
    shape_out = tuple(stride * (n - 1) + h for n, h in zip(size, sides, strict=True))
    shape = (count, *size) if d.chance("stated shape", 0.3) else None
    return held.operator(
        lambda v, learn: lin.Convolution(v[filters], stride, shape=shape, learn=learn),
        lambda op: matrices.convolution(op.filters, stride, size), (count, *size), shape_out,
    )  # fmt: skip


Kind = Callable[[Draw, Pictures, str], Operator]
# Whether an operator is one for real pictures, for complex ones, or for both; and for which sizes it is.
ANY: Callable[[Size], bool] = lambda size: True  # noqa: E731
EVEN: Callable[[Size], bool] = lambda size: bool(_levels(size))  # noqa: E731
FLAT: Callable[[Size], bool] = lambda size: len(size) == 2  # noqa: E731
KINDS: dict[str, tuple[Kind, str, Callable[[Size], bool], float]] = {
    "Blur": (_blur, "either", ANY, 4),
    "circular Blur": (_circular, "either", ANY, 3),
    "Fourier": (_fourier, "either", ANY, 4),
    "MultiCoilFourier": (_coils, "complex", ANY, 5),
    "Mask": (_mask, "either", ANY, 3),
    "Downsample": (_downsample, "either", ANY, 2),
    "Wavelet": (_wavelet, "either", EVEN, 2),
    "DCT": (_dct, "either", ANY, 1),
    "Blocks": (_blocks, "either", FLAT, 1),
    "Gradient": (_differences, "either", ANY, 2),
    "Convolution": (_convolution, "either", ANY, 2),
}
NATIVE = ("Blur", "circular Blur", "Downsample", "Fourier", "MultiCoilFourier", "Mask")  # those with compiled layers
SQUARE = ("Blur", "circular Blur", "Mask", "DCT", "Wavelet")  # whose y is like x


def one(d: Draw, p: Pictures, kinds: Mapping[str, Any] | tuple[str, ...], prefix: str = "") -> Operator:
    """One operator that is no composition."""
    fields = "either", "complex" if p.is_complex else "real"
    names = [name for name in kinds if KINDS[name][1] in fields and KINDS[name][2](p.size)]
    name = d.pick("operator", names, [KINDS[name][3] for name in names])
    return KINDS[name][0](d, p, prefix)


def lead(d: Draw) -> Size:
    """The leading shape of samples."""
    few = [(), (1,), (3,), (2, 3), (2, 1, 2)]
    return d.pick("samples", [*few, (0,), (2, 0, 3), (7,), (17,)], [4] * len(few) + [1] * 4)


def size(d: Draw) -> Size:
    """The sides of pictures, or of volumes: now and then of one pixel, or with a prime factor above 31."""
    if d.chance("dims=3", 0.25):
        depth = d.size("planes", [1, 2, 3, 4, 5, 6, 8])
        H = d.size("rows", [n for n in SIDES if depth * n <= PIXELS // 2])
        return depth, H, d.size("columns", [n for n in SIDES if depth * H * n <= PIXELS])
    H = d.size("rows", SIDES)
    return H, d.size("columns", [n for n in SIDES if H * n <= PIXELS])


DTYPES = [torch.float64, torch.float32, torch.complex128, torch.complex64]


def pictures(d: Draw) -> Pictures:
    dtype = d.pick("dtype", DTYPES, [8, 4, 8, 3])
    return Pictures(dtype.to_real(), dtype.is_complex, size(d), lead(d))
