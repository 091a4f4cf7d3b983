"""Square blocks of pictures, and their cosine transform."""

from __future__ import annotations

from torch import Tensor

from .. import _checks
from .._checks import shape_text
from .cosine import cosine_matrix
from .pictures import Orthonormal


class _OfBlocks(Orthonormal):
    """An operator on the square blocks of pictures."""

    measures_pictures = False

    def __init__(self, size: int, *, shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.size = _checks.count("size", size)
        if shape is not None:
            self.shape_in = self.state(shape)
            H, W = self._sides(self.shape_in)
            self.shape_out = (*self.shape_in[:-2], H * W // self.size**2, self.size**2)

    def _sides(self, shape: tuple[int, ...]) -> tuple[int, int]:
        H, W = shape[-2:]
        if H % self.size or W % self.size:
            raise ValueError(
                f"blocks of {self.size}×{self.size} pixels must fill the pictures, but these are "
                f"{shape_text(shape[-2:])}: crop or pad them to multiples of {self.size}"
            )
        return H, W

    def _blocks(self, x: Tensor) -> Tensor:
        """(..., H, W) to (..., rows of blocks, blocks in a row, size, size)."""
        self._sides(tuple(x.shape))
        return x.unflatten(-2, (-1, self.size)).unflatten(-1, (-1, self.size)).transpose(-3, -2)

    def _rows(self, y: Tensor) -> tuple[int, int]:
        """The numbers of rows of blocks and of blocks in a row of (..., blocks, size²)."""
        if self.shape_in is not None:
            return self.shape_in[-2] // self.size, self.shape_in[-1] // self.size
        count = int(y.shape[-2])  # torch.jit.trace makes tensors of sizes
        side = round(count**0.5)
        if side**2 != count or y.shape[-1] != self.size**2:
            raise ValueError(
                f"y must be (..., blocks, {self.size**2}) with the blocks of a square picture, or shape=(H, W) be "
                f"stated, got shape {shape_text(y.shape)}"
            )
        return side, side

    def _assemble(self, tiles: Tensor) -> Tensor:
        """The inverse of :meth:`_blocks`."""
        return tiles.transpose(-3, -2).flatten(-2).flatten(-3, -2)

    def samples(self, x: Tensor) -> Tensor:
        x = super().samples(x)
        self._sides(tuple(x.shape))
        return x

    def extra_repr(self) -> str:
        return f"size={self.size}"


class Blocks(_OfBlocks):
    """The square blocks of pictures side by side, row by row: (..., H, W) to (..., blocks, size²).

    Aᴴ puts the blocks back, AᴴA = I and ‖A‖ = 1. It is the first step of compressed sensing block by block.

    Args:
        size: the side of a block, which must divide H and W.
        shape: the shape of one sample of x, (H, W). The adjoint needs it where the picture is not square.

    Raises:
        ValueError: ``size`` < 1, it does not divide the sides of the picture, or the number of blocks is not that of a
            picture of the stated shape.

    Example::

        blocks = fu.operators.Blocks(16, shape=(256, 320))
        y = blocks(picture) @ Phi.mT                   # 64 measurements of each of 320 blocks

    Equivalent to::

        x.unflatten(-2, (-1, size)).unflatten(-1, (-1, size)).transpose(-3, -2).flatten(-4, -3).flatten(-2)

    Reference: Gan, *Block compressed sensing of natural images*, 2007.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The blocks of pictures: (..., H, W) to (..., blocks, size²)."""
        return self._blocks(self.pictures("x", x)).flatten(-4, -3).flatten(-2)

    def adjoint(self, y: Tensor) -> Tensor:
        """The pictures of blocks: (..., blocks, size²) to (..., H, W)."""
        y = self.pictures("y", y)
        return self._assemble(y.unflatten(-2, self._rows(y)).unflatten(-1, (self.size, self.size)))


class BlockDCT(_OfBlocks):
    """The orthonormal cosine transform of each square block of pictures: (..., H, W) to (..., blocks, size²).

    Aᴴ is its inverse, AᴴA = I and ‖A‖ = 1. JPEG transforms blocks of 8×8 pixels.

    Args:
        size: the side of a block, which must divide H and W.
        shape: the shape of one sample of x, (H, W). The adjoint needs it where the picture is not square.

    Raises:
        ValueError: as for :class:`Blocks`.

    Equivalent to::

        D = scipy.fft.dct(numpy.eye(size), axis=0, norm="ortho")
        fu.operators.Blocks(size)(x) @ numpy.kron(D, D).T

    Reference: Ahmed, Natarajan and Rao, *Discrete cosine transform*, 1974.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The cosine coefficients of the blocks: (..., H, W) to (..., blocks, size²)."""
        x = self.pictures("x", x)
        D = cosine_matrix(self.size, x.dtype, x.device)
        return (D @ self._blocks(x) @ D.mT).flatten(-4, -3).flatten(-2)

    def adjoint(self, y: Tensor) -> Tensor:
        """The pictures of the cosine coefficients of their blocks: (..., blocks, size²) to (..., H, W)."""
        y = self.pictures("y", y)
        D = cosine_matrix(self.size, y.dtype, y.device)
        return self._assemble(D.mT @ y.unflatten(-2, self._rows(y)).unflatten(-1, (self.size, self.size)) @ D)
