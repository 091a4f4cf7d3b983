"""Pictures and volumes of lower resolution: what super-resolution inverts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _checks
from .._checks import shape_text
from .._precision import own_precision
from ..norms import squared_modulus
from ..ops.spectral import fourier_diagonal
from .blur import Blur
from .pictures import NormalParts, PictureOperator, dims_of, single, with_axes_of
from .solve import rho_beside
from .spectra import axes_of, spectrum


class Downsample(PictureOperator):
    """Every f-th pixel of a blurred picture in each direction, y = S(k ∗ x): the model of super-resolution.

    Aᴴ y puts zeros between the pixels of y, and applies the adjoint of the blur. For circular blurs A Aᴴ is a circular
    blur of small pictures, whose spectrum is the mean of |k̂|² over the f² frequencies that fall on each other, or f³ of
    volumes: it gives ‖A‖ for a stated ``shape``, and :meth:`solve` in closed form. Else ‖A‖ ≤ ‖blur‖.

    Args:
        factor: f ≥ 1, which divides the sides of the blurred pictures.
        kernel: k, as :class:`Blur` takes it; by default y is the mean of each f×f pixels, as
            ``torch.nn.functional.avg_pool2d(x, factor)`` returns it, or of each f×f×f voxels.
        boundary: ``"circular"``, ``"reflect"``, ``"constant"`` or ``"valid"``, as :class:`Blur` takes it.
        dims: 2 for pictures (..., H, W), or 3 for volumes (..., D, H, W), which run by ``torch.fft``.
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
        dims: int = 2,
        shape: tuple[int, ...] | None = None,
        learn: bool = False,
    ) -> None:
        super().__init__()
        self.factor = _checks.count("factor", factor)
        self.picture_dims = dims = dims_of(dims)
        kernel = _mean(self.factor, dims) if kernel is None else kernel
        self.blur = Blur(kernel, boundary, dims=dims, shape=shape, learn=learn)
        if self.blur.shape_in is not None and self.blur.shape_out is not None:
            self.shape_in = self.state(shape)
            self._require_sides(self.blur.shape_out)
            small = (n // self.factor for n in self.blur.shape_out[-dims:])
            self.shape_out = (*self.shape_in[:-dims], *small)

    @property
    def own_batch(self) -> tuple[int, ...]:
        return self.blur.own_batch

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
        sides = shape[-self.picture_dims :]
        if any(n % self.factor for n in sides):
            raise ValueError(
                f"the factor must divide the sides of the blurred pictures, but it is {self.factor} and they are "
                f"{shape_text(sides)}: crop or pad the pictures"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Every f-th pixel of k ∗ x: (..., H, W) to (..., H/f, W/f)."""
        blurred = self.blur(x)
        self._require_sides(tuple(blurred.shape))
        return self._sampled(blurred)

    @property
    def _measured(self) -> tuple[Any, ...]:
        """The index of every f-th pixel."""
        return ..., *[slice(None, None, self.factor)] * self.picture_dims

    def _sampled(self, x: Tensor) -> Tensor:
        """Every f-th pixel."""
        return x[self._measured].contiguous()

    def _before(self, y: Tensor) -> tuple[int, ...]:
        """The size of the pictures of which y has every f-th pixel."""
        return tuple([self.factor * n for n in y.shape[-self.picture_dims :]])

    def _spread(self, y: Tensor) -> Tensor:
        """The adjoint: zeros between the pixels."""
        spread = y.new_zeros(*y.shape[: -self.picture_dims], *self._before(y))
        spread[self._measured] = y
        return spread

    def adjoint(self, y: Tensor) -> Tensor:
        """The adjoint of the blur, of y with zeros between its pixels: back to (..., H, W)."""
        return self.blur.adjoint(self._spread(self.pictures("y", y, self.blur.kernel)))

    def normal_parts(self, x: Tensor) -> NormalParts:
        """AᴴA for pictures like x, as compiled layers take it."""
        return self.blur.sampled_parts(x, self.factor)

    def _folded(self, kernel: Tensor, shape: Sequence[int], half: bool) -> Tensor:
        """The spectrum of A Aᴴ: the mean of |k̂|² over the frequencies that fall on each other."""
        dims, power = self.picture_dims, squared_modulus(spectrum(kernel, shape, False))
        for axis in axes_of(dims):
            power = power.unflatten(axis, (self.factor, -1))
        folded = power.mean(tuple(range(-2 * dims, 0, 2)))
        return folded[..., : folded.shape[-1] // 2 + 1] if half else folded

    @torch.no_grad()
    def norm(self) -> float:
        """The root of the largest value of the spectrum of A Aᴴ where it is known, else the norm of the blur."""
        if self.shape_in is None or not self.blur.collapsed:
            return self.blur.norm()
        kernel = self.blur.kernel.detach()
        shape = self.shape_in[-self.picture_dims :]
        return float(self._folded(kernel.to(_double(kernel)), shape, False).max().sqrt())

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(AᴴA + ρI)⁻¹ b = (b − Aᴴ(A Aᴴ + ρI)⁻¹A b)/ρ for circular blurs, else by conjugate gradients.

        It is computed in double precision, as the difference loses digits for small ρ.
        """
        if not self.blur.collapsed:
            return super().solve(b, rho)
        with own_precision(b):
            b = self.blur.samples(b)
            self._require_sides(tuple(b.shape))
            return self._solve(b.to(_double(b)), rho_beside(rho, b).double()).to(b.dtype)

    def adjoint_solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(A Aᴴ + ρI)⁻¹ b, a circular blur of small pictures, for circular blurs, else by conjugate gradients."""
        if not self.blur.collapsed:
            return super().adjoint_solve(b, rho)
        kernel = single(self.blur.kernel)
        with own_precision(b):
            b = self.pictures("y", b, kernel)
            h = self._folded(kernel, self._before(b), not b.is_complex())
            return self._filtered(b, 1 / (h + rho_beside(rho, b)))

    def _filtered(self, x: Tensor, d: Tensor) -> Tensor:
        """F⁻¹ diag(d) F x."""
        return fourier_diagonal(x, with_axes_of(d, x, self.picture_dims), dims=self.picture_dims)

    def _solve(self, b: Tensor, rho: Tensor) -> Tensor:
        kernel, shape, half = self.blur.kernel, b.shape[-self.picture_dims :], not b.is_complex()
        kernel = kernel.to(_double(kernel))
        d = spectrum(kernel, shape, half)
        small = self._sampled(self._filtered(b, d))
        h = self._folded(kernel, shape, half)
        small = self._filtered(small, 1 / (h + rho))
        return (b - self._filtered(self._spread(small), d.conj())) / rho

    def extra_repr(self) -> str:
        return f"factor={self.factor}{self._dims_text()}"


def _mean(f: int, dims: int) -> Tensor:
    """The mean of a pixel and the f − 1 pixels that follow in each direction, as zeros move the centre to f − 1."""
    kernel = torch.full((f,) * dims, 1 / f**dims)
    return torch.nn.functional.pad(kernel, (0, max(0, f - 2)) * dims)


def _double(t: Tensor) -> torch.dtype:
    return torch.complex128 if t.is_complex() else torch.float64
