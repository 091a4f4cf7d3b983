"""LAMP: approximate message passing with learned matrices and shrinkage."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from .. import _checks, ops
from .adaptive import AdaptiveNetwork, Described, first_of
from .alista import analytic_weights
from .network import UnrolledNetwork, copies, exponentials, starting_matrix
from .shrinkage import SoftShrinkage, shrinkage_of


class LAMP(AdaptiveNetwork):
    """K layers of AMP: r = x + Wᵀv, x⁺ = η(r; ‖v‖/√m), v⁺ = y − A x⁺ + b v with Onsager's term b = (n/m)·mean η′(r).

    ``shrinkage="soft"``: η = s·S(r), of threshold α‖v‖₂/√m; the K layers are one native call. It starts as exactly AMP,
    W = A and s = 1, for a matrix of unit columns. b is differentiated in s alone, since ‖x‖₀ is piecewise constant.

    ``shrinkage="bernoulli-gaussian"``: η = E[x | r], for x that is zero but for a share ``density``, and there Gaussian
    of variance ``power``; both are learned for each layer.

    Args:
        A: (m, n), finite and not zero; real for Bernoulli–Gaussian shrinkage.
        layers: K ≥ 1.
        shrinkage: ``"soft"`` or ``"bernoulli-gaussian"``.
        alpha: α > 0, thresholds in units of the noise. 1.1402 is the best for 10 % nonzeros and m = n/2.
        density: share of nonzeros that Bernoulli–Gaussian shrinkage starts with, in (0, 1).
        power: their variance, > 0.
        start: ``"adjoint"`` for W = A, or ``"analytic"`` for :func:`fastunroll.nn.analytic_weights`, from where
            training goes further.
        tied: share W between layers; shrinkage is always a layer's own.
        device: where it lives; that of ``A`` by default.
        dtype: its real type; that of ``A`` by default.

    Attributes:
        A: (m, n), a buffer.
        W: K matrices (m, n), or one if tied. In the paper B = Wᵀ.
        shrinkage: with, if soft, K logarithms ``log_alpha`` and ``log_scale`` of α and s; else ``log_power`` of the
            power and ``logit`` of density/(1 − density); of shape (1,).

    Raises:
        TypeError: A is not floating point, or complex with Bernoulli–Gaussian shrinkage.
        ValueError: A is not a matrix, not finite or zero; an unknown ``shrinkage`` or ``start``; a number out of its
            range; or K < 1.

    Equivalent to, with soft shrinkage::

        x, v = torch.zeros(*y.shape[:-1], n), y
        for k in range(layers):
            r = x + v @ W[k].conj()
            theta = shrinkage.log_alpha[k].exp() * v.norm(dim=-1, keepdim=True) / m**0.5
            x = shrinkage.log_scale[k].exp() * torch.sgn(r) * torch.relu(r.abs() - theta)
            v = y - x @ A.mT + shrinkage.log_scale[k].exp() * (x != 0).sum(-1, keepdim=True) / m * v

    Reference: Borgerding, Schniter and Rangan, *AMP-inspired deep networks for sparse linear inverse problems*, 2017.
    """

    tensors = "A", "W", "shrinkage"

    A: Tensor

    def __init__(
        self,
        A: Tensor,
        *,
        layers: int = 16,
        shrinkage: Literal["soft", "bernoulli-gaussian"] = "soft",
        alpha: float = 1.1402,
        density: float = 0.1,
        power: float = 1.0,
        start: Literal["adjoint", "analytic"] = "adjoint",
        tied: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        A = starting_matrix(A, device, dtype)
        super().__init__(layers, *A.shape)
        _checks.choice("start", start, ("adjoint", "analytic"))
        self.tied = _checks.flag("tied", tied)
        self.register_buffer("A", A.clone())
        self.W = copies(A if start == "adjoint" else analytic_weights(A), 1 if tied else layers)
        self.shrinkage = shrinkage_of(shrinkage, self.layers, A, alpha, density, power)

    @property
    def _is_soft(self) -> bool:
        """Whether its thresholds alone follow from the sample, as those of the other native networks do."""
        return isinstance(getattr(self, "shrinkage", None), SoftShrinkage)

    def _run(self, y: Tensor, x0: Tensor | None, depth: int, return_layers: bool) -> Tensor:
        run = UnrolledNetwork._run if self._is_soft else AdaptiveNetwork._run
        return run(self, y, x0, depth, return_layers)

    def _describe(self) -> tuple[Any, Any]:
        if not isinstance(self.shrinkage, SoftShrinkage):
            return super()._describe()
        form = ops.NetworkSpec(self.layers, "gradient", "amp")
        alpha, scale = exponentials(self.shrinkage.log_alpha), exponentials(self.shrinkage.log_scale)
        # A gain is positive, but an exponential may underflow.
        scale = [s.real.clamp(min=torch.finfo(s.real.dtype).tiny) for s in scale]
        return form, ops.Parameters([self.A], [*self.W], (), alpha, scale)

    def _adaptive(self, depth: int) -> Described:
        form = ops.AdaptiveSpec(depth, "lamp", self.shrinkage.prox)
        return form, [self.A, *first_of(self.W, depth)], self.shrinkage.values(depth)

    def _layer(self, k: int) -> dict[str, float]:
        return self.shrinkage.layer(k)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, tied={self.tied}"
