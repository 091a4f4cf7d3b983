"""How a picture goes on beyond its border: what a blur needs before and after the product with the spectrum.

A blur is A = C K E: E puts a picture into the grid of the Fourier transforms and continues it there, K is a circular
blur of the grid, and C cuts out the pixels that are measured. Each class says by numbers what E and C are, for kernels
(h, w) with the centre (h//2, w//2).
"""

from __future__ import annotations

from torch import Tensor

from .._checks import shape_text
from ..ops import fast_length, is_fft_length
from ..reference_pictures import continued, folded

Size = tuple[int, int]
Margins = tuple[int, int, int, int]  # at the top, left, bottom and right


class Boundary:
    """The periodic continuation: E and C are the identity.

    before, after: the number of pixels that the blur needs before the first and after the last one, in each direction.
    picture_at, measured_at: where the first pixel of x, and that of y, lies in the grid.
    reflected: how many rows and columns of the grid around the picture mirror it; the others are zero.
    """

    picture_at: Size = (0, 0)
    measured_at: Size = (0, 0)
    reflected: Margins = (0, 0, 0, 0)

    def __init__(self, h: int, w: int) -> None:
        self.kernel = h, w
        self.after = h // 2, w // 2
        self.before = h - 1 - h // 2, w - 1 - w // 2

    def require_size(self, shape: tuple[int, ...]) -> None:
        """Refuses pictures that are smaller than the kernel."""
        if shape[-2] < self.kernel[0] or shape[-1] < self.kernel[1]:
            raise ValueError(
                f"a kernel must not be larger than the pictures, but the kernel is {shape_text(self.kernel)} and the "
                f"pictures are {shape_text(shape[-2:])}: crop the kernel, or give larger pictures; of "
                "colour pictures the channels come first, (C, H, W)"
            )

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
        return continued(x, self.around((x.shape[-2], x.shape[-1])), self.reflected)

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

    def __init__(self, h: int, w: int) -> None:
        super().__init__(h, w)
        self.measured_at = self.before

    def grid(self, picture: Size) -> Size:
        rows, columns = (n if is_fft_length(n) else fast_length(n) for n in picture)
        return rows, columns

    def measured(self, picture: Size) -> Size:
        return picture[0] - self.kernel[0] + 1, picture[1] - self.kernel[1] + 1

    def picture(self, measured: Size) -> Size:
        return measured[0] + self.kernel[0] - 1, measured[1] + self.kernel[1] - 1


class Constant(Boundary):
    """A continuation by zeros: the grid is so much larger that nothing comes back from the other side."""

    def grid(self, picture: Size) -> Size:
        return tuple(  # type: ignore[return-value]
            fast_length(n + max(before, after))
            for n, before, after in zip(picture, self.before, self.after, strict=True)
        )


class Reflect(Boundary):
    """A continuation by reflection at the edges of the picture: … c b a | a b c … x y z | z y x …"""

    def __init__(self, h: int, w: int) -> None:
        super().__init__(h, w)
        self.picture_at = self.measured_at = self.before
        self.reflected = *self.before, *self.after

    def grid(self, picture: Size) -> Size:
        return fast_length(picture[0] + self.kernel[0] - 1), fast_length(picture[1] + self.kernel[1] - 1)


BOUNDARIES: dict[str, type[Boundary]] = {
    "circular": Boundary,
    "reflect": Reflect,
    "constant": Constant,
    "valid": Valid,
}


def _around(grid: Size, part: Size, at: Size) -> Margins:
    """The rows and columns around a part of a grid whose first pixel is given."""
    return *at, grid[0] - part[0] - at[0], grid[1] - part[1] - at[1]
