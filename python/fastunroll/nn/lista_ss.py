"""LISTASS: LISTA with support selection."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from .affine import AffineNetwork
from .network import Threshold, logarithms, starting_matrix, threshold_size
from .selection import threshold_with


class LISTASS(AffineNetwork):
    """K layers x⁺ = P_θ(W₁ y + W₂ x), where P does not shrink the largest p_k % of the elements.

    Without selection it starts exactly as ISTA on ½‖A x − y‖² + λ‖x‖₁, with W₁ = Aᵀ/L, W₂ = I − AᵀA/L, θ = λ/L and
    L = ‖A‖².

    Args:
        A: the matrix (m, n), real or complex, finite and not zero.
        layers: the number K ≥ 1 of layers.
        lam: λ ≥ 0. Thresholds that start at θ = 0 do not learn.
        tied: whether all layers share W₁ and W₂. Thresholds are never shared.
        threshold: ``"scalar"`` for one threshold in each layer, ``"vector"`` for one threshold for each element of x.
        selection: the percentages (p, p_max) of support selection, or None for no selection. Layer k = 0, 1, … does
            not shrink the min(p·(k + 1), p_max) % largest magnitudes if they exceed θ.
        device: the device of the network. The default is the device of ``A``.
        dtype: the real dtype of the network. The default is the dtype of ``A``.

    Attributes:
        W1: K matrices (n, m), or one if tied.
        W2: K matrices (n, n), or one if tied. W₂ of the first layer has no effect without ``x0``.
        log_theta: K logarithms of θ, of shape (1,) or (n,).

    Raises:
        TypeError: A is not floating point.
        ValueError: A is not a matrix, not finite or zero; λ < 0; K < 1; or ``selection`` is not two percentages.

    Equivalent to::

        x = torch.zeros(*y.shape[:-1], n)
        for k in range(layers):
            z = y @ W1[k].mT + x @ W2[k].mT
            passes = fu.reference.largest(z.abs(), support_sizes[k]) & (z.abs() > log_theta[k].exp())
            x = torch.where(passes, z, torch.sgn(z) * torch.relu(z.abs() - log_theta[k].exp()))

    Reference: Chen, Liu, Wang and Yin, *Theoretical linear convergence of unfolded ISTA*, 2018.
    """

    tensors = "W1", "W2", "log_theta"

    def __init__(
        self,
        A: Tensor,
        *,
        layers: int = 16,
        lam: float = 0.1,
        tied: bool = False,
        threshold: Threshold = "scalar",
        selection: tuple[float, float] | None = (1.2, 13.0),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        A = starting_matrix(A, device, dtype)
        super().__init__(layers, *A.shape)
        self.selection, self.prox = selection, threshold_with(selection, self.layers, self.n)
        theta = self._start(A, tied, threshold) * _checks.not_negative("lam", lam)
        self.log_theta = logarithms([theta] * layers, A, threshold_size(threshold, self.n))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, selection={self.selection}"
