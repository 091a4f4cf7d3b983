"""Operators on complex pictures as operators on pairs of real numbers, as DeepInverse and fastMRI have them."""

from __future__ import annotations

import torch
from torch import Tensor

from .derived import Derived


class RealChannels(Derived, differentiable=True):
    """An operator on complex samples (B, ...), for real samples (B, 2, ...) of their real and imaginary parts.

    Args:
        op: A, from complex to complex samples.
    """

    @property
    def collapsed(self) -> bool:  # type: ignore[override]
        """Whether that of A costs less than two products."""
        return self.operator.collapsed

    def forward(self, x: Tensor) -> Tensor:
        """A x: (B, 2, ...)."""
        return as_channels(self.operator(as_complex(x)))

    def adjoint(self, y: Tensor) -> Tensor:
        """Aᴴ y: (B, 2, ...)."""
        return as_channels(self.operator.adjoint(as_complex(y)))

    def normal(self, x: Tensor) -> Tensor:
        """AᴴA x: (B, 2, ...)."""
        return as_channels(self.operator.normal(as_complex(x)))

    def collapsed_gradient(self, x: Tensor, At_y: Tensor) -> Tensor:
        """AᴴA x − Aᴴy: (B, 2, ...)."""
        return as_channels(self.operator.collapsed_gradient(as_complex(x), as_complex(At_y)))

    def solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(AᴴA + ρI)⁻¹ b: (B, 2, ...)."""
        return as_channels(self.operator.solve(as_complex(b), rho))

    def adjoint_solve(self, b: Tensor, rho: Tensor | float) -> Tensor:
        """(A Aᴴ + ρI)⁻¹ b: (B, 2, ...)."""
        return as_channels(self.operator.adjoint_solve(as_complex(b), rho))


def as_complex(x: Tensor) -> Tensor:
    """Real (B, 2, ...) as complex (B, ...)."""
    if x.is_complex() or x.dim() < 3 or x.shape[1] != 2:
        raise ValueError(
            f"complex pictures must be real tensors (B, 2, H, W) of their real and imaginary parts, got {x.dtype} of "
            f"shape {tuple(x.shape)}: use torch.view_as_real(x).movedim(-1, 1)"
        )
    return torch.complex(x[:, 0], x[:, 1])


def as_channels(x: Tensor) -> Tensor:
    """Complex (B, ...) as real (B, 2, ...)."""
    return torch.stack([x.real, x.imag], 1)
