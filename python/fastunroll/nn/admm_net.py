"""ADMM-Net: ADMM with learned penalties, thresholds and relaxation, and perhaps learned linear solves."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from .. import _checks, ops
from .._precision import own_precision
from ..products import product
from .network import UnrolledNetwork, copies, exponentials, logarithms, starting_matrix

Solve = Literal["exact", "factorised", "learned"]


def solving_matrix(A: Tensor, rho: Tensor) -> Tensor:
    """W = (AAᴴ + ρI)⁻¹A by a Cholesky factorisation: the x-update of ADMM is q + Wᴴ(y − A q). Differentiable.

    NaN where there is no factorisation; zero where ρ is infinite, which only a limit says.
    """
    wide = A.to(torch.promote_types(A.dtype, torch.float32))  # there is none in half precision
    eye = torch.eye(A.shape[0], dtype=wide.dtype, device=A.device)
    infinite = rho.isinf()
    with own_precision(A):
        factor, failed = torch.linalg.cholesky_ex(wide @ wide.mH + torch.where(infinite, 1, rho) * eye)
        W = torch.cholesky_solve(wide, torch.where(failed == 0, factor, math.nan))
    return torch.where(infinite, 0, W).to(A.dtype).contiguous()


def eigenvalues(A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """AAᴴ = Q diag(λ) Qᴴ as Q, λ and B = QᴴA: (AAᴴ + ρI)⁻¹A is Q diag(1/(λ + ρ)) B for every ρ.

    NaN where A is not finite.
    """
    wide = A.to(torch.promote_types(A.dtype, torch.float32))
    with own_precision(A):
        gram = wide @ wide.mH
        finite = gram.isfinite().all()
        found, Q = torch.linalg.eigh(torch.where(finite, gram, torch.eye(len(A), dtype=gram.dtype, device=A.device)))
        Q = torch.where(finite, Q, math.nan)
        B = Q.mH @ wide
    return Q.to(A.dtype).contiguous(), found.clamp(min=0), B.to(A.dtype).contiguous()


class ADMMNet(UnrolledNetwork):
    """K layers of ADMM on ½‖A v − y‖² + λ‖x‖₁ with v = x, the scaled dual variable u, and learned ρ_k, η_k, θ_k.

    v = argmin ½‖A v − y‖² + ρ/2‖v − q‖² at q = x − u; x⁺ = S_θ(v + u); u⁺ = u + η (v − x⁺). The output is x.

    It starts as exactly ADMM: ρ as given, η = 1, θ = λ/ρ. The linear solve v = q + Wᵀ(y − A q), W = (AAᵀ + ρI)⁻¹A is

    - ``"exact"``: by the singular value decomposition of A, made once; ρ_k is learned at no cost;
    - ``"factorised"``: by the eigenvalues of AAᵀ, which are found again when A has changed: the same numbers;
    - ``"learned"``: W_k are parameters, which start from the factorised ones. ρ_k then has no further role.

    Args:
        A: (m, n), real or complex, finite and not zero.
        layers: K ≥ 1.
        lam: λ ≥ 0. From θ = 0 thresholds do not learn.
        rho: ρ > 0.
        eta: η > 0, the relaxation of the dual step; ADMM converges for η < (1 + √5)/2.
        solve: see above.
        device: where it lives; that of ``A`` by default.
        dtype: its real type; that of ``A`` by default.

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
        self.solve = solve
        self.register_buffer("A", A.clone())
        exact = A.to(torch.complex128 if A.is_complex() else torch.float64)
        if solve == "exact":
            U, s, Vh = torch.linalg.svd(exact, full_matrices=False)
            for name, value in {"U": U, "s": s, "Vh": Vh, "sVh": s[:, None] * Vh}.items():
                self.register_buffer(name, value.to(A.dtype if value.is_complex() else A.real.dtype).contiguous())
        if solve == "learned":
            self.W = copies(solving_matrix(exact, torch.tensor(rho, dtype=torch.float64)).to(A.dtype), layers)
        else:
            self.log_rho = logarithms([rho] * layers, A)
        of_solve = {"exact": ("sVh", "Vh", "s", "log_rho"), "factorised": ("A", "log_rho"), "learned": ("A", "W")}
        self.tensors = (*of_solve[solve], "log_theta", "log_eta")
        self.log_eta = logarithms([eta] * layers, A)
        self.log_theta = logarithms([lam / rho] * layers, A)

    def _describe(self) -> tuple[ops.Form, ops.Parameters]:
        form = ops.Form(self.layers, "coupled", "splitting")
        theta, eta = exponentials(self.log_theta), exponentials(self.log_eta)
        if self.solve == "learned":
            return form, ops.Parameters([self.A], [*self.W], (), theta, (), eta)
        rho = exponentials(self.log_rho)
        if self.solve == "factorised":
            _, found, B = self._eigenvalues()
            real = B.real.dtype if B.is_complex() else B.dtype
            step = [(1 / (found + (r.real if r.is_complex() else r))).to(real) for r in rho]
            return form, ops.Parameters([B], [], step, theta, (), eta)
        s = self.s.to(torch.promote_types(self.s.dtype, torch.float32))
        step = [(s / (s.square() + r)).to(self.s.dtype) for r in rho]
        return form, ops.Parameters([self.sVh], [self.Vh], step, theta, (), eta)

    def _eigenvalues(self) -> tuple[Tensor, Tensor, Tensor]:
        A = self.A
        if ops.is_observed() or ops.differentiable(A) or not (ops.is_plain(A) and A.is_contiguous()):
            return eigenvalues(A)
        with torch.no_grad():
            return ops.kept("eigenvalues", [A], lambda: eigenvalues(A))

    def _measured(self, y: Tensor) -> Tensor:
        if self.solve == "learned":
            return y
        return product(y, self.U if self.solve == "exact" else self._eigenvalues()[0], adjoint=True)

    def _layer(self, k: int) -> dict[str, float]:
        rho = {} if self.solve == "learned" else {"rho": float(self.log_rho[k].exp())}
        return {**rho, "relaxation": float(self.log_eta[k].exp()), "threshold": float(self.log_theta[k].exp())}

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, solve={self.solve!r}"
