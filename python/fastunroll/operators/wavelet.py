"""Orthonormal wavelet transforms of pictures and volumes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from .. import _checks
from .._checks import shape_text
from .pictures import Orthonormal, on_real_and_imaginary
from .wavelet_filters import SCALING_FILTERS


class Wavelet(Orthonormal):
    """The orthonormal wavelet transform of pictures on L levels, with periodic boundaries: W x.

    The coefficients have the shape of the picture, in Mallat's layout: the approximation of the last level comes first
    in each direction, and the details of each level surround it. Aᴴ is the inverse transform, AᴴA = I and ‖A‖ = 1.
    Coefficients equal those of PyWavelets. In single precision the last bits of a picture may depend on its batch, by
    which PyTorch chooses how it computes convolutions.

    Args:
        name: of an orthogonal wavelet: "haar", "db1" to "db10", "sym2" to "sym10", or "coif1" to "coif5".
        levels: L ≥ 1. The sides of pictures must be multiples of 2ᴸ.
        dims: 2 for pictures (..., H, W), or 3 for volumes (..., D, H, W).
        shape: the shape of one sample of x, if it is to be stated.

    Raises:
        ValueError: the name is unknown, L < 1, or a side is no multiple of 2ᴸ.

    Example::

        W = fu.operators.Wavelet("db4", levels=3)
        A = blur @ W.H                                 # from wavelet coefficients to the blurred picture
        picture = W.adjoint(fu.solvers.fista(A, y, 0.01))

    Equivalent to::

        pywt.coeffs_to_array(pywt.wavedec2(x, name, "periodization", levels))[0]

    References: Mallat, *A theory for multiresolution signal decomposition: the wavelet representation*, 1989;
    Daubechies, *Ten lectures on wavelets*, 1992.
    """

    def __init__(self, name: str, levels: int = 1, dims: int = 2, *, shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        if not isinstance(name, str) or name not in SCALING_FILTERS:
            raise ValueError(
                f"name must be that of an orthogonal wavelet, haar, db1 to db10, sym2 to sym10 or coif1 to coif5, got "
                f"{_checks.shown(name)}"
            )
        if dims not in (2, 3):
            raise ValueError(f"dims must be 2 for pictures or 3 for volumes, got {_checks.shown(dims)}")
        self.name, self.levels, self.picture_dims = name, _checks.count("levels", levels), dims
        if shape is not None:
            self.shape_in = self.shape_out = self.state(shape)
            self._require_sides(self.shape_in)

    def _require_sides(self, shape: tuple[int, ...]) -> None:
        sides = shape[-self.picture_dims :]
        if any(n % 2**self.levels for n in sides):
            raise ValueError(
                f"the sides of pictures must be multiples of {2**self.levels} for {self.levels} levels, got "
                f"{shape_text(sides)}: crop or pad them, or use fewer levels"
            )

    def samples(self, x: Tensor) -> Tensor:
        x = super().samples(x)
        self._require_sides(tuple(x.shape))
        return x

    def forward(self, x: Tensor) -> Tensor:
        """The wavelet coefficients of pictures: (..., H, W)."""
        return self._levels("x", x, self._analyse)

    def adjoint(self, y: Tensor) -> Tensor:
        """The pictures of wavelet coefficients: (..., H, W)."""
        return self._levels("y", y, self._synthesise)

    def _levels(self, name: str, x: Tensor, transform: Callable[[Tensor, Tensor, int], Tensor]) -> Tensor:
        x = self.pictures(name, x)
        self._require_sides(tuple(x.shape))
        if x.numel() == 0:
            return x * 1
        bank = filter_bank(self.name, x)
        return on_real_and_imaginary(lambda x: transform(x, bank, self.levels), x)

    def _analyse(self, x: Tensor, bank: Tensor, levels: int) -> Tensor:
        """One level on the whole picture, then the other levels on its approximation."""
        c = analyse(x, bank, self.picture_dims)
        return c if levels == 1 else with_corner(c, self._analyse(self._corner(c), bank, levels - 1))

    def _synthesise(self, c: Tensor, bank: Tensor, levels: int) -> Tensor:
        """The inverse: the other levels make the approximation, and one level makes the whole picture of it."""
        if levels > 1:
            c = with_corner(c, self._synthesise(self._corner(c), bank, levels - 1))
        return synthesise(c, bank, self.picture_dims)

    def _corner(self, c: Tensor) -> Tensor:
        """The approximation: the first half along each axis."""
        for axis in range(-self.picture_dims, 0):
            c = c.narrow(axis, 0, c.shape[axis] // 2)
        return c

    def extra_repr(self) -> str:
        return f"{self.name!r}, levels={self.levels}, dims={self.picture_dims}"


def filter_bank(name: str, like: Tensor) -> Tensor:
    """The low-pass and the high-pass filter (2, F) of a wavelet, of the precision of ``like``."""
    low = torch.tensor(SCALING_FILTERS[name], dtype=like.dtype.to_real(), device=like.device)
    signs = torch.ones_like(low)
    signs[1::2] = -1
    return torch.stack([low, signs * low.flip(0)])


def with_corner(c: Tensor, corner: Tensor) -> Tensor:
    """``c`` with ``corner`` in the place of its first entries along each axis. Both tensors stay as they are."""
    sides = corner.shape
    for axis in range(-1, -c.dim() - 1, -1):
        if sides[axis] != c.shape[axis]:
            rest = c[tuple(slice(n) for n in sides[:axis])].narrow(axis, sides[axis], c.shape[axis] - sides[axis])
            corner = torch.cat([corner, rest], axis)
    return corner


def analyse(x: Tensor, bank: Tensor, dims: int) -> Tensor:
    """One level: along each axis the low-pass half, then the high-pass half."""
    for axis in range(-dims, 0):
        x = _analyse(x, bank, axis)
    return x


def synthesise(c: Tensor, bank: Tensor, dims: int) -> Tensor:
    """The adjoint of :func:`analyse`, which is its inverse."""
    for axis in range(-dims, 0):
        c = _synthesise(c, bank, axis)
    return c


def _analyse(x: Tensor, bank: Tensor, axis: int) -> Tensor:
    """Low[o] = Σ_j low_j x[2o + j + 1 − F/2], periodically, and the same of the high-pass filter."""
    source = _periodic(x.shape[axis], bank)
    inner = x.shape[axis:].numel() // x.shape[axis]
    padded = x.index_select(axis, source).reshape(-1, 1, len(source), inner)
    return conv2d(padded, bank[:, None, :, None], stride=(2, 1)).reshape(x.shape)


def _synthesise(c: Tensor, bank: Tensor, axis: int) -> Tensor:
    source = _periodic(c.shape[axis], bank)
    inner = c.shape[axis:].numel() // c.shape[axis]
    halves = c.reshape(-1, 2, c.shape[axis] // 2, inner)
    padded = conv_transpose2d(halves, bank[:, None, :, None], stride=(2, 1))
    padded = padded.reshape(*c.shape[: c.dim() + axis], len(source), *c.shape[c.dim() + axis + 1 :])
    return torch.zeros_like(c).index_add(axis, source, padded)


def _periodic(n: int, bank: Tensor) -> Tensor:
    """The entry of a periodic signal of length n behind each one that the filters meet."""
    width = bank.shape[1]
    return (torch.arange(n + width - 2, device=bank.device) + 1 - width // 2) % n
