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

_RANK = 1e-6  # smaller singular values, relative to the largest, count as zero
_LEAST_NOISE = 1e-8  # the smallest variance of the noise


class LVAMP(AdaptiveNetwork):
    """K layers of VAMP, which alternate a linear estimate and a shrinkage. Each subtracts its input from its output.

    With A = U diag(s) Vᵀ, starting from r₂ = 0 (or x0) and v₂ = ‖y‖²/Σs², a layer computes::

        c = s v₂/(s² v₂ + σ²),  1 − α₂ = Σ s c/n
        r₁ = r₂ + V(c ∘ (Uᵀy − s ∘ Vᵀr₂))/(1 − α₂),  v₁ = v₂ α₂/(1 − α₂)
        x = η(r₁; v₁),  α₁ = mean η′
        r₂ = (x − α₁ r₁)/(1 − α₁),  v₂ = v₁ α₁/(1 − α₁)

    The output is x. Every α is clamped to [½/n, 1 − ½/n] and every variance to [1e-9, 1e9], so nothing overflows. Each
    layer learns the variance σ² of the noise and its shrinkage, see :class:`LAMP`. Without training, the network is
    VAMP. σ² has the units of y², so LVAMP depends on the scale of y. Scale y such that nonzeros of x are about 1.

    Args:
        A: the matrix (m, n), real, finite and not zero.
        layers: the number K ≥ 1 of layers.
        shrinkage: ``"soft"`` or ``"bernoulli-gaussian"``.
        noise: the variance σ² > 0 of the noise in y. Smaller values than 1e-8 are raised to 1e-8.
        alpha: the ratio of soft thresholds to √v₁, > 0.
        density: the share of nonzeros with which Bernoulli–Gaussian shrinkage starts, in (0, 1).
        power: the variance of nonzeros with which Bernoulli–Gaussian shrinkage starts, > 0.
        device: the device of the network. The default is the device of ``A``.
        dtype: the dtype of the network. The default is the dtype of ``A``.

    Attributes:
        A: the matrix (m, n), a buffer.
        Ut, Vt, s: the singular value decomposition of A, buffers (r, m), (r, n) and (r,). r is the numerical rank.
        log_noise: K logarithms of σ², of shape (1,).
        shrinkage: see :class:`LAMP`.

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
