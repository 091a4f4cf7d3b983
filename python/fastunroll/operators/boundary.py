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
    """What all continuations have in common. Where nothing else is said, zeros stand around the picture.

    before, after: the number of pixels that the blur needs before the first and after the last one, in each direction.
    border: how many rows and columns at most E copies to the top, left, bottom and right of the picture.
    periodic: whether it copies those of the other side, and does not reflect.
    """

    border: Margins
    periodic = False

    def __init__(self, *kernel: int) -> None:
        self.kernel = kernel
        self.after = tuple([n // 2 for n in kernel])
        self.before = tuple([n - 1 - n // 2 for n in kernel])
        self.border = (0, 0) * len(kernel)

    def require_size(self, shape: tuple[int, ...]) -> None:
        """Refuses pictures that are smaller than the kernel."""
        sides = self.picture_of(shape)
        if any(map(lt, sides, self.kernel)):
            raise ValueError(
                f"a kernel must not be larger than the pictures, but the kernel is {shape_text(self.kernel)} and the "
                f"pictures are {shape_text(sides)}: crop the kernel, or give larger pictures; of "
                "colour pictures the channels come first, (C, H, W)"
            )

    def picture_of(self, shape: tuple[int, ...]) -> Size:
        """The size of pictures of a shape."""
        return shape[-len(self.kernel) :]

    def grid(self, picture: Size) -> Size:
        """The size of the Fourier transforms."""
        raise NotImplementedError

    def measured(self, picture: Size) -> Size:
        """The size of y for pictures of a size."""
        return picture

    def picture(self, measured: Size) -> Size:
        """The size of x for a y of a size."""
        return measured

    def picture_at(self, picture: Size) -> Size:
        """Where the first pixel of x lies in the grid."""
        sides = zip(self.grid(picture), picture, self.border, strict=False)
        return tuple([first if whole > n else 0 for whole, n, first in sides])

    def measured_at(self, picture: Size) -> Size:
        """Where the first pixel of y lies in the grid."""
        return self.picture_at(picture)

    def around(self, picture: Size) -> Margins:
        """How many rows and columns the grid has around the picture."""
        return _around(self.grid(picture), picture, self.picture_at(picture))

    def copied(self, picture: Size) -> Margins:
        """How many of these are copies of others; those behind are zero."""
        return tuple(map(min, self.around(picture), self.border))

    def margins(self, picture: Size) -> Margins:
        """How many rows and columns of the grid C leaves out."""
        return _around(self.grid(picture), self.measured(picture), self.measured_at(picture))

    def extend(self, x: Tensor) -> Tensor:
        """E x."""
        picture = self.picture_of(x.shape)
        return continued(x, self.around(picture), self.copied(picture), self.periodic)

    def extend_adjoint(self, v: Tensor, picture: Size) -> Tensor:
        """Eᵀ v."""
        return folded(v, self.around(picture), self.copied(picture), self.periodic)

    def crop(self, v: Tensor, picture: Size) -> Tensor:
        """C v."""
        return folded(v, self.margins(picture))

    def crop_adjoint(self, y: Tensor, picture: Size) -> Tensor:
        """Cᵀ y."""
        return continued(y, self.margins(picture))


class Valid(Boundary):
    """No continuation: only pixels whose blur stays inside the picture are measured.

    What comes back from the other side of the grid, zeros or pixels, falls on pixels that are not measured.
    """

    def grid(self, picture: Size) -> Size:
        return _with_kernels(picture, picture)

    def measured(self, picture: Size) -> Size:
        return tuple([n - of_kernel + 1 for n, of_kernel in zip(picture, self.kernel, strict=True)])

    def picture(self, measured: Size) -> Size:
        return tuple([n + of_kernel - 1 for n, of_kernel in zip(measured, self.kernel, strict=True)])

    def measured_at(self, picture: Size) -> Size:
        return self.before


class Constant(Boundary):
    """A continuation by zeros: the grid is so much larger that nothing comes back from the other side."""

    def grid(self, picture: Size) -> Size:
        return _fast(n + max(*sides) for n, *sides in zip(picture, self.before, self.after, strict=True))


class Reflect(Boundary):
    """A continuation by reflection at the edges of the picture: … c b a | a b c … x y z | z y x …"""

    def __init__(self, *kernel: int) -> None:
        super().__init__(*kernel)
        self.border = *self.before, *self.after

    def grid(self, picture: Size) -> Size:
        return _fast(self._continued(picture))

    def _continued(self, picture: Size) -> Size:
        """The size of a picture with its border."""
        return tuple([n + of_kernel - 1 for n, of_kernel in zip(picture, self.kernel, strict=True)])


class Periodic(Reflect):
    """The periodic continuation: that of the grid, where kernels transform the sides of the picture."""

    periodic = True

    def grid(self, picture: Size) -> Size:
        return _with_kernels(picture, self._continued(picture))


BOUNDARIES: dict[str, type[Boundary]] = {
    "circular": Periodic,
    "reflect": Reflect,
    "constant": Constant,
    "valid": Valid,
}


def _around(grid: Size, part: Size, at: Size) -> Margins:
    """The rows and columns around a part of a grid whose first pixel is given."""
    return *at, *[whole - n - first for whole, n, first in zip(grid, part, at, strict=True)]


def _fast(sides: Iterable[int]) -> Size:
    return tuple(map(fast_length, sides))


def _with_kernels(picture: Size, larger: Size) -> Size:
    """The sides of a picture that kernels transform, and fast ones in the place of others."""
    return tuple([n if is_fft_length(n) else fast_length(m) for n, m in zip(picture, larger, strict=True)])
