"""How a picture goes on beyond its border: what a blur needs before and after the product with the spectrum.

A blur is A = C K E: E continues a picture on the grid of the Fourier transforms, K is a circular blur there, and C cuts
out the pixels that are measured. Each class has E, C and their adjoints, for kernels (h, w) with the centre
(h//2, w//2).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from .._checks import shape_text
from ..ops import fast_length

Size = tuple[int, int]


class Boundary:
    """The periodic continuation: E and C are the identity.

    before, after: the number of pixels that the blur needs before the first and after the last one, in each direction.
    """

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

    def extend(self, x: Tensor) -> Tensor:
        """E x."""
        return x

    def extend_adjoint(self, v: Tensor, picture: Size) -> Tensor:
        """Eᵀ v."""
        return v

    def crop(self, v: Tensor, picture: Size) -> Tensor:
        """C v."""
        return v

    def crop_adjoint(self, y: Tensor, picture: Size) -> Tensor:
        """Cᵀ y."""
        return y


class Valid(Boundary):
    """No continuation: only pixels whose blur stays inside the picture are measured."""

    def measured(self, picture: Size) -> Size:
        return picture[0] - self.kernel[0] + 1, picture[1] - self.kernel[1] + 1

    def picture(self, measured: Size) -> Size:
        return measured[0] + self.kernel[0] - 1, measured[1] + self.kernel[1] - 1

    def crop(self, v: Tensor, picture: Size) -> Tensor:
        return _cut(v, self.before, self.measured(picture))

    def crop_adjoint(self, y: Tensor, picture: Size) -> Tensor:
        return pad(y, (self.before[1], self.after[1], self.before[0], self.after[0]))


class Constant(Boundary):
    """A continuation by zeros: the grid is so much larger that nothing comes back from the other side."""

    def grid(self, picture: Size) -> Size:
        return tuple(  # type: ignore[return-value]
            fast_length(n + max(before, after))
            for n, before, after in zip(picture, self.before, self.after, strict=True)
        )

    def extend(self, x: Tensor) -> Tensor:
        H, W = self.grid((x.shape[-2], x.shape[-1]))
        return pad(x, (0, W - x.shape[-1], 0, H - x.shape[-2]))

    def extend_adjoint(self, v: Tensor, picture: Size) -> Tensor:
        return _cut(v, (0, 0), picture)

    def crop(self, v: Tensor, picture: Size) -> Tensor:
        return _cut(v, (0, 0), picture)

    def crop_adjoint(self, y: Tensor, picture: Size) -> Tensor:
        return self.extend(y)


class Reflect(Boundary):
    """A continuation by reflection at the edges of the picture: … c b a | a b c … x y z | z y x …"""

    def grid(self, picture: Size) -> Size:
        return fast_length(picture[0] + self.kernel[0] - 1), fast_length(picture[1] + self.kernel[1] - 1)

    def extend(self, x: Tensor) -> Tensor:
        H, W = self.grid((x.shape[-2], x.shape[-1]))
        for axis in (0, 1):
            dim, n = axis - 2, x.shape[axis - 2]
            first = x.narrow(dim, 0, self.before[axis]).flip(dim)
            last = x.narrow(dim, n - self.after[axis], self.after[axis]).flip(dim)
            x = torch.cat([first, x, last], dim)
        return pad(x, (0, W - x.shape[-1], 0, H - x.shape[-2]))

    def extend_adjoint(self, v: Tensor, picture: Size) -> Tensor:
        for axis in (0, 1):
            dim, n, before, after = axis - 2, picture[axis], self.before[axis], self.after[axis]
            inside = v.narrow(dim, before, n).clone()
            inside.narrow(dim, 0, before).add_(v.narrow(dim, 0, before).flip(dim))
            inside.narrow(dim, n - after, after).add_(v.narrow(dim, before + n, after).flip(dim))
            v = inside
        return v

    def crop(self, v: Tensor, picture: Size) -> Tensor:
        return _cut(v, self.before, picture)

    def crop_adjoint(self, y: Tensor, picture: Size) -> Tensor:
        H, W = self.grid(picture)
        (top, left), (h, w) = self.before, y.shape[-2:]
        return pad(y, (left, W - w - left, top, H - h - top))


BOUNDARIES: dict[str, type[Boundary]] = {
    "circular": Boundary,
    "reflect": Reflect,
    "constant": Constant,
    "valid": Valid,
}


def _cut(v: Tensor, start: Size, size: Size) -> Tensor:
    """A part of a picture as contiguous values."""
    return v[..., start[0] : start[0] + size[0], start[1] : start[1] + size[1]].contiguous()
