"""ADMM-Net: ADMM with learned penalties, thresholds and relaxation, and optionally with learned linear solves."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .. import _checks
from ..engine.layers import Pieces
from ..prox import L1
from ..schemes import ADMM
from ..steps import SVD, DataStep, GradientStep, solving_matrix
from .network import UnrolledNetwork, copies, entries, exponentials, logarithms, starting_matrix

Solve = Literal["exact", "factorised", "learned"]


class ADMMNet(UnrolledNetwork):
    """K layers of ADMM on ½‖A v − y‖² + λ‖x‖₁ with v = x, the scaled dual variable u, and learned ρ_k, η_k, θ_k.

    A layer computes v = argmin ½‖A v − y‖² + ρ/2‖v − q‖² with q = x − u, then x⁺ = S_θ(v + u), and then
    u⁺ = u + η (v − x⁺). The output is x.

    The network starts exactly as ADMM, with the given ρ, η = 1 and θ = λ/ρ. The linear solve is v = q + Wᵀ(y − A q)
    with W = (AAᵀ + ρI)⁻¹A. The option ``solve`` has three methods:

    - ``"exact"`` uses a singular value decomposition of A, which is computed once. Learning ρ_k costs nothing.
    - ``"factorised"`` computes the decomposition again when A changes. If A learns, or if the network is compiled, it
      computes a Cholesky factorisation of AAᵀ + ρ_k I for each layer and call.
    - ``"learned"`` makes W_k parameters, which start from the factorised matrices. ρ_k has no effect after the start.

    Args:
        A: the matrix (m, n), real or complex, finite and not zero.
        layers: the number K ≥ 1 of layers.
        lam: λ ≥ 0. Thresholds that start at θ = 0 do not learn.
        rho: ρ > 0.
        eta: η > 0, the relaxation of the dual step; ADMM converges for η < (1 + √5)/2.
        solve: the method of the linear solve, see above.
        device: the device of the network. The default is the device of ``A``.
        dtype: the real dtype of the network. The default is the dtype of ``A``.

    Attributes:
        A: (m, n), a buffer. For exact solves, with r = min(m, n): U (m, r), s (r,), Vh (r, n), A = U diag(s) Vh.
        log_rho, log_eta, log_theta: K logarithms of ρ_k, η_k, θ_k, of shape (1,). No ``log_rho`` where solves are
            learned, but:
        W: K matrices (m, n).

    Raises:
        TypeError: A is not floating point.
        ValueError: A is not a matrix, not finite or zero; λ < 0; ρ ≤ 0; η ≤ 0; K < 1; or an unknown ``solve``.

    Equivalent to::

        x = u = torch.zeros(*y.shape[:-1], n)
        for k in range(layers):
            W = torch.linalg.solve(A @ A.mH + log_rho[k].exp() * torch.eye(m), A)
            v = (x - u) + (y - (x - u) @ A.mT) @ W.conj()
            x = torch.sgn(v + u) * torch.relu((v + u).abs() - log_theta[k].exp())
            u = u + log_eta[k].exp() * (v - x)

    References: Boyd et al., *Distributed optimization and statistical learning via ADMM*, 2011; Yang, Sun, Li and Xu,
    *Deep ADMM-Net for compressive sensing MRI*, 2016.
    """

    A: Tensor
    U: Tensor
    s: Tensor
    Vh: Tensor
    sVh: Tensor

    def __init__(
        self,
        A: Tensor,
        *,
        layers: int = 16,
        lam: float = 0.1,
        rho: float = 1.0,
        eta: float = 1.0,
        solve: Solve = "exact",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        A = starting_matrix(A, device, dtype)
        super().__init__(layers, *A.shape)
        lam = _checks.not_negative("lam", lam)
        rho, eta = _checks.positive("rho", rho), _checks.positive("eta", eta)
        _checks.choice("solve", solve, ("exact", "factorised", "learned"))
        self.solve, self.prox = solve, L1()
        self.register_buffer("A", A.clone())
        if solve == "exact":
            svd = SVD.of(A)
            assert svd is not None  # a starting matrix is finite
            for name, value in svd._asdict().items():
                self.register_buffer(name, value)
        if solve == "learned":
            exact = A.to(torch.complex128 if A.is_complex() else torch.float64)
            self.W = copies(solving_matrix(exact, torch.tensor(rho, dtype=torch.float64)).to(A.dtype), layers)
        else:
            self.log_rho = logarithms([rho] * layers, A)
        of_solve = {"exact": ("U", "sVh", "Vh", "s", "log_rho"), "factorised": ("A", "log_rho"), "learned": ("A", "W")}
        self.tensors = (*of_solve[solve], "log_theta", "log_eta")
        self.log_eta = logarithms([eta] * layers, A)
        self.log_theta = logarithms([lam / rho] * layers, A)

    def pieces(self) -> Pieces:
        linear: GradientStep | DataStep
        if self.solve == "learned":
            linear = GradientStep(self.A, entries(self.W))
        else:
            svd = SVD(self.U, self.s, self.Vh, self.sVh) if self.solve == "exact" else None
            linear = DataStep(self.A, exponentials(self.log_rho), svd)
        return self._pieces(linear, ADMM(exponentials(self.log_eta)))

    def _layer(self, k: int) -> dict[str, float]:
        rho = {} if self.solve == "learned" else {"rho": float(self.log_rho[k].exp())}
        return {**rho, "relaxation": float(self.log_eta[k].exp()), "threshold": float(self.log_theta[k].exp())}

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, solve={self.solve!r}"
