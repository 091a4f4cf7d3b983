"""TiLISTA: a network with one learned matrix, and a learned step and threshold for each layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import _checks
from ..operators.dense import spectral_norm
from .network import starting_matrix
from .one_matrix import OneMatrixNetwork


class TiLISTA(OneMatrixNetwork):
    """K layers x⁺ = P_θ(x + t Wᵀ(y − A x)), which learn one W for all layers, and t_k and θ_k for each layer.

    P is the soft threshold, but does not shrink the largest p_k %. Without selection it starts as exactly ISTA: W = A,
    t_k = 1/‖A‖², θ_k = λ/‖A‖².

    Args:
        A: the matrix (m, n), real or complex, finite and not zero.
        layers: the number K ≥ 1 of layers.
        lam: λ ≥ 0. Thresholds that start at θ = 0 do not learn.
        selection: the percentages (p, p_max) of support selection, or None for no selection. Layer k = 0, 1, … does
            not shrink the min(p·(k + 1), p_max) % largest magnitudes if they exceed θ.
        device: the device of the network. The default is the device of ``A``.
        dtype: the real dtype of the network. The default is the dtype of ``A``.

    Attributes:
        A: the matrix (m, n), a buffer.
        W: (m, n).
        log_step, log_theta: K logarithms of t_k and θ_k, of shape (1,).

    Raises:
        TypeError: A is not floating point.
        ValueError: A is not a matrix, not finite or zero; λ < 0; K < 1; or ``selection`` is not two percentages.

    Equivalent to::

        x = torch.zeros(*y.shape[:-1], n)
        for k in range(layers):
            theta = log_theta[k].exp()
            z = x + log_step[k].exp() * (y - x @ A.mT) @ W.conj()
            passes = fu.reference.largest(z.abs(), support_sizes[k]) & (z.abs() > theta)
            x = torch.where(passes, z, torch.sgn(z) * torch.relu(z.abs() - theta))

    Reference: Liu, Chen, Wang and Yin, *ALISTA: analytic weights are as good as learned weights in LISTA*, 2019.
    """

    def __init__(
        self,
        A: Tensor,
        *,
        layers: int = 16,
        lam: float = 0.1,
        selection: tuple[float, float] | None = (1.2, 13.0),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        A = starting_matrix(A, device, dtype)
        super().__init__(layers, *A.shape)
        step = 1 / spectral_norm(A) ** 2
        lam = _checks.not_negative("lam", lam)
        self._start(A, [step] * layers, [lam * step] * layers, selection)
        self.W = nn.Parameter(A.clone())
