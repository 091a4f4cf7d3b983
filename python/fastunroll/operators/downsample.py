"""Pictures of lower resolution: what super-resolution inverts."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from .._checks import shape_text
from .._precision import own_precision
from ..ops.spectral import fourier_diagonal
from .blur import Blur
from .pictures import PictureOperator, with_axes_of
from .solve import rho_beside
from .spectra import spectrum, squared_modulus


class Downsample(PictureOperator):
    """Every f-th pixel of a blurred picture in each direction, y = S(k ∗ x): the model of super-resolution.

    Aᴴ y puts zeros between the pixels of y, and applies the adjoint of the blur. For circular blurs A Aᴴ is a circular
    blur of small pictures, whose spectrum is the mean of |k̂|² over the f² frequencies that fall on each other: it gives
    ‖A‖ for a stated ``shape``, and :meth:`solve` in closed form. Else ‖A‖ ≤ ‖blur‖.

    Args:
        factor: f ≥ 1, which divides the sides of the blurred pictures.
        kernel: k, as :class:`Blur` takes it; the mean of f×f pixels by default.
        boundary: ``"circular"``, ``"reflect"``, ``"constant"`` or ``"valid"``, as :class:`Blur` takes it.
        shape: the shape of one sample of x, if it is to be stated.
        learn: make the kernel a parameter.

    Raises:
        TypeError: the kernel is not floating point, or complex where x is real.
        ValueError: f does not divide the sides of the blurred pictures, or what :class:`Blur` refuses.

    Example::

        A = fu.operators.Downsample(2, kernel)
        y = A(x)                                       # (..., H, W) to (..., H/2, W/2)

    Equivalent to::

        scipy.ndimage.convolve(x, kernel, mode="wrap")[::factor, ::factor]

    Reference: Zhao, Wei, Basarab, Dobigeon, Kouamé and Tourneret, *Fast single image super-resolution using a new
    analytical solution for ℓ2–ℓ2 problems*, 2016.
    """

    def __init__(
        self,
        factor: int,
        kernel: Tensor | None = None,
        boundary: str = "circular",
        *,
        shape: tuple[int, ...] | None = None,
        learn: bool = False,
    ) -> None:
        super().__init__()
        self.factor = _checks.count("factor", factor)
        kernel = torch.full((self.factor, self.factor), 1 / self.factor**2) if kernel is None else kernel
        self.blur = Blur(kernel, boundary, shape=shape, learn=learn)
        if self.blur.shape_in is not None and self.blur.shape_out is not None:
            self.shape_in = self.blur.shape_in
            self._require_sides(self.blur.shape_out)
            small = (n // self.factor for n in self.blur.shape_out[-2:])
            self.shape_out = (*self.shape_in[:-2], *small)

    @property
    def dims_in(self) -> int | None:
        return self.blur.dims_in

    @property
    def dims_out(self) -> int | None:
        return self.blur.dims_out

    @property
    def solves(self) -> bool:
        return self.blur.collapsed

    def _require_sides(self, shape: tuple[int, ...]) -> None:
        if shape[-2] % self.factor or shape[-1] % self.factor:
            raise ValueError(
                f"the factor must divide the sides of the blurred pictures, but it is {self.factor} and they are "
                f"{shape_text(shape[-2:])}: crop or pad the pictures"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Every f-th pixel of k ∗ x: (..., H, W) to (..., H/f, W/f)."""
        blurred = self.blur(x)
        self._require_sides(tuple(blurred.shape))
        return blurred[..., :: self.factor, :: self.factor].contiguous()

    def adjoint(self, y: Tensor) -> Tensor:
        """The adjoint of the blur, of y with zeros between its pixels: back to (..., H, W)."""
        y = self.pictures("y", y, self.blur.kernel)
        spread = y.new_zeros(*y.shape[:-2], self.factor * y.shape[-2], self.factor * y.shape[-1])
        spread[..., :: self.factor, :: self.factor] = y
        return self.blur.adjoint(spread)

    def _folded(self, kernel: Tensor, shape: tuple[int, int], half: bool) -> Tensor:
        """The spectrum of A Aᴴ: the mean of |k̂|² over the frequencies that fall on each other."""
        f = self.factor
        power = squared_modulus(spectrum(kernel, shape, False))
        folded = power.unflatten(-2, (f, -1)).unflatten(-1, (f, -1)).mean((-4, -2))
        return folded[..., : folded.shape[-1] // 2 + 1] if half else folded

    @torch.no_grad()
    def norm(self) -> float:
        """The root of the largest value of the spectrum of A Aᴴ where it is known, else the norm of the blur."""
        if self.shape_in is None or not self.blur.collapsed:
            return self.blur.norm()
        kernel = self.blur.kernel.detach()
        wide = kernel.to(torch.complex128 if kernel.is_complex() else torch.float64)
        return float(self._folded(wide, (self.shape_in[-2], self.shape_in[-1]), False).max().sqrt())

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(AᴴA + ρI)⁻¹ b = (b − Aᴴ(A Aᴴ + ρI)⁻¹A b)/ρ for circular blurs, else by conjugate gradients."""
        if not self.blur.collapsed:
            return super().solve(b, rho)
        with own_precision(b):
            b = self.blur.samples(b)
            rho = rho_beside(rho, b)
            self._require_sides(tuple(b.shape))
            h = self._folded(self.blur.kernel, (b.shape[-2], b.shape[-1]), not b.is_complex())
            small = self(b)
            return (b - self.adjoint(fourier_diagonal(small, with_axes_of(1 / (h + rho.to(h.dtype)), small)))) / rho

    def extra_repr(self) -> str:
        return f"factor={self.factor}"
