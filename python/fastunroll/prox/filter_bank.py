"""Learned filters with a learned clip, a prior of pictures known as fields of experts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import _checks, ops
from .._checks import shape_text
from ..operators.cosine import cosine_matrix
from ..reference_pictures import filter_bank
from .picture_channels import levels_of
from .proximal import Proximal


class FilterBank(Proximal):
    """Fields of experts: prox_θ(z) = z − Σ_i f̃_i ∗ ψ_i(f_i ⋆ z), with filters f_i and the clip ψ_i(c) = c − S_{θ_i}(c).

    f_i ⋆ z is the correlation of a picture (..., H, W) with a filter (h, h), at all places where the filter lies within
    the picture, and f̃_i ∗ is its adjoint. ψ clips real numbers to [−θ_i, θ_i], and the modulus of complex ones to θ_i.
    The result is a gradient step, with step size 1, on Σ_i Σ H_{θ_i}(f_i ⋆ z) with Huber's function H: quadratic up to
    θ_i and linear beyond. It is no proximal operator in the strict sense, so there is no :meth:`value`.

    The filters are learned. They start as the first functions of the two-dimensional cosine basis (DCT) that are not
    constant, divided by h. With all h² − 1 of them, Σ_i f̃_i ∗ (f_i ⋆ z) is z minus its mean over patches inside of the
    picture: small coefficients are removed, and large ones come nearer to zero by θ. A network learns a θ_i for each
    filter and layer. All layers share the filters; :class:`PerLayer` gives each layer its own.

    Args:
        count: the number of filters, 1 to h² − 1.
        size: h, the side of the filters, ≥ 2.
        device, dtype: of the filters.

    Attributes:
        filters: (count, h, h), a parameter.

    Raises:
        TypeError: z is of another dtype than the filters.
        ValueError: ``size`` < 2, there are more than h² − 1 filters, pictures are smaller than a filter, or θ is
            neither one number nor one for each filter.

    Example::

        prior = fu.prox.PerLayer(fu.prox.FilterBank(count=24, size=5), layers=10)
        net = fu.nn.Unrolled(fu.schemes.ProximalGradient(), blur, prior, layers=10, lam=0.01)

    Equivalent to, for real pictures (N, 1, H, W)::

        c = torch.nn.functional.conv2d(z, filters[:, None])
        clipped = torch.minimum(torch.maximum(c, -theta[:, None, None]), theta[:, None, None])
        z - torch.nn.functional.conv_transpose2d(clipped, filters[:, None])

    References: Roth and Black, *Fields of experts*, 2009; Chen and Pock, *Trainable nonlinear reaction diffusion: a
    flexible framework for fast and effective image restoration*, 2017.
    """

    takes_autocast = True
    sample_dims = 2

    def __init__(
        self,
        count: int = 24,
        size: int = 5,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.count, self.size = _checks.count("count", count), _checks.count("size", size)
        if self.size < 2 or self.count >= self.size**2:
            raise ValueError(
                f"a bank of filters needs a size ≥ 2 and a count < size², got size = {self.size} and count = "
                f"{self.count}"
            )
        start = cosine_filters(self.count, self.size)
        self.filters = nn.Parameter(start.to(_checks.device(device), _checks.floating_dtype(dtype) or torch.float32))

    def initial_threshold(self, theta: float) -> Tensor:
        return torch.full((self.count,), theta, dtype=torch.float64, device="cpu")

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        if z.dim() < 2 or min(z.shape[-2:]) < self.size:
            raise ValueError(
                f"a bank of filters takes pictures (..., H, W) with sides of at least {self.size}, got "
                f"{shape_text(z.shape)}"
            )
        _checks.require_same_dtype_and_device(filters=self.filters, z=z.real if z.is_complex() else z)
        levels = self._thresholds(theta, z)
        found = ops.picture_prox(z, torch.as_tensor(theta, device=z.device), "filter_bank", filters=self.filters)
        return filter_bank(z, self.filters, levels) if found is None else found

    def _thresholds(self, theta: Tensor, z: Tensor) -> Tensor:
        """θ beside coefficients (N, count, H, W)."""
        theta = torch.as_tensor(theta, device=z.device)
        if theta.dim() == 1 and theta.numel() == self.count:
            return theta[:, None, None]
        if theta.dim() == 1 and theta.numel() > 1:
            raise ValueError(f"theta must be one number or {self.count}, one for each filter, got {theta.numel()}")
        return levels_of(theta, z, 1).reshape(-1, 1, 1, 1)

    def extra_repr(self) -> str:
        return f"count={self.count}, size={self.size}"


def cosine_filters(count: int, size: int) -> Tensor:
    """The first functions of the two-dimensional cosine basis that are not constant, divided by ``size``."""
    basis = cosine_matrix(size)
    filters = torch.einsum("ai,bj->abij", basis, basis).reshape(-1, size, size) / size
    frequencies = [divmod(n, size) for n in range(1, size * size)]
    order = sorted(frequencies, key=lambda f: (sum(f), f))[:count]
    return filters[[a * size + b for a, b in order]]
