"""LVAMP: vector approximate message passing with learned noise and shrinkage, for ill-conditioned matrices too."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from .. import _checks, ops
from ..reference_adaptive import MOST_VARIANCE
from .adaptive import AdaptiveNetwork, Described, rows_of
from .network import logarithms, starting_matrix
from .shrinkage import shrinkage_of

_RANK = 1e-6  # of the largest singular value, below which one counts as zero
_LEAST_NOISE = 1e-8  # of the variance of the noise


class LVAMP(AdaptiveNetwork):
    """K layers of VAMP: a linear estimate and a shrinkage in turn, each of which subtracts what it was told before.

    With A = U diag(s) Vᵀ, from r₂ = 0 (or x0) and v₂ = ‖y‖²/Σs²::

        c = s v₂/(s² v₂ + σ²),  1 − α₂ = Σ s c/n
        r₁ = r₂ + V(c ∘ (Uᵀy − s ∘ Vᵀr₂))/(1 − α₂),  v₁ = v₂ α₂/(1 − α₂)
        x = η(r₁; v₁),  α₁ = mean η′
        r₂ = (x − α₁ r₁)/(1 − α₁),  v₂ = v₁ α₁/(1 − α₁)

    The output is x. Every α is kept in [½/n, 1 − ½/n] and every variance in [1e-9, 1e9], so nothing overflows.
    σ² of the noise and the shrinkage are learned for each layer; both are as in :class:`LAMP`, and without training it
    is VAMP. σ² is in the units of y², so LVAMP depends on the scale of y: bring y to the scale that nonzeros of x are
    about 1.

    Args:
        A: (m, n), real, finite and not zero.
        layers: K ≥ 1.
        shrinkage: ``"soft"`` or ``"bernoulli-gaussian"``.
        noise: σ² > 0, the variance of the noise in y; at least 1e-8 is taken.
        alpha: > 0, soft thresholds in units of √v₁.
        density: share of nonzeros that Bernoulli–Gaussian shrinkage starts with, in (0, 1).
        power: their variance, > 0.
        device: where it lives; that of ``A`` by default.
        dtype: its type; that of ``A`` by default.

    Attributes:
        A, Ut, Vt, s: (m, n), (r, m), (r, n), (r,): buffers; r is the numerical rank.
        log_noise: K logarithms of σ², of shape (1,).
        shrinkage: as in :class:`LAMP`.

    Raises:
        TypeError: A is not real floating point.
        ValueError: A is not a matrix, not finite or zero; an unknown ``shrinkage``; a number out of its range; K < 1.

    Reference: Borgerding, Schniter and Rangan, *AMP-inspired deep networks for sparse linear inverse problems*, 2017;
    Rangan, Schniter and Fletcher, *Vector approximate message passing*, 2019.
    """

    tensors = "Ut", "Vt", "s", "log_noise", "shrinkage"
    A: Tensor
    Ut: Tensor
    Vt: Tensor
    s: Tensor

    def __init__(
        self,
        A: Tensor,
        *,
        layers: int = 16,
        shrinkage: Literal["soft", "bernoulli-gaussian"] = "soft",
        noise: float = 1e-4,
        alpha: float = 1.1402,
        density: float = 0.1,
        power: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        A = starting_matrix(A, device, dtype)
        _checks.real("A", A)
        super().__init__(layers, *A.shape)
        U, s, Vt = torch.linalg.svd(A.double(), full_matrices=False)
        kept = s > _RANK * s[0]
        self.register_buffer("A", A.clone())
        for name, value in {"Ut": U[:, kept].mT, "Vt": Vt[kept], "s": s[kept]}.items():
            self.register_buffer(name, value.to(A.dtype).contiguous())
        self.log_noise = logarithms([max(_checks.positive("noise", noise), _LEAST_NOISE)] * layers, A)
        self.shrinkage = shrinkage_of(shrinkage, self.layers, A, alpha, density, power)

    def _adaptive(self, depth: int) -> Described:
        noise = _within(rows_of(depth, self.log_noise), _LEAST_NOISE, MOST_VARIANCE).exp()
        form = ops.AdaptiveSpec(depth, "lvamp", self.shrinkage.prox)
        return form, [self.Ut, self.Vt, self.s.unsqueeze(0)], torch.cat([noise, self.shrinkage.values(depth)], dim=1)

    def _layer(self, k: int) -> dict[str, float]:
        return {"noise": float(self.log_noise[k].exp()), **self.shrinkage.layer(k)}

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={len(self.s)}"


def _within(log: Tensor, least: float, most: float) -> Tensor:
    """``log`` kept between the logarithms of ``least`` and ``most``; its gradient beyond them is that at the bound.

    A gradient of zero would leave a parameter that training has once pushed too far where it is for ever.
    """
    return log + (log.clamp(math.log(least), math.log(most)) - log).detach()
