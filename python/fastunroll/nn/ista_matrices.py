"""The affine step of ISTA, from which networks with learned W₁ and W₂ start."""

from __future__ import annotations

import torch
from torch import Tensor

from ..operators.dense import spectral_norm


def ista_matrices(A: Tensor) -> tuple[Tensor, Tensor, float]:
    """Returns W₁ = Aᴴ/L, W₂ = I − AᴴA/L and 1/L with L = ‖A‖², computed in double precision."""
    exact = A.to(torch.complex128 if A.is_complex() else torch.float64)
    step = 1 / spectral_norm(A) ** 2
    eye = torch.eye(A.shape[1], device=A.device, dtype=exact.dtype)
    return (step * exact.mH).to(A.dtype).contiguous(), (eye - step * exact.mH @ exact).to(A.dtype), step
