"""The base class of networks with the affine step of LISTA, z = W₁ y + W₂ v."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import _checks
from ..engine.layers import Pieces
from ..operators.dense import spectral_norm
from ..steps import AffineStep
from .network import UnrolledNetwork, copies, entries


class AffineNetwork(UnrolledNetwork):
    W1: nn.ParameterList
    W2: nn.ParameterList

    def _start(self, A: Tensor, tied: bool, threshold: str) -> float:
        """Makes W₁ = Aᴴ/L and W₂ = I − AᴴA/L of ISTA with L = ‖A‖², in double precision, and returns 1/L."""
        self.tied, self.threshold = _checks.flag("tied", tied), threshold
        exact = A.to(torch.complex128 if A.is_complex() else torch.float64)
        step = 1 / spectral_norm(A) ** 2
        eye = torch.eye(A.shape[1], device=A.device, dtype=exact.dtype)
        w1, w2 = step * exact.mH, eye - step * exact.mH @ exact
        self.W1, self.W2 = (copies(w.to(A.dtype), 1 if tied else self.layers) for w in (w1, w2))
        return step

    def pieces(self) -> Pieces:
        return self._pieces(AffineStep(entries(self.W1), entries(self.W2)))

    def _matrix(self) -> Tensor:
        return self.W1[0]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, tied={self.tied}, threshold={self.threshold!r}"
