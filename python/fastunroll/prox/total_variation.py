"""Total variation, a prior for pictures with few edges."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks
from .proximal import Proximal


def differences(x: Tensor) -> Tensor:
    """D x: what each pixel lacks of its neighbour below and of its neighbour to the right; zero at the last ones.

    (..., H, W) to (2, ..., H, W).
    """
    down, right = torch.zeros_like(x), torch.zeros_like(x)
    down[..., :-1, :] = x[..., 1:, :] - x[..., :-1, :]
    right[..., :-1] = x[..., 1:] - x[..., :-1]
    return torch.stack([down, right])


def differences_adjoint(p: Tensor) -> Tensor:
    """Dᵀ p: (2, ..., H, W) to (..., H, W)."""
    down, right = p
    x = torch.zeros_like(down)
    x[..., :-1, :] -= down[..., :-1, :]
    x[..., 1:, :] += down[..., :-1, :]
    x[..., :-1] -= right[..., :-1]
    x[..., 1:] += right[..., :-1]
    return x


class TotalVariation(Proximal):
    """R(x) = Σ √(down² + right²), over the differences of each pixel of (..., H, W) to the ones below and right of it.

    prox_θ(z) has no closed form: it is z − Dᵀp, where p minimises ½‖z − Dᵀp‖² over √(down² + right²) ≤ θ at each pixel,
    found by ``inner_iterations`` of accelerated projected gradients from p = 0. Real or complex.

    Args:
        inner_iterations: how many, ≥ 1; 20 come within about 1 % of θ.

    Raises:
        ValueError: ``inner_iterations`` is no whole number ≥ 1, or z has fewer than two dimensions.

    Equivalent to::

        p = q = 0
        for beta in momenta:  # of FISTA
            p_next = q + D(z - D_adjoint(q)) / 8
            p_next = p_next * theta / p_next.norm(dim=0).clamp(min=theta)
            p, q = p_next, p_next + beta * (p_next - p)
        z - D_adjoint(p)

    Reference: Beck and Teboulle, *Fast gradient-based algorithms for constrained total variation image denoising and
    deblurring problems*, 2009.
    """

    def __init__(self, inner_iterations: int = 20) -> None:
        super().__init__()
        self.inner_iterations = _checks.count("inner_iterations", inner_iterations)

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        if z.dim() < 2:
            raise ValueError(f"total variation is of pictures (..., H, W), got shape {_checks.shape_text(z.shape)}")
        theta = torch.as_tensor(theta, dtype=z.real.dtype if z.is_complex() else z.dtype, device=z.device)
        p = q = torch.zeros_like(torch.stack([z, z]))
        t = 1.0
        for _ in range(self.inner_iterations):
            found = _projected(q + differences(z - differences_adjoint(q)) / 8, theta)
            following = (1 + (1 + 4 * t * t) ** 0.5) / 2
            p, q, t = found, found + (t - 1) / following * (found - p), following
        return z - differences_adjoint(p)

    def value(self, x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(differences(x), dim=0).flatten(1).sum(1)

    def extra_repr(self) -> str:
        return f"inner_iterations={self.inner_iterations}"


def _projected(p: Tensor, theta: Tensor) -> Tensor:
    """p, where it is longer than θ shortened to θ."""
    square = p.abs().square().sum(0)
    longer = square > theta * theta
    length = torch.where(longer, square, torch.ones_like(square)).sqrt()  # no slope of √0
    return torch.where(longer, p * (theta / length), p)
