"""A learned iteration of ISTA as a layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import _checks
from ..functional import ista_step
from ..operators.dense import spectral_norm
from .network import starting_matrix
from .old_scalars import accept_old_scalars


class ISTALayer(nn.Module):
    """The layer x⁺ = S_θ(x − t·Aᵀ(A x − y)) with a learned step t and threshold θ, for your own networks.

    It starts as an iteration of ISTA on ½‖A x − y‖² + λ‖x‖₁, with t = 1/‖A‖² and θ = λ·t. The layer stores a copy of
    ``A`` as a buffer, which does not learn.

    Args:
        A: the matrix (m, n), real or complex, finite and not zero.
        lam: λ ≥ 0.
        device: the device of the layer. The default is the device of ``A``.
        dtype: the real dtype of the layer. The default is the dtype of ``A``.

    Attributes:
        A: the matrix (m, n), a buffer.
        step, theta: t and θ, of shape (1,).

    Raises:
        TypeError: A is not floating point, or ``dtype`` not real floating point.
        ValueError: A is not a matrix, not finite or zero; λ is negative; or torch cannot use ``device``.

    Equivalent to::

        z = x - self.step * (x @ A.mT - y) @ A
        torch.sign(z) * torch.relu(z.abs() - self.theta)

    Reference: Gregor and LeCun 2010; Ablin, Moreau, Massias and Gramfort, *Learning step sizes for unfolded sparse
    coding*, 2019.
    """

    A: Tensor

    def __init__(
        self,
        A: Tensor,
        lam: float = 0.1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        A = starting_matrix(A, _checks.device(device), dtype)
        lam = _checks.not_negative("lam", lam)
        step = 1 / spectral_norm(A) ** 2
        self.register_buffer("A", A.clone())
        self.step = nn.Parameter(torch.full((1,), step, device=A.device, dtype=A.real.dtype))
        self.theta = nn.Parameter(torch.full((1,), lam * step, device=A.device, dtype=A.real.dtype))
        accept_old_scalars(self)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Maps ``x`` (..., n) and ``y`` (..., m) to the next iterate (..., n)."""
        return ista_step(x, y, self.A, self.step, self.theta)

    def extra_repr(self) -> str:
        m, n = self.A.shape
        return f"m={m}, n={n}"
