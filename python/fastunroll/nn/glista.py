"""GLISTA: LISTA with two gates in each layer, a gain before the layer and an overshoot after it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from .. import _checks, ops
from ..operators.dense import spectral_norm
from ..reference_adaptive import GAINS
from .adaptive import AdaptiveNetwork, Described, first_of, rows_of
from .network import Threshold, copies, logarithms, starting_matrix, threshold_size
from .selection import schedule

Gain = Literal["relu", "inverse", "exponential", "sigmoid"]


class GLISTA(AdaptiveNetwork):
    """K layers x̃ = P_θ(g∘x + Wᵀ(y − A(g∘x))), x⁺ = o∘x̃ + (1 − o)∘x with learned gates g and o.

    Thresholds make iterates too small, and the gates correct that. The gain g = 1 + κ·G(D|x|) enlarges x, and small
    elements most. The overshoot o = 1 − a·θ c/(|x̃ − x| + 0.1) extends the step, where c is 1 for shrunk elements of x̃
    and 0 for the others. The network starts as :class:`LISTACPSS`, with κ = a = 0.

    Args:
        A: the matrix (m, n), real, finite and not zero.
        layers: the number K ≥ 1 of layers.
        lam: λ ≥ 0. Thresholds that start at θ = 0 do not learn.
        gain: G(z) is ``"relu"``, relu(1 − z); ``"inverse"``, 0.2/(0.001 + z); ``"exponential"``, e^(−z); or
            ``"sigmoid"``, 1/(1 + e^z).
        tied: whether all layers share W. Other parameters are never shared.
        threshold: ``"scalar"`` for one threshold in each layer, ``"vector"`` for one threshold for each element of x.
        selection: the percentages (p, p_max) of support selection, or None for no selection. Layer k = 0, 1, … does
            not shrink the min(p·(k + 1), p_max) % largest magnitudes if they exceed θ.
        device: the device of the network. The default is the device of ``A``.
        dtype: the dtype of the network. The default is the dtype of ``A``.

    Attributes:
        A: the matrix (m, n), a buffer.
        W: K matrices (m, n), or one if tied.
        log_theta: K logarithms of θ, of shape (1,) or (n,).
        log_D: K logarithms of D, of shape (1,).
        kappa, overshoot: K numbers κ and a, of shape (1,); any sign.

    Raises:
        TypeError: A is not real floating point.
        ValueError: A is not a matrix, not finite or zero; λ < 0; K < 1; an unknown ``gain``; or ``selection`` is not
            two percentages.

    Reference: Wu, Guo, Li and Zhang, *Sparse coding with gated learned ISTA*, 2020.
    """

    tensors = "A", "W", "log_theta", "log_D", "kappa", "overshoot"
    A: Tensor

    def __init__(
        self,
        A: Tensor,
        *,
        layers: int = 16,
        lam: float = 0.1,
        gain: Gain = "relu",
        tied: bool = False,
        threshold: Threshold = "scalar",
        selection: tuple[float, float] | None = (1.2, 13.0),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        A = starting_matrix(A, device, dtype)
        _checks.real("A", A)
        super().__init__(layers, *A.shape)
        _checks.choice("gain", gain, GAINS)
        self.gain, self.tied = gain, _checks.flag("tied", tied)
        self.threshold, self.selection = threshold, selection
        self._support_sizes = schedule(selection, self.layers, self.n)
        step = 1 / spectral_norm(A) ** 2
        theta = _checks.not_negative("lam", lam) * step
        self.register_buffer("A", A.clone())
        self.W = copies(step * A, 1 if tied else layers)
        self.log_theta = logarithms([theta] * layers, A, threshold_size(threshold, self.n))
        self.log_D = logarithms([1.0] * layers, A)
        self.kappa, self.overshoot = (
            nn.ParameterList(nn.Parameter(A.new_zeros(1)) for _ in range(layers)) for _ in range(2)
        )

    def _adaptive(self, depth: int) -> Described:
        form = ops.AdaptiveSpec(depth, "glista", gate=self.gain, support_sizes=self._support_sizes[:depth])
        values = rows_of(depth, self.log_theta, self.log_D, self.kappa, self.overshoot, exponential=2)
        return form, [self.A, *first_of(self.W, depth)], values

    def _layer(self, k: int) -> dict[str, float]:
        row = {"threshold": float(self.log_theta[k].exp().mean()), "kappa": float(self.kappa[k])}
        row |= {"D": float(self.log_D[k].exp()), "overshoot": float(self.overshoot[k])}
        return row | ({"support_size": float(self._support_sizes[k])} if self._support_sizes else {})

    def extra_repr(self) -> str:
        options = f"gain={self.gain!r}, tied={self.tied}, threshold={self.threshold!r}, selection={self.selection}"
        return f"{super().extra_repr()}, {options}"
