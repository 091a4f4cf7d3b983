"""Weights of pixels: inpainting, and any other diagonal matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from .._checks import shape_text
from ..arrays import as_tensor
from ..norms import squared_modulus
from ..ops import Weighting, cached, weigh
from ..ops.tensors import is_tracing
from .direct import FULL, directly, held, is_kept, number_of
from .pictures import NormalParts, PictureOperator, require_fit, single
from .spectra import kept, shifted_power


class Mask(PictureOperator):
    """The product y = m · x of pictures with weights: inpainting where the weights are 0 and 1.

    Aᴴ y = conj(m) · y, AᴴA = |m|², ‖A‖ = max|m|, and (AᴴA + ρI)⁻¹ b = b/(|m|² + ρ). With a complex mask the last bit of
    a pixel depends on its place in the batch, since PyTorch rounds complex products so.

    Args:
        mask: m, (H, W), or of any shape that broadcasts with that of x, such as one a sample, (B, 1, H, W). Real,
            complex, or True and False. Finite. A tensor that requires a gradient is used as it is, and gets its
            gradient.
        learn: make the mask a parameter.

    Raises:
        TypeError: the mask is not of numbers, or complex where x is real.
        ValueError: the mask is not finite, or its shape does not fit that of x.

    Example::

        known = torch.rand(64, 64) < 0.5
        x = fu.solvers.fista(fu.operators.Mask(known), known * picture, 0.01, prox=fu.prox.TotalVariation())

    Equivalent to: ``mask * x``.
    """

    mask: Tensor
    collapsed = True

    def __init__(self, mask: Tensor, *, learn: bool = False) -> None:
        super().__init__()
        mask = as_tensor(mask, "mask")
        if isinstance(mask, Tensor) and mask.dtype == torch.bool:
            mask = mask.to(torch.get_default_dtype())
        _checks.tensor("mask", mask)
        if mask.dim() < 2 or 0 in mask.shape:
            raise ValueError(f"mask must be (H, W) or (..., H, W), got shape {shape_text(mask.shape)}")
        self.keep("mask", mask, learn)
        if mask.dim() == 2 and 1 not in mask.shape:
            self.shape_in = self.shape_out = tuple(mask.shape)

    @property
    def own_batch(self) -> tuple[int, ...]:
        return self._own_batch(self.mask.shape[:-2])

    def _samples(self, name: str, x: Tensor) -> Tensor:
        mask = self.mask
        x = self.pictures(name, x, mask)
        require_fit("mask", mask, name, x, mask.shape)
        if mask.is_complex() and not x.is_complex():
            raise TypeError(f"a complex mask takes complex pictures, got {name} of {x.dtype}: use {name}.cfloat()")
        return x

    def _power(self) -> Tensor:
        """|m|²."""
        mask = self.mask
        return kept("squared modulus", mask, (0, 0), False, lambda: squared_modulus(single(mask)))

    def _kept_power(self) -> Tensor | None:
        """The same where it can be kept, of real masks, which take all pictures: quickly."""
        mask = held(self, "mask")
        if mask.is_complex() or not is_kept(mask):
            return None
        return cached("squared modulus", [mask], lambda: squared_modulus(single(mask)), version=0)

    @directly(lambda A, x: weigh(Weighting.PRODUCT, held(A, "mask"), x))
    def forward(self, x: Tensor) -> Tensor:
        """M · x: (..., H, W)."""
        return single(self.mask) * self._samples("x", x)

    @directly(lambda A, y: weigh(Weighting.PRODUCT, held(A, "mask"), y))
    def adjoint(self, y: Tensor) -> Tensor:
        """Conj(m) · y: (..., H, W)."""
        return single(self.mask).conj() * self._samples("y", y)

    @directly(lambda A, x: weigh(Weighting.PRODUCT, A._kept_power(), x))
    def normal(self, x: Tensor) -> Tensor:
        """|m|² · x: (..., H, W)."""
        return self._power() * self._samples("x", x)

    @directly(lambda A, x, y: weigh(Weighting.TWICE, held(A, "mask"), x, y))
    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Conj(m) · (m · x − y), in one pass where m is real."""
        found = weigh(Weighting.TWICE, single(self.mask), x, y)  # of arrays too
        return super().gradient(x, y) if found is None else found

    @directly(lambda A, x, At_y: weigh(Weighting.DIFFERENCE, A._kept_power(), x, At_y))
    def collapsed_gradient(self, x: Tensor, At_y: Tensor) -> Tensor:
        """|m|² · x − Aᴴy, in one pass."""
        x = self._samples("x", x)
        if x.shape != At_y.shape or x.dtype != At_y.dtype or is_tracing():
            return super().collapsed_gradient(x, At_y)
        return (self._power() * x).sub_(At_y)

    def normal_parts(self, x: Tensor) -> NormalParts:
        """AᴴA for pictures like x, as compiled layers take it."""
        return NormalParts("weights", self._power())

    @torch.no_grad()
    def norm(self) -> float:
        """max|m|."""
        return float(self.mask.detach().abs().max())

    def _solve_directly(self, b: Tensor, rho: Tensor | float) -> Tensor | None:
        number, mask = number_of(rho), held(self, "mask")
        if number is None or type(b) is not Tensor or mask.dtype != b.dtype.to_real() or not b.is_cpu:
            return None
        if mask.dtype not in FULL or not is_kept(mask):
            return None
        shifted = cached("shifted power of a number", [mask], lambda: shifted_power(mask, rho, b), version=number)
        return weigh(Weighting.QUOTIENT, shifted, b)

    @directly(_solve_directly)
    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """b/(|m|² + ρ): (..., H, W)."""
        b = self._samples("b", b)
        return b / shifted_power(self.mask, rho, b)

    def adjoint_solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """The same."""
        return self.solve(b, rho)

    def extra_repr(self) -> str:
        return f"mask={shape_text(self.mask.shape)}"
