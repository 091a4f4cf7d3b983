"""LISTACP: LISTA with a gradient step, which couples its two matrices through A."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from ..engine.layers import Pieces
from ..operators.dense import spectral_norm
from ..steps import GradientStep
from .network import Threshold, UnrolledNetwork, copies, entries, logarithms, starting_matrix, threshold_size
from .selection import threshold_with


class LISTACP(UnrolledNetwork):
    """K layers x⁺ = S_θ(x + Wᵀ(y − A x)), which are LISTA with W₁ = Wᵀ and W₂ = I − WᵀA.

    The paper proves that the matrices of a convergent LISTA approach this coupling. The network starts exactly as ISTA
    on ½‖A x − y‖² + λ‖x‖₁: W = A/‖A‖², θ = λ/‖A‖².

    Args:
        A: the matrix (m, n), real or complex, finite and not zero.
        layers: the number K ≥ 1 of layers.
        lam: λ ≥ 0. Thresholds that start at θ = 0 do not learn.
        tied: whether all layers share W. Thresholds are never shared.
        threshold: ``"scalar"`` for one threshold in each layer, ``"vector"`` for one threshold for each element of x.
        device: the device of the network. The default is the device of ``A``.
        dtype: the real dtype of the network. The default is the dtype of ``A``.

    Attributes:
        A: the matrix (m, n), a buffer.
        W: K matrices (m, n), or one if tied.
        log_theta: K logarithms of θ, of shape (1,) or (n,).

    Raises:
        TypeError: A is not floating point.
        ValueError: A is not a matrix, not finite or zero; λ < 0; or K < 1.

    Equivalent to::

        x = torch.zeros(*y.shape[:-1], n)
        for k in range(layers):
            z = x + (y - x @ A.mT) @ W[k].conj()
            x = torch.sgn(z) * torch.relu(z.abs() - log_theta[k].exp())

    Reference: Chen, Liu, Wang and Yin, *Theoretical linear convergence of unfolded ISTA*, 2018.
    """

    A: Tensor
    selection: tuple[float, float] | None = None

    tensors = "A", "W", "log_theta"

    def __init__(
        self,
        A: Tensor,
        *,
        layers: int = 16,
        lam: float = 0.1,
        tied: bool = False,
        threshold: Threshold = "scalar",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        A = starting_matrix(A, device, dtype)
        super().__init__(layers, *A.shape)
        self.prox = threshold_with(self.selection, self.layers, self.n)
        self.tied, self.threshold = _checks.flag("tied", tied), threshold
        step = 1 / spectral_norm(A) ** 2
        theta = _checks.not_negative("lam", lam) * step
        self.register_buffer("A", A.clone())
        self.W = copies(step * A, 1 if tied else layers)
        self.log_theta = logarithms([theta] * layers, A, threshold_size(threshold, self.n))

    def pieces(self) -> Pieces:
        return self._pieces(GradientStep(self.A, entries(self.W)))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, tied={self.tied}, threshold={self.threshold!r}"
