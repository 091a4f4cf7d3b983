"""Magnetic resonance imaging with several coils."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from .._checks import shape_text
from .._precision import own_precision
from ..arrays import as_tensor
from ..norms import squared_modulus
from ..ops.spectral import coil_normal
from .direct import by_coils, directly, filtered, held, of_coils, some_after_others
from .fourier import as_mask, mask_power
from .pictures import NormalParts, PictureOperator, dims_of, require_fit, samples_of, single, with_axes_of
from .spectra import fourier, inverse_fourier, kept


class MultiCoilFourier(PictureOperator):
    """Samples of the Fourier transform as several coils see them, y_c = m · F(S_c x): parallel imaging.

    S are the sensitivity maps of C coils. Aᴴ y = Σ_c conj(S_c) Fᴴ(m · y_c) and AᴴA x = Σ_c conj(S_c) Fᴴ(m² · F(S_c x)),
    where the shifts of centred transforms cancel. ‖A‖² ≤ max m² · max Σ_c|S_c|², which :meth:`norm` returns: maps need
    not be normalised. :meth:`solve` is by conjugate gradients.

    Args:
        mask: m, as :class:`Fourier` takes it: (H, W); columns (W,); or one a sample, (B, H, W) or (B, 1, W); of volumes
            (D, H, W) or what broadcasts with it.
        maps: S, (C, H, W), or one set a sample, (B, C, H, W); of volumes (C, D, H, W) or (B, C, D, H, W). Complex or
            real, finite. Tensors that require a gradient are used as they are, and get their gradients.
        centered: whether the frequency zero and the origin of pictures are in the middle, as :class:`Fourier` has it.
        dims: 2 for pictures (..., H, W), or 3 for volumes (..., D, H, W), which run by ``torch.fft``.
        learn_mask: make the mask a parameter.
        learn_maps: make the maps a parameter.

    Raises:
        TypeError: the mask is complex, or types differ.
        ValueError: the mask or the maps are not finite, their shapes do not fit each other or that of x, or ``dims`` is
            neither 2 nor 3.

    Example::

        scan = fu.operators.MultiCoilFourier(mask, maps)
        y = scan(x)                                    # (..., H, W) to (..., C, H, W), complex
        x = fu.solvers.fista(scan, y, 0.001, prox=fu.prox.TotalVariation())

    Equivalent to::

        mask * fftshift(fft2(ifftshift(maps * x[..., None, :, :], dim=(-2, -1)), norm="ortho"), dim=(-2, -1))

    Reference: Pruessmann, Weiger, Scheidegger and Boesiger, *SENSE: sensitivity encoding for fast MRI*, 1999.
    """

    mask: Tensor
    maps: Tensor
    collapsed = True
    takes_complex = True
    channel_dims = (0, 1)

    def __init__(
        self,
        mask: Tensor,
        maps: Tensor,
        centered: bool = True,
        *,
        dims: int = 2,
        learn_mask: bool = False,
        learn_maps: bool = False,
    ) -> None:
        super().__init__()
        self.picture_dims = dims = dims_of(dims)
        mask, maps = single(as_mask(mask)), single(_checks.tensor("maps", as_tensor(maps, "maps")))
        if maps.dim() <= dims or 0 in maps.shape:
            sides = ", ".join(self.axes[-dims:])
            raise ValueError(f"maps must be (C, {sides}), or (B, C, {sides}), got shape {shape_text(maps.shape)}")
        if mask.dtype != maps.dtype.to_real():
            raise TypeError(
                f"mask and maps must have one precision, but the mask is {mask.dtype} and the maps are {maps.dtype}: "
                "convert one with .to()"
            )
        require_fit("mask", mask, "maps", maps, mask.shape[-dims:])
        self.keep("mask", mask, learn_mask)
        self.keep("maps", maps.to(maps.dtype.to_complex()), learn_maps)
        self.centered = _checks.flag("centered", centered)
        if self.is_shared:
            self.shape_in, self.shape_out = tuple(maps.shape[-dims:]), tuple(maps.shape)

    @property
    def own_batch(self) -> tuple[int, ...]:
        dims = self.picture_dims
        return self._own_batch(self.mask.shape[:-dims], self.maps.shape[: -dims - 1])

    @property
    def mask_of_coils(self) -> Tensor:
        """The mask as it broadcasts with samples (..., C, H, W)."""
        return self.mask if self.mask.dim() <= self.picture_dims else self.mask.unsqueeze(-self.picture_dims - 1)

    def samples(self, x: Tensor) -> Tensor:
        """``x`` as the operator takes it."""
        x = self.pictures("x", x, self.mask)
        require_fit("mask", self.mask, "x", x, self.mask.shape)
        shape, dims = self.maps.shape, self.picture_dims
        require_fit("maps", self.maps, "x", x, (*shape[: -dims - 1], *shape[-dims:]))
        return x if x.is_complex() else x.to(x.dtype.to_complex())

    def _power(self, x: Tensor) -> Tensor:
        shape, centered = x.shape[-self.picture_dims :], self.centered
        h = kept(
            ("mask", centered), self.mask, shape, False, lambda: mask_power(single(self.mask), shape, centered, False)
        )
        return with_axes_of(h, x, self.picture_dims)

    def _held(self) -> tuple[Tensor, Tensor]:
        return held(self, "mask"), held(self, "maps")

    def _maps(self, x: Tensor) -> Tensor:
        return with_axes_of(self.maps, x, self.picture_dims, 1)

    @property
    def coils(self) -> int:
        """C."""
        return held(self, "maps").shape[-self.picture_dims - 1]

    @directly(lambda A, x: some_after_others(A, "forward", A._held(), x, A.picture_dims, A.coils))
    def forward(self, x: Tensor) -> Tensor:
        """M · F(S_c x) for each coil: pictures (..., H, W) to samples (..., C, H, W)."""
        x, mask, maps, dims = self.samples(x), self.mask_of_coils, self.maps, self.picture_dims

        def seen(c: slice | None) -> Tensor:
            return mask * fourier(of_coils(maps, c, dims) * x.unsqueeze(-dims - 1), self.centered, dims)

        return by_coils(self._held(), x, self.coils, seen, dims)

    @directly(lambda A, y: some_after_others(A, "adjoint", A._held(), y, A.picture_dims + 1))
    def adjoint(self, y: Tensor) -> Tensor:
        """Σ_c conj(S_c) Fᴴ(m · y_c): samples (..., C, H, W) to pictures (..., H, W)."""
        y = self.pictures("y", y, self.mask, channels=1)
        require_fit("mask", self.mask, "y", y, self.mask_of_coils.shape)
        dims, coils = self.picture_dims, self.coils
        if y.shape[-dims - 1] != coils:
            raise ValueError(
                f"maps are {shape_text(self.maps.shape)}, so y must have the shape (..., {coils}, "
                f"{', '.join(self.axes[-dims:])}), with the coils before the pictures, got {shape_text(y.shape)}"
            )
        require_fit("maps", self.maps, "y", y, self.maps.shape)
        mask, maps = self.mask_of_coils, self.maps

        def back(c: slice | None) -> Tensor:
            return of_coils(maps, c, dims).conj() * inverse_fourier(mask * of_coils(y, c, dims), self.centered, dims)

        return by_coils(self._held(), y.select(-dims - 1, 0), coils, back, dims).sum(-dims - 1)

    def _directly(self, x: Tensor, At_y: Tensor | None = None) -> Tensor | None:
        """AᴴA x − Aᴴy, where all pictures have the same maps."""
        return filtered(self, "mask", (self.centered,), self._power, x, At_y, maps=held(self, "maps"))

    @directly(_directly)
    def normal(self, x: Tensor) -> Tensor:
        """Σ_c conj(S_c) Fᴴ(m² · F(S_c x)): (..., H, W)."""
        x = self.samples(x)
        return coil_normal(x, self._maps(x), self._power(x), dims=self.picture_dims)

    def normal_parts(self, x: Tensor) -> NormalParts:
        """AᴴA for pictures like x, as compiled layers take it."""
        return NormalParts("fourier", self._power(x), self._maps(x))

    @directly(lambda A, x, At_y: None if At_y is None else A._directly(x, At_y))
    def collapsed_gradient(self, x: Tensor, At_y: Tensor) -> Tensor:
        """AᴴA x − Aᴴy, in one call for all coils."""
        if torch.is_grad_enabled() and (x.requires_grad or At_y.requires_grad):
            return super().collapsed_gradient(x, At_y)
        with own_precision(x):
            x, At_y = samples_of(self, x, At_y)
            return coil_normal(x, self._maps(x), self._power(x), At_y, self.picture_dims)

    @torch.no_grad()
    def norm(self) -> float:
        """max|m| · √(max Σ_c|S_c|²), an upper bound."""
        power = squared_modulus(self.maps.detach().to(torch.complex128)).sum(-self.picture_dims - 1)
        sensitivity = power.max().sqrt()
        return float(self.mask.detach().double().abs().max() * sensitivity)

    def extra_repr(self) -> str:
        text = f"mask={shape_text(self.mask.shape)}, maps={shape_text(self.maps.shape)}, centered={self.centered}"
        return text + self._dims_text()
