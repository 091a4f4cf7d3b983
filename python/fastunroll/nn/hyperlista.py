"""HyperLISTA: three hyper-parameters in all; momentum, thresholds and supports follow from each sample."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .. import _checks, ops
from ..products import product
from .alista import analytic_weights
from .network import starting_matrix
from .stepwise import StepwiseNetwork


class HyperLISTA(StepwiseNetwork):
    """K layers x⁺ = P_θ(x − Wᵀ(A x − y) + β (x − x_before)), of which three numbers c₁, c₂, c₃ decide everything.

    With r = A x − y, e = ‖A⁺r‖₁, e₀ = ‖A⁺y‖₁, and μ the largest off-diagonal |WᵀA|, for each sample and layer:
    θ = c₁ μ e, β = c₂ μ ‖x‖₀, and P lets the ⌊c₃·log(e₀/e)⌋ largest magnitudes that exceed θ pass unshrunk. It sees
    measurements only, never the truth. The number that pass has no derivative, so c₃ is found by search, as the paper
    finds all three: :func:`fastunroll.training.search`.

    Args:
        A: (m, n), real, finite and not zero. W supposes columns of about unit norm.
        layers: K ≥ 1.
        c1: of thresholds, ≥ 0.
        c2: of momentum, ≥ 0.
        c3: of support selection, ≥ 0.
        device: where it lives; that of ``A`` by default.
        dtype: its type; that of ``A`` by default.

    Attributes:
        A, W, pinv, coherence: (m, n), (m, n), (n, m), (): buffers; W = :func:`fastunroll.nn.analytic_weights` (A), A⁺
            and μ.
        c: (3,), learned as it is; used as |c|.

    Raises:
        TypeError: A is not real floating point.
        ValueError: A is not a matrix, not finite or zero; a number is negative; or K < 1.

    Reference: Chen, Liu, Wang and Yin, *Hyperparameter tuning is all you need for LISTA*, 2021.
    """

    A: Tensor
    W: Tensor
    pinv: Tensor
    coherence: Tensor

    def __init__(
        self,
        A: Tensor,
        *,
        layers: int = 16,
        c1: float = 0.05,
        c2: float = 0.01,
        c3: float = 30.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        A = starting_matrix(A, device, dtype)
        _checks.real("A", A)
        super().__init__(layers, *A.shape)
        c = [_checks.not_negative(name, value) for name, value in (("c1", c1), ("c2", c2), ("c3", c3))]
        W = analytic_weights(A)
        self.register_buffer("A", A.clone())
        self.register_buffer("W", W.contiguous())
        self.register_buffer("pinv", torch.linalg.pinv(A.double()).to(A.dtype).contiguous())
        products = (W.double().mT @ A.double()).fill_diagonal_(0)
        self.register_buffer("coherence", products.abs().max().to(A.dtype))
        self.c = nn.Parameter(A.new_tensor(c))

    def _iterates(self, y: Tensor, x: Tensor) -> Iterator[Tensor]:
        A, W, pinv, coherence = (t.to(y.dtype) for t in (self.A, self.W, self.pinv, self.coherence))
        c1, c2, c3 = self.c.to(y.dtype).abs().unbind()
        at_start = _magnitude(product(y, pinv))
        before = x
        for _ in range(self.layers):
            r = product(x, A, start=-y)
            error = _magnitude(product(r, pinv))
            gained = torch.log((at_start / error).detach()).nan_to_num(0.0)  # finite; 0 for 0/0
            count = (c3.detach() * gained).clamp(0, self.n).floor()
            momentum = c2 * coherence * (x != 0).sum(-1, keepdim=True).to(x.dtype)
            z = x - product(r, W, adjoint=True) + momentum * (x - before)
            theta = (c1 * coherence * error).to(x.dtype)
            selected = _select(z, theta, count.nan_to_num(0.0).long())
            x, before = torch.where(count.isnan(), count.to(x.dtype), selected), x
            yield x

    def _layer(self, k: int) -> dict[str, float]:
        return {f"c{i + 1}": c for i, c in enumerate(self.c.detach().abs().tolist())}

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, " + ", ".join(f"{k}={v:.4g}" for k, v in self._layer(0).items())


def _magnitude(t: Tensor) -> Tensor:
    """‖t‖₁ of each sample, (..., 1), in double precision, where a sum of large numbers does not overflow."""
    return t.abs().sum(-1, keepdim=True, dtype=torch.float64)


def _select(z: Tensor, theta: Tensor, count: Tensor) -> Tensor:
    """The soft threshold that lets the ``count`` largest pass, (..., 1) of a sample's own, and all that equal them."""
    size, n = z.detach().abs(), z.shape[-1]
    # As many as any sample needs; what compiles, traces or transforms this has to know beforehand.
    most = n if ops.is_observed() or not count.numel() else max(1, int(count.max()))
    ordered = size.topk(most, dim=-1).values
    least = torch.where(count > 0, ordered.gather(-1, (count - 1).clamp(min=0)), torch.inf)
    passes = (size >= least) & (size > theta.detach())
    return torch.where(passes, z, torch.sign(z) * torch.relu(z.abs() - theta))
