"""LFISTA: FISTA with learned matrices, thresholds and momentum."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import _checks
from ..engine.layers import Pieces
from ..prox import L1
from ..schemes import FISTA, beck_teboulle
from ..steps import AffineStep
from .affine import AffineNetwork
from .network import Threshold, entries, logarithms, starting_matrix, threshold_size


class LFISTA(AffineNetwork):
    """K layers x⁺ = S_θ(W₁ y + W₂ v), v = x + β (x − x_before). The momentum β is a skip connection over a layer.

    It starts exactly as FISTA on ½‖A x − y‖² + λ‖x‖₁: W₁ = Aᵀ/L, W₂ = I − AᵀA/L, θ = λ/L with L = ‖A‖², and
    β_k = (t_k − 1)/t_{k+1} with t₁ = 1, t_{k+1} = (1 + √(1 + 4 t_k²))/2.

    Args:
        A: the matrix (m, n), real or complex, finite and not zero.
        layers: the number K ≥ 1 of layers.
        lam: λ ≥ 0. Thresholds that start at θ = 0 do not learn.
        tied: whether all layers share W₁ and W₂. Thresholds and momenta are never shared.
        threshold: ``"scalar"`` for one threshold in each layer, ``"vector"`` for one threshold for each element of x.
        device: the device of the network. The default is the device of ``A``.
        dtype: the real dtype of the network. The default is the dtype of ``A``.

    Attributes:
        W1: K matrices (n, m), or one if tied.
        W2: K matrices (n, n), or one if tied. W₂ of the first layer has no effect without ``x0``.
        log_theta: K logarithms of θ, of shape (1,) or (n,).
        beta: K numbers β of any sign, of shape (1,). The first has no effect, because x_before is x0.

    Raises:
        TypeError: A is not floating point.
        ValueError: A is not a matrix, not finite or zero; λ < 0; or K < 1.

    Equivalent to::

        x = before = torch.zeros(*y.shape[:-1], n)
        for k in range(layers):
            z = y @ W1[k].mT + (x + beta[k] * (x - before)) @ W2[k].mT
            x, before = torch.sgn(z) * torch.relu(z.abs() - log_theta[k].exp()), x

    References: Beck and Teboulle 2009 (FISTA); Moreau and Bruna, *Understanding neural sparse coding with matrix
    factorization*, 2017 (L-FISTA).
    """

    tensors = "W1", "W2", "log_theta", "beta"

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
        self.prox = L1()
        theta = self._start(A, tied, threshold) * _checks.not_negative("lam", lam)
        self.log_theta = logarithms([theta] * layers, A, threshold_size(threshold, self.n))
        like = self.log_theta[0].detach()
        self.beta = nn.ParameterList(nn.Parameter(like.new_tensor([beta])) for beta in beck_teboulle(layers))

    def pieces(self) -> Pieces:
        return self._pieces(AffineStep(entries(self.W1), entries(self.W2)), FISTA(entries(self.beta)))
