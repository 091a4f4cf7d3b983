"""How a picture goes on beyond its border: what a blur needs before and after the product with the spectrum.

A blur is A = C K E: E continues a picture on the grid of the Fourier transforms, K is a circular blur there, and C cuts
out the pixels that are measured. Each class says by numbers what E and C are, for kernels (h, w) with the centre
(h//2, w//2).
"""

from __future__ import annotations

from torch import Tensor

from .._checks import shape_text
from ..ops import fast_length
from ..reference_pictures import continued, folded

Size = tuple[int, int]
Margins = tuple[int, int, int, int]  # at the top, left, bottom and right


class Boundary:
    """The periodic continuation: E and C are the identity.

    before, after: the number of pixels that the blur needs before the first and after the last one, in each direction.
    border: how many rows and columns E reflects into the margins, before zeros; None where E is the identity.
    """

    border: Margins | None = None

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

    def margins(self, picture: Size) -> Margins:
        """How many rows and columns of the grid C leaves out."""
        return 0, 0, 0, 0

    def extend(self, x: Tensor) -> Tensor:
        """E x."""
        return x if self.border is None else continued(x, self.margins((x.shape[-2], x.shape[-1])), self.border)

    def extend_adjoint(self, v: Tensor, picture: Size) -> Tensor:
        """Eᵀ v."""
        return v if self.border is None else folded(v, self.margins(picture), self.border)

    def crop(self, v: Tensor, picture: Size) -> Tensor:
        """C v."""
        margins = self.margins(picture)
        return folded(v, margins, (0, 0, 0, 0)) if any(margins) else v

    def crop_adjoint(self, y: Tensor, picture: Size) -> Tensor:
        """Cᵀ y."""
        margins = self.margins(picture)
        return continued(y, margins, (0, 0, 0, 0)) if any(margins) else y


class Valid(Boundary):
    """No continuation: only pixels whose blur stays inside the picture are measured."""

    def measured(self, picture: Size) -> Size:
        return picture[0] - self.kernel[0] + 1, picture[1] - self.kernel[1] + 1

    def picture(self, measured: Size) -> Size:
        return measured[0] + self.kernel[0] - 1, measured[1] + self.kernel[1] - 1

    def margins(self, picture: Size) -> Margins:
        return *self.before, *self.after


class Constant(Boundary):
    """A continuation by zeros: the grid is so much larger that nothing comes back from the other side."""

    border = 0, 0, 0, 0

    def grid(self, picture: Size) -> Size:
        return tuple(  # type: ignore[return-value]
            fast_length(n + max(before, after))
            for n, before, after in zip(picture, self.before, self.after, strict=True)
        )

    def margins(self, picture: Size) -> Margins:
        return _around(self.grid(picture), picture, 0, 0)


class Reflect(Boundary):
    """A continuation by reflection at the edges of the picture: … c b a | a b c … x y z | z y x …"""

    def __init__(self, h: int, w: int) -> None:
        super().__init__(h, w)
        self.border = *self.before, *self.after

    def grid(self, picture: Size) -> Size:
        return fast_length(picture[0] + self.kernel[0] - 1), fast_length(picture[1] + self.kernel[1] - 1)

    def margins(self, picture: Size) -> Margins:
        return _around(self.grid(picture), picture, *self.before)


BOUNDARIES: dict[str, type[Boundary]] = {
    "circular": Boundary,
    "reflect": Reflect,
    "constant": Constant,
    "valid": Valid,
}


def _around(grid: Size, picture: Size, top: int, left: int) -> Margins:
    """The margins around a picture that lies in a grid from a pixel on."""
    return top, left, grid[0] - picture[0] - top, grid[1] - picture[1] - left
