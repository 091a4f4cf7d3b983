"""Operators of which Fourier transforms diagonalise AᴴA."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._precision import own_precision
from ..ops.spectral import fourier_diagonal, fourier_normal
from .direct import directly, filtered, has_own_solve, number_of
from .pictures import NormalParts, PictureOperator, samples_of, with_axes_of
from .spectra import inverse_power


class FourierDiagonal(PictureOperator):
    """A picture operator with AᴴA = F⁻¹ diag(h) F: what its normal operator, its gradient and its solve are.

    A subclass has :meth:`power`, which returns h, and ``samples``, which checks x. Where ``collapsed`` is False, AᴴA is
    none of these, and all is that of :class:`LinearOperator`.

    Attributes:
        made_of: the name of the tensor of which h is made; none where there is no direct way.
        settings: what else h depends on, beside the size of pictures and whether they are real.
    """

    collapsed = True
    made_of: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        """A class with an h of its own says itself what that is made of."""
        super().__init_subclass__(**options)
        if "power" in vars(cls) and "made_of" not in vars(cls):
            cls.made_of = ""

    @property
    def settings(self) -> tuple[Any, ...]:
        return ()

    def power(self, x: Tensor) -> Tensor:
        """H for pictures like x, (..., H, W) real and ≥ 0, or (..., H, W//2 + 1) where x is real; so of volumes."""
        raise NotImplementedError

    def _normal_directly(self, x: Tensor) -> Tensor | None:
        kind = "power", *self.settings
        return filtered(self, self.made_of, kind, self.power, x) if self.made_of and self.collapsed else None

    @directly(_normal_directly)
    def normal(self, x: Tensor) -> Tensor:
        """AᴴA x = F⁻¹(h · F x): one transform and its inverse."""
        if not self.collapsed:
            return super().normal(x)
        x = self.samples(x)
        return fourier_normal(x, self._with_axes_of(self.power(x), x), dims=self.picture_dims)

    def _with_axes_of(self, d: Tensor, x: Tensor) -> Tensor:
        return with_axes_of(d, x, self.picture_dims)

    def normal_parts(self, x: Tensor) -> NormalParts:
        """AᴴA for pictures like x, as compiled layers take it."""
        return NormalParts("fourier", with_axes_of(self.power(x), x))

    def _collapsed_gradient_directly(self, x: Tensor, At_y: Tensor) -> Tensor | None:
        kind = "power", *self.settings
        is_direct = self.made_of and self.collapsed and At_y is not None
        return filtered(self, self.made_of, kind, self.power, x, At_y) if is_direct else None

    @directly(_collapsed_gradient_directly)
    def collapsed_gradient(self, x: Tensor, At_y: Tensor) -> Tensor:
        """AᴴA x − Aᴴy = F⁻¹(h · F x) − Aᴴy."""
        if not self.collapsed or (torch.is_grad_enabled() and (x.requires_grad or At_y.requires_grad)):
            return super().collapsed_gradient(x, At_y)
        with own_precision(x):
            x, At_y = samples_of(self, x, At_y)
            return fourier_normal(x, self._with_axes_of(self.power(x), x), At_y, self.picture_dims)

    def _solve_directly(self, b: Tensor, rho: Tensor | float, At_y: Tensor | None = None) -> Tensor | None:
        number = number_of(rho)
        if number is None or not (self.made_of and self.collapsed):
            return None
        kind = "inverse power", *self.settings
        make = partial(self._inverse_power, rho)
        return filtered(self, self.made_of, kind, make, b, number=number, added=At_y)

    def _inverse_power(self, rho: Tensor | float, b: Tensor) -> Tensor:
        return inverse_power(self.power(b), rho, b)

    @directly(_solve_directly)
    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(AᴴA + ρI)⁻¹ b = F⁻¹(F b / (h + ρ)): one transform and its inverse. Differentiable in all of them."""
        if not self.collapsed:
            return super().solve(b, rho)
        with own_precision(b):
            b = self.samples(b)
            d = self._with_axes_of(inverse_power(self.power(b), rho, b), b)
            return fourier_diagonal(b, d, dims=self.picture_dims)

    def _data_step_directly(self, v: Tensor, At_y: Tensor, rho: Tensor | float) -> Tensor | None:
        is_own = At_y is not None and has_own_solve(self, FourierDiagonal)
        return self._solve_directly(v, rho, At_y) if is_own else None

    @directly(_data_step_directly)
    def data_step(self, v: Tensor, At_y: Tensor, rho: Tensor | float) -> Tensor:
        """(AᴴA + ρI)⁻¹(Aᴴy + ρ v) = F⁻¹(F(Aᴴy + ρ v) / (h + ρ)): one transform and its inverse."""
        return super().data_step(v, At_y, rho)
