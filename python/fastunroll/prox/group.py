"""The group ℓ₁ norm, by which groups of neighbours shrink together."""

from __future__ import annotations

from torch import Tensor

from .. import _checks, reference
from .l1 import largest_multiple
from .proximal import Kernel, Proximal


class GroupL1(Proximal):
    """R(x) = Σ_g ‖x_g‖₂ over groups of ``size`` neighbours: prox_θ(z)_g = z_g·max(1 − θ/‖z_g‖₂, 0).

    Args:
        size: how many neighbours in the last dimension are a group; it divides that dimension.

    Raises:
        ValueError: ``size`` is no whole number ≥ 1, or does not divide the last dimension.

    Equivalent to::

        g = z.unflatten(-1, (-1, size))
        norm = g.norm(dim=-1, keepdim=True)
        (g * torch.relu(1 - theta / norm)).flatten(-2)  # zero where the norm is

    With one θ, or one for each group.

    Reference: Yuan and Lin, *Model selection and estimation in regression with grouped variables*, 2006.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = _checks.count("size", size)

    def _require_whole_groups(self, z: Tensor) -> None:
        if z.shape[-1] % self.size:
            raise ValueError(
                f"the group size must divide the last dimension of x, but x is {_checks.shape_text(z.shape)} and "
                f"groups have {self.size}"
            )

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        self._require_whole_groups(z)
        return reference.proximal_step(z, "soft", theta, 1.0, self.size, 0)

    def value(self, x: Tensor) -> Tensor:
        return self._norms(x).flatten(1).sum(1)

    @property
    def has_duality_gap(self) -> bool:
        return True

    def _norms(self, x: Tensor) -> Tensor:
        """‖x_g‖ of each group, (..., groups)."""
        self._require_whole_groups(x)
        return reference.norm(x.unflatten(-1, (-1, self.size))).squeeze(-1)

    def dual_range(self, c: Tensor, lam: Tensor) -> tuple[Tensor, Tensor]:
        largest = largest_multiple(self._norms(c), lam)
        return -largest, largest

    def fenchel_gap(self, x: Tensor, c: Tensor, lam: Tensor) -> Tensor:
        inner = ((x.conj() * c).real if x.is_complex() else x * c).unflatten(-1, (-1, self.size)).sum(-1)
        return (lam * self._norms(x) - inner).flatten(1).sum(1)

    @property
    def kernel(self) -> Kernel:
        return Kernel("soft", group=self.size)

    def extra_repr(self) -> str:
        return f"size={self.size}"
