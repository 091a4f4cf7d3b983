"""How a picture goes on beyond its border: what a blur needs before and after the product with the spectrum.

A blur is A = C K E: E puts a picture into the grid of the Fourier transforms and continues it there, K is a circular
blur of the grid, and C cuts out the pixels that are measured. Each class says by numbers what E and C are, for kernels
(h, w) with the centre (h//2, w//2), or for kernels (d, h, w) of volumes.
"""

from __future__ import annotations

from operator import lt

from torch import Tensor

from .._checks import shape_text
from ..ops import fast_length, is_fft_length
from ..reference_pictures import continued, folded

Size = tuple[int, ...]  # (H, W) of pictures, (D, H, W) of volumes
Margins = tuple[int, ...]  # at the top, left, bottom and right; of volumes at the front, top, left, back, bottom, right


class Boundary:
    """The periodic continuation: E and C are the identity.

    before, after: the number of pixels that the blur needs before the first and after the last one, in each direction.
    picture_at, measured_at: where the first pixel of x, and that of y, lies in the grid.
    reflected: how many rows and columns of the grid around the picture mirror it; the others are zero.
    """

    picture_at: Size
    measured_at: Size
    reflected: Margins

    def __init__(self, *kernel: int) -> None:
        self.kernel = kernel
        self.after = tuple([n // 2 for n in kernel])
        self.before = tuple([n - 1 - n // 2 for n in kernel])
        self.picture_at = self.measured_at = (0,) * len(kernel)
        self.reflected = (0, 0) * len(kernel)

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
        return picture

    def measured(self, picture: Size) -> Size:
        """The size of y for pictures of a size."""
        return picture

    def picture(self, measured: Size) -> Size:
        """The size of x for a y of a size."""
        return measured

    def around(self, picture: Size) -> Margins:
        """How many rows and columns the grid has around the picture."""
        return _around(self.grid(picture), picture, self.picture_at)

    def margins(self, picture: Size) -> Margins:
        """How many rows and columns of the grid C leaves out."""
        return _around(self.grid(picture), self.measured(picture), self.measured_at)

    def extend(self, x: Tensor) -> Tensor:
        """E x."""
        return continued(x, self.around(self.picture_of(x.shape)), self.reflected)

    def extend_adjoint(self, v: Tensor, picture: Size) -> Tensor:
        """Eᵀ v."""
        return folded(v, self.around(picture), self.reflected)

    def crop(self, v: Tensor, picture: Size) -> Tensor:
        """C v."""
        return folded(v, self.margins(picture))

    def crop_adjoint(self, y: Tensor, picture: Size) -> Tensor:
        """Cᵀ y."""
        return continued(y, self.margins(picture))


class Valid(Boundary):
    """No continuation: only pixels whose blur stays inside the picture are measured.

    The grid is larger where kernels do not transform a side of the picture. What comes back from the other side, zeros
    or pixels, falls on pixels that are not measured.
    """

    def __init__(self, *kernel: int) -> None:
        super().__init__(*kernel)
        self.measured_at = self.before

    def grid(self, picture: Size) -> Size:
        return tuple([n if is_fft_length(n) else fast_length(n) for n in picture])

    def measured(self, picture: Size) -> Size:
        return tuple([n - of_kernel + 1 for n, of_kernel in zip(picture, self.kernel, strict=True)])

    def picture(self, measured: Size) -> Size:
        return tuple([n + of_kernel - 1 for n, of_kernel in zip(measured, self.kernel, strict=True)])


class Constant(Boundary):
    """A continuation by zeros: the grid is so much larger that nothing comes back from the other side."""

    def grid(self, picture: Size) -> Size:
        sides = zip(picture, self.before, self.after, strict=True)
        return tuple([fast_length(n + max(before, after)) for n, before, after in sides])


class Reflect(Boundary):
    """A continuation by reflection at the edges of the picture: … c b a | a b c … x y z | z y x …"""

    def __init__(self, *kernel: int) -> None:
        super().__init__(*kernel)
        self.picture_at = self.measured_at = self.before
        self.reflected = *self.before, *self.after

    def grid(self, picture: Size) -> Size:
        return tuple([fast_length(n + of_kernel - 1) for n, of_kernel in zip(picture, self.kernel, strict=True)])


BOUNDARIES: dict[str, type[Boundary]] = {
    "circular": Boundary,
    "reflect": Reflect,
    "constant": Constant,
    "valid": Valid,
}


def _around(grid: Size, part: Size, at: Size) -> Margins:
    """The rows and columns around a part of a grid whose first pixel is given."""
    return *at, *[whole - n - first for whole, n, first in zip(grid, part, at, strict=True)]
