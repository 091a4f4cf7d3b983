"""LISTACP: LISTA with coupled weights."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks, ops
from ..operators.dense import spectral_norm
from .network import Threshold, UnrolledNetwork, copies, exponentials, logarithms, starting_matrix, threshold_size
from .selection import schedule


class LISTACP(UnrolledNetwork):
    """K layers x⁺ = S_θ(x + Wᵀ(y − A x)): LISTA whose matrices are coupled through A, which a good network needs.

    It starts as exactly ISTA on ½‖A x − y‖² + λ‖x‖₁: W = A/‖A‖², θ = λ/‖A‖².

    Args:
        A: (m, n), real or complex, finite and not zero.
        layers: K ≥ 1.
        lam: λ ≥ 0. From θ = 0 thresholds do not learn.
        tied: share W between layers; thresholds are always a layer's own.
        threshold: ``"scalar"`` for one threshold a layer, ``"vector"`` for one a coordinate and layer.
        device: where it lives; that of ``A`` by default.
        dtype: its real type; that of ``A`` by default.

    Attributes:
        A: (m, n), a buffer.
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
        self.tied, self.threshold = _checks.flag("tied", tied), threshold
        step = 1 / spectral_norm(A) ** 2
        theta = _checks.not_negative("lam", lam) * step
        self.register_buffer("A", A.clone())
        self.W = copies(step * A, 1 if tied else layers)
        self.log_theta = logarithms([theta] * layers, A, threshold_size(threshold, self.n))

    def _describe(self) -> tuple[ops.NetworkSpec, ops.Parameters]:
        form = ops.NetworkSpec(self.layers, "gradient", support_sizes=schedule(self.selection, self.layers, self.n))
        return form, ops.Parameters([self.A], [*self.W], (), exponentials(self.log_theta))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, tied={self.tied}, threshold={self.threshold!r}"
