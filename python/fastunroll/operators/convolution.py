"""Convolutional dictionaries: pictures as sums of filters at many places."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv3d, conv_transpose2d, conv_transpose3d

from .. import _checks
from .._checks import shape_text
from ..arrays import as_tensor
from .norm import spectral_norm
from .pictures import PictureOperator, single

_CONVOLUTIONS = {2: (conv2d, conv_transpose2d), 3: (conv3d, conv_transpose3d)}


class Convolution(PictureOperator):
    """A convolutional dictionary y = Σ_c d_c ∗ x_c: pictures as sums of filters, at places that are a stride apart.

    x holds a map of coefficients for each filter. With stride s, y has s(H − 1) + h rows for coefficients of H rows and
    filters of h rows, and likewise columns. Aᴴ y is the correlation of y with each filter at every s-th place.
    :meth:`norm` is an upper bound for maps of any size, from the spectra of the filters. In single precision the last
    bits of a sample may depend on its batch, by which PyTorch chooses how it computes convolutions.

    Args:
        filters: d, (C, h, w), or (C, d, h, w) for volumes. Real, finite. A tensor that requires a gradient is used as
            it is, and gets its gradient.
        stride: s ≥ 1.
        shape: the shape of one sample of x, (C, H, W), if it is to be stated.
        learn: make the filters a parameter.

    Raises:
        TypeError: the filters are not real, or types differ.
        ValueError: the filters are not finite, or shapes do not fit.

    Example::

        D = fu.operators.Convolution(torch.randn(24, 7, 7) / 7, learn=True)
        x = D.H(picture)                               # (..., H, W) to (..., 24, H − 6, W − 6)
        net = fu.nn.Unrolled(fu.schemes.FISTA(), D, fu.prox.L1(), layers=8)   # convolutional LISTA

    Equivalent to::

        torch.nn.functional.conv_transpose2d(x, filters[:, None], stride=stride)[:, 0]

    References: Bristow, Eriksson and Lucey, *Fast convolutional sparse coding*, 2013; Sreter and Giryes, *Learned
    convolutional sparse coding*, 2018.
    """

    filters: Tensor
    channel_dims = (1, 0)

    def __init__(
        self, filters: Tensor, stride: int = 1, *, shape: tuple[int, ...] | None = None, learn: bool = False
    ) -> None:
        super().__init__()
        filters = _checks.tensor("filters", as_tensor(filters, "filters"))
        _checks.real("filters", filters)
        if filters.dim() not in (3, 4) or 0 in filters.shape:
            raise ValueError(f"filters must be (C, h, w), or (C, d, h, w), got shape {shape_text(filters.shape)}")
        self.picture_dims, self.stride = filters.dim() - 1, _checks.count("stride", stride)
        self.keep("filters", filters, learn)
        if shape is not None:
            self.shape_in = self.state(shape)
            if len(self.shape_in) != filters.dim() or self.shape_in[0] != filters.shape[0]:
                wanted = ("C", *self.axes[-self.picture_dims :])
                raise ValueError(
                    f"shape must be {shape_text(wanted)} with {filters.shape[0]} maps, got {shape_text(self.shape_in)}"
                )
            sides = zip(self.shape_in[1:], filters.shape[1:], strict=True)
            self.shape_out = tuple(self.stride * (n - 1) + h for n, h in sides)

    def forward(self, x: Tensor) -> Tensor:
        """Σ_c d_c ∗ x_c: (..., C, H, W) to (..., s(H − 1) + h, s(W − 1) + w)."""
        x = self.pictures("x", x, self.filters, channels=1)
        sample = self.picture_dims + 1
        if x.shape[-sample] != len(self.filters):
            raise ValueError(
                f"filters are {shape_text(self.filters.shape)}, so x must have {len(self.filters)} maps before the "
                f"pictures, got {shape_text(x.shape)}"
            )
        lead = x.shape[: x.dim() - sample]
        found = self._batched(1, x.reshape(-1, *x.shape[-sample:]))
        return found.reshape(*lead, *found.shape[2:])

    def adjoint(self, y: Tensor) -> Tensor:
        """The correlation with each filter at every s-th place: back to (..., C, H, W)."""
        y = self.pictures("y", y, self.filters)
        sides, widths = y.shape[-self.picture_dims :], self.filters.shape[1:]
        if any(n < h or (n - h) % self.stride for n, h in zip(sides, widths, strict=True)):
            raise ValueError(
                f"pictures must be filters {shape_text(widths)} and multiples of the stride {self.stride} more, got "
                f"{shape_text(sides)}: crop or pad them"
            )
        lead = y.shape[: y.dim() - self.picture_dims]
        found = self._batched(0, y.reshape(-1, 1, *sides))
        return found.reshape(*lead, *found.shape[1:])

    def _batched(self, which: int, x: Tensor) -> Tensor:
        """The correlation or its adjoint of a batch (B, channels, …); a complex one is two real ones."""
        convolve = _CONVOLUTIONS[self.picture_dims][which]
        parts = torch.cat([x.real, x.imag]) if x.is_complex() else x
        found = convolve(parts, single(self.filters)[:, None], stride=self.stride)
        return torch.complex(*found.chunk(2)) if x.is_complex() else found

    @torch.no_grad()
    def norm(self) -> float:
        """An upper bound of ‖A‖ for maps of any size.

        With stride s frequencies that differ by multiples of 2π/s mix. On a grid of frequencies ‖A‖² is the largest
        eigenvalue of the matrices (1/sᵈ) Σ_c d̂_c(ω + 2πi/s) conj d̂_c(ω + 2πj/s) over i and j. Its largest value between
        the points of the grid is less than 2 % above.
        """
        filters, s, dims = self.filters.detach().double(), self.stride, self.picture_dims
        sizes = [s * (-(-16 * h // s)) for h in filters.shape[1:]]
        spectra = torch.fft.fftn(filters, s=sizes, dim=tuple(range(1, dims + 1)))
        for axis in range(1, dims + 1):  # the frequencies ω + 2πi/s, i first
            at = 2 * axis - 1
            spectra = spectra.unflatten(at, (s, -1))
        mixing = [*range(1, 2 * dims, 2)]
        alone = [*range(2, 2 * dims + 1, 2)]
        M = spectra.permute(*alone, 0, *mixing).flatten(dims + 1).flatten(0, dims - 1) / s ** (dims / 2)
        slack = math.prod(math.cos(math.pi * (h - 1) / (2 * n)) for h, n in zip(filters.shape[1:], sizes, strict=True))
        return spectral_norm(M) / slack

    def extra_repr(self) -> str:
        return f"filters={shape_text(self.filters.shape)}, stride={self.stride}"
