"""Weights of pixels: inpainting, and any other diagonal matrix."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from .. import _checks
from .._checks import shape_text
from ..arrays import as_tensor
from ..norms import squared_modulus
from ..ops import Weighting, kept_weights, weigh
from ..ops.tensors import is_tracing
from .direct import FULL, Kept, directly, has_own_solve, held, number_of, of_kept
from .pictures import NormalParts, PictureOperator, dims_of, require_fit, single
from .spectra import kept, shifted_power


class Mask(PictureOperator):
    """The product y = m · x of pictures with weights: inpainting where the weights are 0 and 1.

    Aᴴ y = conj(m) · y, AᴴA = |m|², ‖A‖ = max|m|, and (AᴴA + ρI)⁻¹ b = b/(|m|² + ρ). With a complex mask the last bit of
    a pixel depends on its place in the batch, since PyTorch rounds complex products so.

    Args:
        mask: m, (H, W), or of any shape that broadcasts with that of x, such as one a sample, (B, 1, H, W). Real,
            complex, or True and False. Finite. A tensor that requires a gradient is used as it is, and gets its
            gradient.
        dims: 2 for pictures (..., H, W), or 3 for volumes (..., D, H, W), of which (D, H, W) is one mask for all.
        learn: make the mask a parameter.

    Raises:
        TypeError: the mask is not of numbers, or complex where x is real.
        ValueError: the mask is not finite, its shape does not fit that of x, or ``dims`` is neither 2 nor 3.

    Example::

        known = torch.rand(64, 64) < 0.5
        x = fu.solvers.fista(fu.operators.Mask(known), known * picture, 0.01, prox=fu.prox.TotalVariation())

    Equivalent to: ``mask * x``.
    """

    mask: Tensor
    collapsed = True
    moves_pixels = False

    def __init__(self, mask: Tensor, *, dims: int = 2, learn: bool = False) -> None:
        super().__init__()
        self.picture_dims = dims_of(dims)
        mask = as_tensor(mask, "mask")
        if isinstance(mask, Tensor) and mask.dtype == torch.bool:
            mask = mask.to(torch.get_default_dtype())
        _checks.tensor("mask", mask)
        if mask.dim() < 2 or 0 in mask.shape:
            raise ValueError(f"mask must be (H, W) or (..., H, W), got shape {shape_text(mask.shape)}")
        self.keep("mask", mask, learn)
        if mask.dim() == self.picture_dims and 1 not in mask.shape:
            self.shape_in = self.shape_out = tuple(mask.shape)

    @property
    def own_batch(self) -> tuple[int, ...]:
        return self._own_batch(self.mask.shape[: -self.picture_dims])

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

    def _by_power(self, how: Weighting, x: Tensor, z: Tensor | None = None) -> Tensor | None:
        """Pictures by |m|², of real masks, which take all pictures."""
        mask = held(self, "mask")
        return of_kept("weights of power", mask, self._power_weights, 0, how, x, z, 0.0)

    def _power_weights(self) -> Kept | None:
        return None if self.mask.is_complex() else kept_weights(self._power())

    @directly(lambda A, x: weigh(Weighting.PRODUCT, held(A, "mask"), x))
    def forward(self, x: Tensor) -> Tensor:
        """M · x: (..., H, W)."""
        return single(self.mask) * self._samples("x", x)

    @directly(lambda A, y: weigh(Weighting.PRODUCT, held(A, "mask"), y))
    def adjoint(self, y: Tensor) -> Tensor:
        """Conj(m) · y: (..., H, W)."""
        return single(self.mask).conj() * self._samples("y", y)

    @directly(lambda A, x: A._by_power(Weighting.PRODUCT, x))
    def normal(self, x: Tensor) -> Tensor:
        """|m|² · x: (..., H, W)."""
        return self._power() * self._samples("x", x)

    @directly(lambda A, x, y: weigh(Weighting.TWICE, held(A, "mask"), x, y))
    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Conj(m) · (m · x − y), in one pass where m is real."""
        found = None if is_tracing() else weigh(Weighting.TWICE, single(self.mask), x, y)  # of arrays too
        return super().gradient(x, y) if found is None else found

    @directly(lambda A, x, At_y: A._by_power(Weighting.DIFFERENCE, x, At_y))
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

    def _solve_directly(self, b: Tensor, rho: Tensor | float, At_y: Tensor | None = None) -> Tensor | None:
        """With At_y the data step at b."""
        number = number_of(rho)
        if number is None or type(b) is not Tensor or not b.is_cpu:
            return None
        how, make = Weighting.QUOTIENT if At_y is None else Weighting.DATA_STEP, partial(self._shifted_weights, b, rho)
        version = number, b.dtype
        return of_kept("weights of shifted power", held(self, "mask"), make, version, how, b, At_y, number)

    def _shifted_weights(self, b: Tensor, rho: Tensor | float) -> Kept | None:
        """|m|² + ρ, where the precision of b is that of the mask."""
        mask = self.mask
        return kept_weights(shifted_power(mask, rho, b)) if mask.dtype in FULL and mask.dtype == b.dtype else None

    @directly(_solve_directly)
    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """b/(|m|² + ρ): (..., H, W)."""
        b = self._samples("b", b)
        return b / shifted_power(self.mask, rho, b)

    def _data_step_directly(self, v: Tensor, At_y: Tensor, rho: Tensor | float) -> Tensor | None:
        is_own = At_y is not None and has_own_solve(self, Mask)
        return self._solve_directly(v, rho, At_y) if is_own else None

    @directly(_data_step_directly)
    def data_step(self, v: Tensor, At_y: Tensor, rho: Tensor | float) -> Tensor:
        """(Aᴴy + ρ v)/(|m|² + ρ), in one pass."""
        return super().data_step(v, At_y, rho)

    def adjoint_solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """The same."""
        return self.solve(b, rho)

    def extra_repr(self) -> str:
        return f"mask={shape_text(self.mask.shape)}{self._dims_text()}"
