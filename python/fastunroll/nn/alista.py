"""ALISTA: a network with an analytic matrix, which learns a step and a threshold for each layer."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from ..arrays import as_tensor, takes_arrays
from .network import starting_matrix
from .one_matrix import OneMatrixNetwork


@takes_arrays("A")
def analytic_weights(A: Tensor) -> Tensor:
    """Returns the analytic weights W (m, n) of ALISTA, which have a small coherence |w_iᴴa_j| for i ≠ j.

    W minimises ‖WᴴA‖_F subject to w_iᴴa_i = 1. It is (AAᴴ)⁻¹A with scaled columns. If A does not have full row rank,
    the pseudo-inverse replaces the inverse. A zero column stays zero. An array A gives an array of its kind.

    Args:
        A: the matrix (m, n), real or complex.

    Returns:
        W (m, n), in the dtype of A.

    Raises:
        TypeError: A is not floating point.
        ValueError: A is not a matrix.

    Equivalent to, in double precision::

        W = torch.linalg.pinv(A @ A.mH) @ A
        W / (W.conj() * A).sum(0)
    """
    exact = _checks.matrix("A", A).detach().to(torch.complex128 if A.is_complex() else torch.float64)
    W = torch.linalg.pinv(exact @ exact.mH, hermitian=True) @ exact
    scale = (W.conj() * exact).sum(0).real
    return torch.where(scale > 0, W / torch.where(scale > 0, scale, 1.0), 0.0).to(A.dtype)


class ALISTA(OneMatrixNetwork):
    """K layers x⁺ = P_θ(x + t Wᵀ(y − A x)) with W = :func:`analytic_weights` (A). It learns 2K numbers.

    P is the soft threshold, but does not shrink the largest p_k %. It starts with t_k = 1 and θ_k = λ·decay^k.

    Args:
        A: the matrix (m, n), real or complex, finite and not zero. Its columns should have norms of about 1.
        layers: the number K ≥ 1 of layers.
        lam: the first threshold, ≥ 0. From θ = 0 thresholds do not learn.
        decay: the ratio of successive thresholds at the start, in (0, 1]. It should be smaller for less noise: 0.8 for
            a signal-to-noise ratio of 40 dB, 0.7 for data without noise.
        selection: the percentages (p, p_max) of support selection, or None for no selection. Layer k = 0, 1, … does
            not shrink the min(p·(k + 1), p_max) % largest magnitudes if they exceed θ.
        W: another matrix (m, n) in the place of the analytic weights.
        device: the device of the network. The default is the device of ``A``.
        dtype: the real dtype of the network. The default is the dtype of ``A``.

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
        W = as_tensor(W, "W")
        if W is not None and _checks.finite_matrix("W", W).shape != A.shape:
            raise ValueError(f"W must be {_checks.shape_text(A.shape)} as A is, got {_checks.shape_text(W.shape)}")
        self._start(A, [1.0] * layers, [lam * decay**k for k in range(layers)], selection)
        self.register_buffer("W", (analytic_weights(A) if W is None else W.detach().to(A)).clone().contiguous())
