"""ALISTA: an analytic matrix; only a step and a threshold a layer are learned."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from .network import starting_matrix
from .one_matrix import OneMatrixNetwork


def analytic_weights(A: Tensor) -> Tensor:
    """W = (AAᴴ)⁻¹A with columns scaled so that w_iᴴa_i = 1: small |w_iᴴa_j| for i ≠ j, (m, n).

    The minimum of ‖WᴴA‖_F under that constraint. Where A has not full row rank the pseudo-inverse takes the place of
    the inverse; a zero column stays zero.
    """
    exact = A.detach().to(torch.complex128 if A.is_complex() else torch.float64)
    W = torch.linalg.pinv(exact @ exact.mH, hermitian=True) @ exact
    scale = (W.conj() * exact).sum(0).real
    return torch.where(scale > 0, W / torch.where(scale > 0, scale, 1.0), 0.0).to(A.dtype)


class ALISTA(OneMatrixNetwork):
    """K layers x⁺ = P_θ(x + t Wᵀ(y − A x)) with W = :func:`analytic_weights` (A): 2K numbers are learned.

    P is the soft threshold that lets the largest p_k % pass. It starts with t_k = 1 and θ_k = λ·decay^k.

    Args:
        A: (m, n), real or complex, finite and not zero. W supposes columns of about unit norm.
        layers: K ≥ 1.
        lam: the first threshold, ≥ 0. From θ = 0 thresholds do not learn.
        decay: of the thresholds it starts with, in (0, 1]. The less noise, the smaller: 0.8 suits a signal-to-noise
            ratio of 40 dB, 0.7 data without noise.
        selection: percentages (p, p_max): in layer k = 0, 1, … the min(p·(k + 1), p_max) % largest magnitudes that
            exceed θ pass as they are. None for none.
        W: the matrix, if not the analytic one.
        device: where it lives; that of ``A`` by default.
        dtype: its real type; that of ``A`` by default.

    Attributes:
        A, W: (m, n), buffers.
        log_step, log_theta: K logarithms of t_k and θ_k, of shape (1,).

    Raises:
        TypeError: A is not floating point.
        ValueError: A is not a matrix, not finite or zero; λ < 0; K < 1; ``decay`` is not in (0, 1]; ``selection`` is
            not two percentages; or W does not have the shape of A.

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
        lam: float = 0.5,
        decay: float = 0.8,
        selection: tuple[float, float] | None = (1.2, 13.0),
        W: Tensor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        A = starting_matrix(A, device, dtype)
        super().__init__(layers, *A.shape)
        decay = _checks.share("decay", decay)
        lam = _checks.not_negative("lam", lam)
        if W is not None and _checks.finite_matrix("W", W).shape != A.shape:
            raise ValueError(f"W must be {_checks.shape_text(A.shape)} as A is, got {_checks.shape_text(W.shape)}")
        self._start(A, [1.0] * layers, [lam * decay**k for k in range(layers)], selection)
        self.register_buffer("W", (analytic_weights(A) if W is None else W.detach().to(A)).clone().contiguous())
