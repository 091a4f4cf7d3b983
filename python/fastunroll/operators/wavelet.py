"""Orthonormal wavelet transforms of pictures and volumes."""

from __future__ import annotations

from torch import Tensor

from .. import _checks, ops
from .._checks import shape_text
from ..reference_wavelets import coefficients, from_coefficients
from .pictures import Orthonormal, dims_of
from .wavelet_filters import SCALING_FILTERS


class Wavelet(Orthonormal):
    """The orthonormal wavelet transform of pictures on L levels, with periodic boundaries: W x.

    The coefficients have the shape of the picture, in Mallat's layout: the approximation of the last level comes first
    in each direction, and the details of each level surround it. Aᴴ is the inverse transform, AᴴA = I and ‖A‖ = 1.
    Coefficients equal those of PyWavelets. Pictures on the CPU are one native call, forward and backward. Volumes,
    pictures on other devices, and calls that PyTorch compiles, traces or transforms are convolutions of PyTorch.

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
        self.name, self.levels, self.picture_dims = name, _checks.count("levels", levels), dims_of(dims)
        if shape is not None:
            self.shape_in = self.shape_out = self.state(shape)
            self._require_sides(self.shape_in)

    @property
    def low_pass(self) -> tuple[float, ...]:
        """The filter of the approximation; that of the details is its mirror image with alternating signs."""
        return SCALING_FILTERS[self.name]

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
        x = self._checked("x", x)
        if self.picture_dims == 2:
            return ops.wavelet_transform(x, self.low_pass, self.levels)
        return coefficients(x, self.low_pass, self.levels, self.picture_dims)

    def adjoint(self, y: Tensor) -> Tensor:
        """The pictures of wavelet coefficients: (..., H, W)."""
        y = self._checked("y", y)
        if self.picture_dims == 2:
            return ops.wavelet_transform(y, self.low_pass, self.levels, adjoint=True)
        return from_coefficients(y, self.low_pass, self.levels, self.picture_dims)

    def _checked(self, name: str, x: Tensor) -> Tensor:
        x = self.pictures(name, x)
        self._require_sides(tuple(x.shape))
        return x

    def extra_repr(self) -> str:
        return f"{self.name!r}, levels={self.levels}, dims={self.picture_dims}"
