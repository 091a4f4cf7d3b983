"""Operators of which Fourier transforms diagonalise AᴴA."""

from __future__ import annotations

import torch
from torch import Tensor

from .._precision import own_precision
from ..ops.spectral import fourier_diagonal, fourier_normal
from .pictures import NormalParts, PictureOperator, samples_of, with_axes_of
from .spectra import inverse_power


class FourierDiagonal(PictureOperator):
    """A picture operator with AᴴA = F⁻¹ diag(h) F: what its normal operator, its gradient and its solve are.

    A subclass has :meth:`power`, which returns h, and ``samples``, which checks x.
    """

    collapsed = True

    def power(self, x: Tensor) -> Tensor:
        """H for pictures like x, (..., H, W) real and ≥ 0, or (..., H, W//2 + 1) where x is real."""
        raise NotImplementedError

    def normal(self, x: Tensor) -> Tensor:
        """AᴴA x = F⁻¹(h · F x): one transform and its inverse."""
        x = self.samples(x)
        return fourier_normal(x, with_axes_of(self.power(x), x))

    def normal_parts(self, x: Tensor) -> NormalParts:
        """AᴴA for pictures like x, as compiled layers take it."""
        return NormalParts("fourier", with_axes_of(self.power(x), x))

    def collapsed_gradient(self, x: Tensor, At_y: Tensor) -> Tensor:
        """AᴴA x − Aᴴy = F⁻¹(h · F x) − Aᴴy."""
        if torch.is_grad_enabled() and (x.requires_grad or At_y.requires_grad):
            return super().collapsed_gradient(x, At_y)
        with own_precision(x):
            x, At_y = samples_of(self, x, At_y)
            return fourier_normal(x, with_axes_of(self.power(x), x), At_y)

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(AᴴA + ρI)⁻¹ b = F⁻¹(F b / (h + ρ)): one transform and its inverse. Differentiable in all of them."""
        with own_precision(b):
            b = self.samples(b)
            return fourier_diagonal(b, with_axes_of(inverse_power(self.power(b), rho, b), b))
