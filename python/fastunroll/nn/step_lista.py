"""StepLISTA: ISTA with learned step sizes."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from ..engine.layers import Pieces
from ..operators.dense import spectral_norm
from ..prox import L1
from ..steps import GradientStep
from .network import UnrolledNetwork, exponentials, logarithms, starting_matrix


class StepLISTA(UnrolledNetwork):
    """K layers x⁺ = S_{λt}(x − t Aᵀ(A x − y)), which learn only their steps t_k.

    With any steps, each layer is a proximal gradient step on ½‖A x − y‖² + λ‖x‖₁, so it does not change a solution. The
    network starts exactly as ISTA, with t_k = 1/‖A‖².

    Args:
        A: the matrix (m, n), real or complex, finite and not zero.
        layers: the number K ≥ 1 of layers.
        lam: λ ≥ 0.
        device: the device of the network. The default is the device of ``A``.
        dtype: the real dtype of the network. The default is the dtype of ``A``.

    Attributes:
        A: the matrix (m, n), a buffer.
        log_step: K logarithms of t_k, of shape (1,).

    Raises:
        TypeError: A is not floating point.
        ValueError: A is not a matrix, not finite or zero; λ < 0; or K < 1.

    Equivalent to::

        x = torch.zeros(*y.shape[:-1], n)
        for k in range(layers):
            t = log_step[k].exp()
            z = x - t * (x @ A.mT - y) @ A.conj()
            x = torch.sgn(z) * torch.relu(z.abs() - lam * t)

    Reference: Ablin, Moreau, Massias and Gramfort, *Learning step sizes for unfolded sparse coding*, 2019.
    """

    A: Tensor

    tensors = "A", "log_step"

    def __init__(
        self,
        A: Tensor,
        *,
        layers: int = 16,
        lam: float = 0.1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        A = starting_matrix(A, device, dtype)
        super().__init__(layers, *A.shape)
        self.prox = L1()
        self.lam = _checks.not_negative("lam", lam)
        self.register_buffer("A", A.clone())
        self.log_step = logarithms([1 / spectral_norm(A) ** 2] * layers, A)

    def pieces(self) -> Pieces:
        step = exponentials(self.log_step)
        return self._pieces(GradientStep(self.A, step=step), theta=[self.lam * t for t in step])

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, lam={self.lam:g}"
