"""Blurs: the convolution of pictures and volumes with a kernel, with four boundary conditions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from .. import _checks
from .._checks import shape_text
from ..arrays import as_tensor
from ..norms import squared_modulus
from ..ops import is_fft_length
from ..ops.spectral import fourier_diagonal
from .boundary import BOUNDARIES, Boundary, require_size
from .diagonal import FourierDiagonal
from .direct import directly, filtered
from .pictures import NormalParts, dims_of, require_fit, single, with_axes_of
from .spectra import axes_of, kept, largest_modulus, spectrum


class Blur(FourierDiagonal):
    """A blur y = k ∗ x: the convolution of pictures, or of volumes, with a kernel.

    y[i] = Σ_a k[a] x[i − a + c] in each direction, with the centre c = (h//2, w//2) of a kernel (h, w), also where h or
    w is even, as in SciPy. Beyond its border a picture is continued as ``boundary`` says:

    - ``"circular"``: periodically (``mode="wrap"`` of ``scipy.ndimage.convolve``). Then A = F⁻¹ diag(k̂) F, and
      :meth:`gradient`, :meth:`normal` and :meth:`solve` each cost one Fourier transform and its inverse.
    - ``"reflect"``: by reflection at the edge of the last pixel (SciPy's ``mode="reflect"``).
    - ``"constant"``: by zeros (SciPy's ``mode="constant"``).
    - ``"valid"``: not at all. y has the (H − h + 1, W − w + 1) pixels that need none beyond the border.

    Fourier transforms compute all of them. Aᴴ y is the correlation with the conjugate kernel, followed by the adjoint
    of the continuation. ‖A‖ = max|k̂| for circular blurs of a stated ``shape``. In all other cases :meth:`norm` is an
    upper bound that does not depend on the picture: Σ|k| for kernels ≥ 0, which circular blurs attain.

    Args:
        kernel: k, (h, w), or one a channel or one a sample, (..., h, w), whose leading dimensions broadcast with those
            of x: (B, h, w) for x (B, H, W), (B, 1, h, w) for x (B, C, H, W). Of volumes (d, h, w) or (..., d, h, w),
            with the centre (d//2, h//2, w//2). Real or complex, finite. A tensor that requires a gradient is used as it
            is, and gets its gradient.
        boundary: ``"circular"``, ``"reflect"``, ``"constant"`` or ``"valid"``.
        dims: 2 for pictures (..., H, W), or 3 for volumes (..., D, H, W), which run by ``torch.fft``.
        shape: the shape of one sample of x, such as (H, W), if it is to be stated.
        learn: make the kernel a parameter.

    Raises:
        TypeError: the kernel is not floating point, or complex where x is real.
        ValueError: the kernel is not finite or larger than the picture, ``boundary`` is unknown, ``dims`` is neither 2
            nor 3, or shapes do not fit.

    Example::

        blur = fu.operators.Blur(kernel)
        y = blur(x)                                    # (..., H, W)
        x = fu.solvers.fista(blur, y, 0.01, prox=fu.prox.TotalVariation())

    Equivalent to::

        torch.from_numpy(scipy.ndimage.convolve(x.numpy(), kernel.numpy(), mode="wrap"))
    """

    kernel: Tensor
    made_of = "kernel"

    def __init__(
        self, kernel: Tensor, boundary: str = "circular", *, dims: int = 2, shape: tuple[int, ...] | None = None,
        learn: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.picture_dims = dims_of(dims)
        kernel = _checks.tensor("kernel", as_tensor(kernel, "kernel"))
        if kernel.dim() < dims or 0 in kernel.shape:
            sides = ", ".join("dhw"[-dims:])
            raise ValueError(
                f"kernel must be ({sides}), or (..., {sides}), with {sides} ≥ 1, got {shape_text(kernel.shape)}"
            )
        _checks.choice("boundary", boundary, BOUNDARIES)
        self.keep("kernel", kernel, learn)
        self.boundary = boundary
        if shape is not None:
            self.shape_in = self.state(shape)
            channels, picture = self.shape_in[:-dims], self.shape_in[-dims:]
            self.shape_out = (*channels, *self._boundary(picture).measured)

    @property
    def own_batch(self) -> tuple[int, ...]:
        return self._own_batch(self.kernel.shape[: -self.picture_dims])

    @property
    def collapsed(self) -> bool:  # type: ignore[override]
        """Whether the boundary is circular."""
        return self.boundary == "circular"

    @property
    def solves(self) -> bool:
        return self.collapsed

    @property
    def _sides(self) -> tuple[int, ...]:
        return self.kernel.shape[-self.picture_dims :]

    def _boundary(self, picture: tuple[int, ...]) -> Boundary:
        """The boundary of pictures (H, W), which must be at least as large as the kernel."""
        require_size(self._sides, picture)
        return BOUNDARIES[self.boundary](self._sides, picture)

    def _picture(self, measured: tuple[int, ...]) -> tuple[int, ...]:
        """The size of x for a y of a size."""
        return BOUNDARIES[self.boundary].picture(self._sides, measured)

    def samples(self, x: Tensor) -> Tensor:
        x = self._of_kernel("x", x)
        require_size(self._sides, tuple(x.shape[-self.picture_dims :]))
        return x

    def _of_kernel(self, name: str, x: Tensor) -> Tensor:
        """Pictures that fit the type of the kernel and its samples."""
        kernel = single(self.kernel)
        x = self.pictures(name, x, kernel)
        if kernel.dim() > (dims := self.picture_dims):
            require_fit(
                "kernel", kernel, name, x, (*kernel.shape[:-dims], *self.axes[-dims:]),
                "give dims=3 for volumes, or one kernel for each sample" if dims == 2 else None,
            )  # fmt: skip
        if kernel.is_complex() and not x.is_complex():
            raise TypeError(f"a complex kernel takes complex pictures, got {name} of {x.dtype}: use {name}.cfloat()")
        return x

    def _spectrum(self, x: Tensor, grid: tuple[int, ...], kind: str = "spectrum") -> Tensor:
        """k̂ on the grid, for pictures like x."""
        half = not x.is_complex()
        return kept(kind, self.kernel, grid, half, partial(spectrum, single(self.kernel), grid, half))

    def power(self, x: Tensor) -> Tensor:
        """|k̂|² for circular blurs of pictures like x."""
        grid, half = x.shape[-self.picture_dims :], not x.is_complex()
        return kept(
            "power", self.kernel, grid, half, lambda: squared_modulus(spectrum(single(self.kernel), grid, half))
        )

    def _own_spectrum(self, x: Tensor) -> Tensor:
        return self._spectrum(x, x.shape[-self.picture_dims :], "own spectrum")  # beside that of a larger grid

    def _directly(self, x: Tensor, adjoint: bool = False) -> Tensor | None:
        """The product for circular blurs."""
        if self.boundary != "circular":
            return None
        return filtered(self, "kernel", ("spectrum",), self._own_spectrum, x, adjoint=adjoint)

    @directly(_directly)
    def forward(self, x: Tensor) -> Tensor:
        """The blurred pictures k ∗ x: (..., H, W) to (..., H, W), or (..., H − h + 1, W − w + 1) where valid."""
        dims = self.picture_dims
        if self.collapsed:
            x = self.samples(x)
            return fourier_diagonal(x, self._with_axes_of(self._own_spectrum(x), x), dims=dims)
        x = self._of_kernel("x", x)
        boundary = self._boundary(tuple(x.shape[-dims:]))
        d = self._with_axes_of(self._spectrum(x, boundary.grid), x)
        return boundary.crop(fourier_diagonal(boundary.extend(x), d, dims=dims))

    @directly(lambda A, y: A._directly(y, adjoint=True))
    def adjoint(self, y: Tensor) -> Tensor:
        """The correlation with k, followed by the adjoint of the continuation: back to (..., H, W)."""
        y = self._of_kernel("y", y)
        dims = self.picture_dims
        picture = self._picture(tuple(y.shape[-dims:]))
        if self.collapsed:
            require_size(self._sides, picture)
            return fourier_diagonal(y, self._with_axes_of(self._own_spectrum(y), y), True, dims)
        boundary = self._boundary(picture)
        d = self._with_axes_of(self._spectrum(y, boundary.grid), y)
        return boundary.extend_adjoint(fourier_diagonal(boundary.crop_adjoint(y), d, True, dims))

    def normal_parts(self, x: Tensor) -> NormalParts:
        """AᴴA for pictures like x, as compiled layers take it: diagonal where kernels transform their sides."""
        is_diagonal = self.collapsed and all(map(is_fft_length, x.shape[-2:]))
        return super().normal_parts(x) if is_diagonal else self.sampled_parts(x, 1)

    def sampled_parts(self, x: Tensor, factor: int) -> NormalParts:
        """The same of every ``factor``-th pixel of y."""
        boundary = self._boundary(tuple(x.shape[-2:]))
        d, periodic = with_axes_of(self._spectrum(x, boundary.grid), x), boundary.periodic
        return NormalParts("downsample", d, None, factor, boundary.margins, boundary.around, boundary.copied, periodic)

    def grid(self, measured: tuple[int, ...]) -> tuple[int, ...]:
        """The size of the Fourier transforms for a y of a size."""
        return BOUNDARIES[self.boundary](self._sides, self._picture(measured)).grid

    def adjoint_solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """The same for circular blurs, else by conjugate gradients."""
        return self.solve(b, rho) if self.collapsed else super().adjoint_solve(b, rho)

    @torch.no_grad()
    def norm(self) -> float:
        """max|k̂| for circular blurs of a stated shape, else an upper bound: Σ|k| for kernels ≥ 0.

        The blur of a reflected picture by a symmetric kernel is symmetric again, so that cosine transforms diagonalise
        A. By other kernels ‖A‖² is at most the largest sum of a row of |A| times the largest sum of a column.
        """
        kernel, dims, axes = single(self.kernel.detach()), self.picture_dims, axes_of(self.picture_dims)
        if self.collapsed and self.shape_in is not None:
            wide = kernel.to(torch.complex128 if kernel.is_complex() else torch.float64)
            return float(spectrum(wide, self.shape_in[-dims:], False).abs().max())
        if self.boundary != "reflect" or _is_symmetric(kernel, axes):
            return float(largest_modulus(kernel, dims).max())
        modulus = kernel.abs().double()
        pictures = modulus.new_ones(*modulus.shape[:-dims], *[2 * n for n in modulus.shape[-dims:]])
        columns = Blur(modulus, "reflect", dims=dims).adjoint(pictures)
        return float((columns.amax(axes) * modulus.sum(axes)).max().sqrt())

    def extra_repr(self) -> str:
        return f"kernel={shape_text(self.kernel.shape)}, boundary={self.boundary!r}{self._dims_text()}"


def _is_symmetric(kernel: Tensor, axes: Sequence[int]) -> bool:
    """Whether kernels are symmetric about their centre in each direction."""
    return all(kernel.shape[axis] % 2 == 1 and torch.equal(kernel, kernel.flip(axis)) for axis in axes)
