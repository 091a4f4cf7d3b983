"""LISTACPSS: LISTACP with support selection."""

from __future__ import annotations

import torch
from torch import Tensor

from .lista_cp import LISTACP
from .network import Threshold
from .selection import threshold_with


class LISTACPSS(LISTACP):
    """K layers x⁺ = P_θ(x + Wᵀ(y − A x)), where P does not shrink the largest p_k % of the elements.

    It starts as ISTA with support selection. Without selection it is :class:`LISTACP`, and starts exactly as ISTA.

    Args:
        A: the matrix (m, n), real or complex, finite and not zero.
        layers: the number K ≥ 1 of layers.
        lam: λ ≥ 0. Thresholds that start at θ = 0 do not learn.
        tied: whether all layers share W. Thresholds are never shared.
        threshold: ``"scalar"`` for one threshold in each layer, ``"vector"`` for one threshold for each element of x.
        selection: the percentages (p, p_max) of support selection, or None for no selection. Layer k = 0, 1, … does
            not shrink the min(p·(k + 1), p_max) % largest magnitudes if they exceed θ.
        device: the device of the network. The default is the device of ``A``.
        dtype: the real dtype of the network. The default is the dtype of ``A``.

    Attributes:
        A, W, log_theta: as in :class:`LISTACP`.

    Raises:
        TypeError: A is not floating point.
        ValueError: A is not a matrix, not finite or zero; λ < 0; K < 1; or ``selection`` is not two percentages.

    Equivalent to::

        x = torch.zeros(*y.shape[:-1], n)
        for k in range(layers):
            z = x + (y - x @ A.mT) @ W[k].conj()
            passes = fu.reference.largest(z.abs(), support_sizes[k]) & (z.abs() > log_theta[k].exp())
            x = torch.where(passes, z, torch.sgn(z) * torch.relu(z.abs() - log_theta[k].exp()))

    Reference: Chen, Liu, Wang and Yin, *Theoretical linear convergence of unfolded ISTA*, 2018.
    """

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
        super().__init__(A, layers=layers, lam=lam, tied=tied, threshold=threshold, device=device, dtype=dtype)
        self.selection, self.prox = selection, threshold_with(selection, self.layers, self.n)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, selection={self.selection}"
