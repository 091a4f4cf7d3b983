"""HyperLISTA: a network with three numbers, which computes momenta, thresholds and supports from each sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import _checks, ops
from .adaptive import AdaptiveNetwork, Described
from .alista import analytic_weights
from .network import starting_matrix


class HyperLISTA(AdaptiveNetwork):
    """K layers x⁺ = P_θ(x − Wᵀ(A x − y) + β (x − x_before)) with only three parameters c₁, c₂, c₃.

    Let r = A x − y, e = ‖A⁺r‖₁, e₀ = ‖A⁺y‖₁, and let μ be the largest off-diagonal |WᵀA|. For each sample and layer,
    θ = c₁ μ e and β = c₂ μ ‖x‖₀, and P does not shrink the ⌊c₃·log(e₀/e)⌋ largest magnitudes if they exceed θ. These
    values depend on the measurements only. The support size has no derivative, so c₃ needs a search. The paper searches
    all three numbers, and so does :func:`fastunroll.training.search`.

    Args:
        A: the matrix (m, n), real, finite and not zero. Its columns should have norms of about 1.
        layers: the number K ≥ 1 of layers.
        c1: the factor of thresholds, ≥ 0.
        c2: the factor of momenta, ≥ 0.
        c3: the factor of support sizes, ≥ 0.
        device: the device of the network. The default is the device of ``A``.
        dtype: the dtype of the network. The default is the dtype of ``A``.

    Attributes:
        A: the matrix (m, n), a buffer.
        W: :func:`fastunroll.nn.analytic_weights` (A), a buffer (m, n).
        pinv: the pseudo-inverse A⁺, a buffer (n, m).
        coherence: μ, a buffer ().
        c: c₁, c₂ and c₃, a parameter (3,). The network uses |c|.

    Raises:
        TypeError: A is not real floating point.
        ValueError: A is not a matrix, not finite or zero; a number is negative; or K < 1.

    Reference: Chen, Liu, Wang and Yin, *Hyperparameter tuning is all you need for LISTA*, 2021.
    """

    tensors = "A", "W", "pinv", "coherence", "c"
    A: Tensor
    W: Tensor
    pinv: Tensor
    coherence: Tensor

    def __init__(
        self,
        A: Tensor,
        *,
        layers: int = 16,
        c1: float = 0.05,
        c2: float = 0.01,
        c3: float = 30.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        A = starting_matrix(A, device, dtype)
        _checks.real("A", A)
        super().__init__(layers, *A.shape)
        c = [_checks.not_negative(name, value) for name, value in (("c1", c1), ("c2", c2), ("c3", c3))]
        W = analytic_weights(A)
        self.register_buffer("A", A.clone())
        self.register_buffer("W", W.contiguous())
        self.register_buffer("pinv", torch.linalg.pinv(A.double()).to(A.dtype).contiguous())
        products = (W.double().mT @ A.double()).fill_diagonal_(0)
        self.register_buffer("coherence", products.abs().max().to(A.dtype))
        self.c = nn.Parameter(A.new_tensor(c))

    def _adaptive(self, depth: int) -> Described:
        wide = torch.promote_types(self.c.dtype, torch.float32)
        c = self.c.to(wide).abs()
        values = torch.cat([c[:2] * self.coherence.to(wide), c[2:]]).expand(depth, 3)
        return ops.AdaptiveSpec(depth, "hyperlista"), [self.A, self.W, self.pinv], values

    def _layer(self, k: int) -> dict[str, float]:
        return {f"c{i + 1}": c for i, c in enumerate(self.c.detach().abs().tolist())}

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, " + ", ".join(f"{k}={v:.4g}" for k, v in self._layer(0).items())
