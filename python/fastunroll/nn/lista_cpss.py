"""LISTACPSS: LISTACP with support selection."""

from __future__ import annotations

import torch
from torch import Tensor

from .lista_cp import LISTACP
from .network import Threshold
from .selection import schedule


class LISTACPSS(LISTACP):
    """K layers x⁺ = P_θ(x + Wᵀ(y − A x)), where P shrinks by θ all but the largest p_k %, which are trusted.

    Without selection it is :class:`LISTACP`, and starts as exactly ISTA; with it, as ISTA with support selection.

    Args:
        A: (m, n), real or complex, finite and not zero.
        layers: K ≥ 1.
        lam: λ ≥ 0. From θ = 0 thresholds do not learn.
        tied: share W between layers; thresholds are always a layer's own.
        threshold: ``"scalar"`` for one threshold a layer, ``"vector"`` for one a coordinate and layer.
        selection: percentages (p, p_max): in layer k = 0, 1, … the min(p·(k + 1), p_max) % largest magnitudes that
            exceed θ pass as they are. None for none.
        device: where it lives; that of ``A`` by default.
        dtype: its real type; that of ``A`` by default.

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
        schedule(selection, self.layers, self.n)  # refuses what is none
        self.selection = selection

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, selection={self.selection}"
