"""Samples of the Fourier transform of pictures and volumes: Cartesian magnetic resonance imaging with one coil."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import _checks
from .._checks import shape_text
from ..arrays import as_tensor
from .diagonal import FourierDiagonal
from .direct import directly, held, some_after_others
from .pictures import dims_of, require_fit, single
from .solve import rho_beside
from .spectra import axes_of, fourier, inverse_fourier, kept, mirrored


def as_mask(mask: Tensor) -> Tensor:
    """A mask of weights, (W,) or (..., H, W), if it is one; True and False become 1 and 0."""
    mask = as_tensor(mask, "mask")
    if isinstance(mask, Tensor) and mask.dtype == torch.bool:
        mask = mask.to(torch.get_default_dtype())
    _checks.real("mask", _checks.tensor("mask", mask))
    if mask.dim() < 1 or 0 in mask.shape:
        raise ValueError(f"mask must be (H, W), columns (W,) or (..., H, W), got shape {shape_text(mask.shape)}")
    return mask


def mask_power(mask: Tensor, shape: Sequence[int], centered: bool, real: bool) -> Tensor:
    """The h of AᴴA = F⁻¹ diag(h) F for a mask m and pictures (H, W): m², without the shift of a centred transform.

    h is (1, W) for columns. Of real pictures AᴴA is the real part, so that h is the mean of m²(k) and m²(−k), at the
    frequencies of ``rfft2``. The same of volumes (D, H, W).
    """
    dims = len(shape)
    h = mask.reshape(*(1,) * (dims - mask.dim()), *mask.shape).square()
    h = h.expand(*h.shape[:-1], shape[-1])
    h = torch.fft.ifftshift(h, axes_of(dims)) if centered else h
    if real:
        h = ((h + mirrored(h, dims)) / 2)[..., : shape[-1] // 2 + 1]
    return h.contiguous()


class Fourier(FourierDiagonal):
    """Samples of the Fourier transform, y = m · F x: k-space of a magnetic resonance scan with a Cartesian mask m.

    F is orthonormal. ``centered`` puts the frequency zero and the origin of pictures at (H//2, W//2), as fastMRI,
    SigPy, DeepInverse and MRpro do. Aᴴ y = Fᴴ(m · y), AᴴA = Fᴴ diag(m²) F, where the shifts cancel, and ‖A‖ = max|m|.
    :meth:`gradient`, :meth:`normal` and :meth:`solve` each cost one Fourier transform and its inverse.

    Args:
        mask: m, real weights or True and False: (H, W); columns (W,); or one a sample, (B, H, W) or (B, 1, W), whose
            leading dimensions broadcast with those of x. Of volumes: (D, H, W); (H, W), the same along D; (D, 1, 1) or
            any other shape that broadcasts; or one a sample, (B, D, H, W) or (B, 1, H, W). Finite. A tensor that
            requires a gradient is used as it is, and gets its gradient.
        centered: whether the frequency zero and the origin are in the middle.
        dims: 2 for pictures (..., H, W), or 3 for volumes (..., D, H, W), which run by ``torch.fft``.
        real: whether x is real. Then Aᴴ y is the real part of Fᴴ(m · y).
        learn: make the mask a parameter.

    Raises:
        TypeError: the mask is complex or not of numbers, or x is complex with ``real``.
        ValueError: the mask is not finite, its shape does not fit that of x, or ``dims`` is neither 2 nor 3.

    Example::

        scan = fu.operators.Fourier(mask)
        y = scan(x)                                    # (..., H, W), complex
        x = fu.solvers.fista(scan, y, 0.001, prox=fu.prox.TotalVariation())

    Equivalent to::

        mask * fftshift(fft2(ifftshift(x, dim=(-2, -1)), norm="ortho"), dim=(-2, -1))
    """

    mask: Tensor
    made_of = "mask"

    def __init__(
        self, mask: Tensor, centered: bool = True, *, dims: int = 2, real: bool = False, learn: bool = False
    ) -> None:
        super().__init__()
        self.picture_dims = dims_of(dims)
        self.keep("mask", as_mask(mask), learn)
        self.centered, self.real = _checks.flag("centered", centered), _checks.flag("real", real)
        if self.mask.dim() == self.picture_dims and 1 not in self.mask.shape:
            self.shape_in = self.shape_out = tuple(self.mask.shape)

    @property
    def own_batch(self) -> tuple[int, ...]:
        return self._own_batch(self.mask.shape[: -self.picture_dims])

    @property
    def takes_complex(self) -> bool:
        """Whether x is complex."""
        return not self.real

    @property
    def settings(self) -> tuple[bool, bool]:
        return self.centered, self.real

    def samples(self, x: Tensor) -> Tensor:
        x = self.pictures("x", x, self.mask)
        require_fit("mask", self.mask, "x", x, self.mask.shape)
        if self.real and x.is_complex():
            raise TypeError(f"Fourier(real=True) takes real pictures, got x of {x.dtype}: leave out real=True")
        return x if self.real or x.is_complex() else x.to(x.dtype.to_complex())

    def power(self, x: Tensor) -> Tensor:
        """m², in the order of ``torch.fft``."""
        shape, centered, real = x.shape[-self.picture_dims :], self.centered, self.real
        return kept(
            ("mask", centered), self.mask, shape, real, lambda: mask_power(single(self.mask), shape, centered, real)
        )

    @directly(lambda A, x: some_after_others(A, "forward", [held(A, "mask")], x, A.picture_dims))
    def forward(self, x: Tensor) -> Tensor:
        """M · F x: pictures (..., H, W) to complex samples (..., H, W)."""
        return self.mask * fourier(self.samples(x), self.centered, self.picture_dims)

    @directly(lambda A, y: some_after_others(A, "adjoint", [held(A, "mask")], y, A.picture_dims))
    def adjoint(self, y: Tensor) -> Tensor:
        """Fᴴ(m · y): samples (..., H, W) to pictures (..., H, W)."""
        y = self.pictures("y", y, self.mask)
        require_fit("mask", self.mask, "y", y, self.mask.shape)
        x = inverse_fourier(self.mask * y, self.centered, self.picture_dims)
        return x.real if self.real else x

    def adjoint_solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """b/(m² + ρ) for complex pictures, else by conjugate gradients."""
        if self.real:
            return super().adjoint_solve(b, rho)
        b = self.pictures("y", b, self.mask)
        require_fit("mask", self.mask, "b", b, self.mask.shape)
        return b / (single(self.mask).square() + rho_beside(rho, b))

    @torch.no_grad()
    def norm(self) -> float:
        """max|m|; for real pictures the root of the largest mean of m²(k) and m²(−k)."""
        mask = self.mask.detach().double()
        shape = *(1,) * (self.picture_dims - 1), mask.shape[-1]
        return float(mask_power(mask, shape, self.centered, self.real).max().sqrt())

    def extra_repr(self) -> str:
        text = f"mask={shape_text(self.mask.shape)}, centered={self.centered}, real={self.real}"
        return text + self._dims_text()
