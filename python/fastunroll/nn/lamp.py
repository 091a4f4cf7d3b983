"""LAMP: approximate message passing with learned matrices and shrinkage."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from .. import _checks, ops
from ..engine.layers import Pieces
from ..prox import L1
from ..schemes import AMP
from ..steps import GradientStep
from .adaptive import AdaptiveNetwork, Described, first_of
from .alista import analytic_weights
from .network import UnrolledNetwork, copies, entries, exponentials, starting_matrix
from .shrinkage import SoftShrinkage, shrinkage_of


class LAMP(AdaptiveNetwork):
    """K layers of AMP: r = x + Wᵀv, x⁺ = η(r; ‖v‖/√m), v⁺ = y − A x⁺ + b v with b = (n/m)·mean η′(r).

    The term b v is the Onsager correction.

    With ``shrinkage="soft"``, η = s·S_θ(r) with the threshold θ = α‖v‖₂/√m. For a matrix with columns of norm 1 the
    network starts exactly as AMP, with W = A and s = 1. Gradients treat ‖x‖₀ in b as a constant, because it is
    piecewise constant.

    With ``shrinkage="bernoulli-gaussian"``, η = E[x | r] for an x whose elements are nonzero with the probability
    ``density`` and then Gaussian with the variance ``power``. Each layer learns both numbers.

    Args:
        A: (m, n), finite and not zero; real for Bernoulli–Gaussian shrinkage.
        layers: the number K ≥ 1 of layers.
        shrinkage: ``"soft"`` or ``"bernoulli-gaussian"``.
        alpha: the ratio α > 0 of thresholds to the noise level. 1.1402 is the best for 10 % nonzeros and m = n/2.
        density: the share of nonzeros with which Bernoulli–Gaussian shrinkage starts, in (0, 1).
        power: the variance of nonzeros with which Bernoulli–Gaussian shrinkage starts, > 0.
        start: ``"adjoint"`` for W = A, or ``"analytic"`` for :func:`fastunroll.nn.analytic_weights`, from which
            training reaches smaller errors.
        tied: whether all layers share W. The shrinkage is never shared.
        device: the device of the network. The default is the device of ``A``.
        dtype: the real dtype of the network. The default is the dtype of ``A``.

    Attributes:
        A: the matrix (m, n), a buffer.
        W: K matrices (m, n), or one if tied. In the paper B = Wᵀ.
        shrinkage: a module with K parameters of shape (1,) in each of two lists. Soft shrinkage has the logarithms
            ``log_alpha`` of α and ``log_scale`` of s. Bernoulli–Gaussian shrinkage has the logarithms ``log_power`` of
            the power and ``logit`` of density/(1 − density).

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
        if self._is_soft:
            self.prox = L1()

    @property
    def _is_soft(self) -> bool:
        """Whether the shrinkage is soft, so that the kernels for fixed shrinkage can run the network."""
        return isinstance(getattr(self, "shrinkage", None), SoftShrinkage)

    def _run(self, y: Tensor, x0: Tensor | None, depth: int, return_layers: bool) -> Tensor:
        run = UnrolledNetwork._run if self._is_soft else AdaptiveNetwork._run
        return run(self, y, x0, depth, return_layers)

    def pieces(self) -> Pieces:
        if not isinstance(self.shrinkage, SoftShrinkage):
            return super().pieces()
        alpha, scale = exponentials(self.shrinkage.log_alpha), exponentials(self.shrinkage.log_scale)
        # A gain must be positive, but the exponential may underflow.
        gain = [s.real.clamp(min=torch.finfo(s.real.dtype).tiny) for s in scale]
        return self._pieces(GradientStep(self.A, entries(self.W)), AMP(), alpha, gain)

    def _describe(self) -> tuple[Any, Any, Tensor | None]:
        return (UnrolledNetwork if self._is_soft else AdaptiveNetwork)._describe(self)

    def _adaptive(self, depth: int) -> Described:
        form = ops.AdaptiveSpec(depth, "lamp", self.shrinkage.prox)
        return form, [self.A, *first_of(self.W, depth)], self.shrinkage.values(depth)

    def _layer(self, k: int) -> dict[str, float]:
        return self.shrinkage.layer(k)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, tied={self.tied}"
