"""How a picture goes on beyond its border: what a blur needs before and after the product with the spectrum.

A blur is A = C K E: E puts a picture into the grid of the Fourier transforms and continues it there, K is a circular
blur of the grid, and C cuts out the pixels that are measured. Each class says by numbers what E and C are, for kernels
(h, w) with the centre (h//2, w//2), or for kernels (d, h, w) of volumes.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import lt

from torch import Tensor

from .._checks import shape_text
from ..ops import fast_length, is_fft_length
from ..reference_pictures import continued, folded

Size = tuple[int, ...]  # (H, W) of pictures, (D, H, W) of volumes
Margins = tuple[int, ...]  # at the top, left, bottom and right; of volumes at the front, top, left, back, bottom, right


class Boundary:
    """What all continuations have in common, for pictures of a size. Zeros stand around, where nothing else is said.

    grid: the size of the Fourier transforms. measured: that of y. around: how many rows and columns the grid has around
    the picture. copied: how many of these E copies from the picture; those behind are zero. margins: how many rows and
    columns of the grid C leaves out.
    """

    periodic = False  # whether E copies rows and columns of the other side, and does not reflect

    def __init__(self, kernel: Size, picture: Size) -> None:
        self.kernel = kernel
        self.after = tuple([n // 2 for n in kernel])  # the pixels that the blur needs behind the last one
        self.before = tuple([n - 1 - n // 2 for n in kernel])
        self.grid, self.measured, border = self.grid_of(picture), self.measured_of(picture), self.border
        sides = zip(self.grid, picture, border, strict=False)
        at = tuple([first if whole > n else 0 for whole, n, first in sides])  # where x begins in the grid
        self.around = _around(self.grid, picture, at)
        self.copied = tuple(map(min, self.around, border))
        self.margins = _around(self.grid, self.measured, self.measured_at(at))

    @property
    def border(self) -> Margins:
        """How many rows and columns E copies at most."""
        return (0, 0) * len(self.kernel)

    @staticmethod
    def picture(kernel: Size, measured: Size) -> Size:
        """The size of x for a y of a size."""
        return measured

    def grid_of(self, picture: Size) -> Size:
        raise NotImplementedError

    def measured_of(self, picture: Size) -> Size:
        return picture

    def measured_at(self, picture_at: Size) -> Size:
        """Where y begins in the grid."""
        return picture_at

    def extend(self, x: Tensor) -> Tensor:
        """E x."""
        return continued(x, self.around, self.copied, self.periodic)

    def extend_adjoint(self, v: Tensor) -> Tensor:
        """Eᵀ v."""
        return folded(v, self.around, self.copied, self.periodic)

    def crop(self, v: Tensor) -> Tensor:
        """C v."""
        return folded(v, self.margins)

    def crop_adjoint(self, y: Tensor) -> Tensor:
        """Cᵀ y."""
        return continued(y, self.margins)


class Valid(Boundary):
    """No continuation: only pixels whose blur stays inside the picture are measured.

    What comes back from the other side of the grid, zeros or pixels, falls on pixels that are not measured.
    """

    @staticmethod
    def picture(kernel: Size, measured: Size) -> Size:
        return _with_border(measured, kernel)

    def grid_of(self, picture: Size) -> Size:
        return _with_kernels(picture, picture)

    def measured_of(self, picture: Size) -> Size:
        return tuple([n - of_kernel + 1 for n, of_kernel in zip(picture, self.kernel, strict=True)])

    def measured_at(self, picture_at: Size) -> Size:
        return self.before


class Constant(Boundary):
    """A continuation by zeros: the grid is so much larger that nothing comes back from the other side."""

    def grid_of(self, picture: Size) -> Size:
        return _fast(n + max(*sides) for n, *sides in zip(picture, self.before, self.after, strict=True))


class Reflect(Boundary):
    """A continuation by reflection at the edges of the picture: … c b a | a b c … x y z | z y x …"""

    @property
    def border(self) -> Margins:
        return *self.before, *self.after

    def grid_of(self, picture: Size) -> Size:
        return _fast(_with_border(picture, self.kernel))


class Periodic(Reflect):
    """The periodic continuation: that of the grid, where kernels transform the sides of the picture."""

    periodic = True

    def grid_of(self, picture: Size) -> Size:
        return _with_kernels(picture, _with_border(picture, self.kernel))


BOUNDARIES: dict[str, type[Boundary]] = {
    "circular": Periodic,
    "reflect": Reflect,
    "constant": Constant,
    "valid": Valid,
}


def require_size(kernel: Size, picture: Size) -> None:
    """Refuses pictures that are smaller than the kernel."""
    if any(map(lt, picture, kernel)):
        raise ValueError(
            f"a kernel must not be larger than the pictures, but the kernel is {shape_text(kernel)} and the pictures "
            f"are {shape_text(picture)}: crop the kernel, or give larger pictures; of colour pictures the channels "
            "come first, (C, H, W)"
        )


def _with_border(picture: Size, kernel: Size) -> Size:
    """The size of a picture with all pixels that its blur needs."""
    return tuple([n + of_kernel - 1 for n, of_kernel in zip(picture, kernel, strict=True)])


def _around(grid: Size, part: Size, at: Size) -> Margins:
    """The rows and columns around a part of a grid whose first pixel is given."""
    return *at, *[whole - n - first for whole, n, first in zip(grid, part, at, strict=True)]


def _fast(sides: Iterable[int]) -> Size:
    return tuple(map(fast_length, sides))


def _with_kernels(picture: Size, larger: Size) -> Size:
    """The sides of a picture that kernels transform, and fast ones in the place of others."""
    return tuple([n if is_fft_length(n) else fast_length(m) for n, m in zip(picture, larger, strict=True)])
