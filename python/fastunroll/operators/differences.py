"""Finite differences of pictures and volumes: the discrete gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import _checks
from .._precision import own_precision
from .cosine import cosine_transform, inverse_cosine_transform
from .pictures import PictureOperator, dims_of
from .solve import rho_beside


class Gradient(PictureOperator):
    """The discrete gradient D x: the differences of each pixel to the next one in each direction, zero at the last one.

    Dᵀ is minus the discrete divergence. DᵀD has the eigenvalues Σ (2 − 2 cos(πk/N)) over the axes of length N, and the
    cosine transform diagonalises it: :meth:`solve` costs one transform and its inverse. ‖D‖ = √(Σ (2 + 2 cos(π/N)))
    for pictures of a stated ``shape``, and √(4·dims) is an upper bound for all sizes. The total variation of
    :class:`fastunroll.prox.TotalVariation` is Σ ‖D x‖₂ over the pixels.

    Args:
        dims: 2 for pictures (..., H, W), or 3 for volumes (..., D, H, W).
        shape: the shape of one sample of x, if it is to be stated.

    Raises:
        ValueError: ``dims`` is neither 2 nor 3, or x has fewer dimensions.

    Example::

        D = fu.operators.Gradient()
        edges = D(picture)                             # (..., H, W) to (..., 2, H, W)

    Equivalent to::

        down = torch.nn.functional.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
        right = torch.nn.functional.pad(x[..., 1:] - x[..., :-1], (0, 1))
        torch.stack([down, right], dim=-3)

    Reference: Chambolle, *An algorithm for total variation minimization and applications*, 2004.
    """

    channel_dims = (0, 1)

    def __init__(self, dims: int = 2, *, shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.picture_dims = dims_of(dims)
        if shape is not None:
            self.shape_in = self.state(shape)
            at = len(self.shape_in) - self.picture_dims
            self.shape_out = (*self.shape_in[:at], self.picture_dims, *self.shape_in[at:])

    @property
    def solves(self) -> bool:
        return True

    def forward(self, x: Tensor) -> Tensor:
        """D x: (..., H, W) to (..., 2, H, W)."""
        x = self.pictures("x", x)
        return torch.stack([_difference(x, axis) for axis in range(-self.picture_dims, 0)], -self.picture_dims - 1)

    def adjoint(self, y: Tensor) -> Tensor:
        """Dᵀ y, minus the divergence: (..., 2, H, W) to (..., H, W)."""
        y = self.pictures("y", y, channels=1)
        if y.shape[-self.picture_dims - 1] != self.picture_dims:
            raise ValueError(
                f"y must hold {self.picture_dims} differences for each pixel, (..., {self.picture_dims}, "
                f"{', '.join(self.axes[-self.picture_dims :])}), got {_checks.shape_text(y.shape)}"
            )
        parts = y.unbind(-self.picture_dims - 1)
        first, *others = (
            _difference_adjoint(part, axis) for part, axis in zip(parts, range(-self.picture_dims, 0), strict=True)
        )
        return sum(others, start=first)

    def norm(self) -> float:
        """√(Σ (2 + 2 cos(π/N))) over the axes where the shape is stated, else the upper bound √(4·dims)."""
        if self.shape_in is None:
            return math.sqrt(4 * self.picture_dims)
        sides = self.shape_in[-self.picture_dims :]
        return math.sqrt(sum(2 - 2 * math.cos(math.pi * (n - 1) / n) for n in sides))

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(DᵀD + ρI)⁻¹ b by the cosine transform: (..., H, W)."""
        with own_precision(b):
            b = self.pictures("b", b)
            rho = rho_beside(rho, b)
            axes = range(-self.picture_dims, 0)
            eigenvalues = torch.zeros((), dtype=b.dtype.to_real(), device=b.device)
            for axis in axes:
                n = b.shape[axis]
                k = torch.arange(n, dtype=torch.float64, device=b.device)
                along = (2 - 2 * torch.cos(math.pi * k / n)).to(eigenvalues.dtype)
                eigenvalues = eigenvalues + along.reshape(-1, *[1] * (-axis - 1))
            coefficients = cosine_transform(b, self.picture_dims) / (eigenvalues + rho)
            return inverse_cosine_transform(coefficients, self.picture_dims)

    def extra_repr(self) -> str:
        return f"dims={self.picture_dims}"


def _difference(x: Tensor, axis: int) -> Tensor:
    """The next pixel minus this one along an axis, zero at the last one."""
    n = x.shape[axis]
    difference = x.narrow(axis, 1, n - 1) - x.narrow(axis, 0, n - 1)
    return torch.cat([difference, torch.zeros_like(x.narrow(axis, 0, 1))], axis)


def _difference_adjoint(y: Tensor, axis: int) -> Tensor:
    """The adjoint of :func:`_difference`: this difference taken from the one before."""
    n = y.shape[axis]
    inside, zero = y.narrow(axis, 0, n - 1), torch.zeros_like(y.narrow(axis, 0, 1))
    return torch.cat([zero, inside], axis) - torch.cat([inside, zero], axis)
