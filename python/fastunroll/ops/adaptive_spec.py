"""The structure of networks whose layers follow statistics of each sample, and their parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from .. import reference_adaptive
from .tensors import have_same_dtype_and_device

ADAPTIVE_SCHEMES = ("glista", "hyperlista", "lamp", "lvamp")
ADAPTIVE_PROXES = ("soft", "bernoulli_gaussian")
GATES = tuple(reference_adaptive.GAINS)


@dataclass(frozen=True)
class AdaptiveSpec:
    """The structure of an adaptive network; :mod:`fastunroll.reference_adaptive` has the formulas.

    Attributes:
        layers: K.
        scheme: ``"glista"``, ``"hyperlista"``, ``"lamp"`` or ``"lvamp"``.
        prox: the denoiser of LAMP and LVAMP, ``"soft"`` or ``"bernoulli_gaussian"``.
        gate: the gain G of GLISTA, ``"relu"``, ``"inverse"``, ``"exponential"`` or ``"sigmoid"``.
        support_sizes: for each layer of GLISTA, how many of the largest stay unshrunk; empty for none.
    """

    layers: int
    scheme: str
    prox: str = "soft"
    gate: str = "relu"
    support_sizes: tuple[int, ...] = ()

    @property
    def learns_W(self) -> bool:
        """Whether W is learned: one matrix that all layers share, or one for each."""
        return self.scheme in ("glista", "lamp")

    def sizes(self, p: AdaptiveParameters) -> tuple[int, int]:
        """m and n."""
        if self.scheme == "lvamp":
            return p.fixed[0].shape[1], p.fixed[1].shape[1]
        return p.fixed[0].shape[0], p.fixed[0].shape[1]

    def state_size(self, m: int, n: int) -> int:
        """The values of a second state that a caller could hand over: none."""
        return 0

    def saved_size(self, p: AdaptiveParameters, saves_residuals: bool = True) -> int:
        """The values that the gradient needs of a layer and sample besides x⁺."""
        m, n = self.sizes(p)
        rank = p.fixed[0].shape[0]
        return {"glista": 2 * n + m, "hyperlista": 2 * n + 1, "lamp": m + n + 2, "lvamp": n + rank + 4}[self.scheme]

    def selected_size(self, n: int) -> int:
        """The elements of which :class:`Outcome` records the selection: none, since saved values hold it."""
        return 0

    def fits(self, p: AdaptiveParameters, y: Tensor, x0: Tensor | None, s0: Tensor | None) -> bool:
        """Whether the arguments of an operator fit each other."""
        tensors = [t for group in p for t in group]
        if not p.fixed or len(p.values) != 1 or any(t.dim() != 2 for t in (y, *tensors)):
            return False
        rank = p.fixed[0].shape[0]
        if self.scheme == "lvamp" and len(p.fixed) != 3:
            return False
        m, n = self.sizes(p)
        fixed = {"hyperlista": [(m, n), (m, n), (n, m)], "lvamp": [(rank, m), (rank, n), (1, rank)]}
        W_counts = (1, self.layers) if self.learns_W else (0,)
        columns = {"glista": (4, n + 3), "lamp": (2,)}.get(self.scheme, (3,))
        (values,) = p.values
        return (
            [tuple(t.shape) for t in p.fixed] == fixed.get(self.scheme, [(m, n)])
            and len(p.W) in W_counts and all(t.shape == (m, n) for t in p.W)
            and y.shape[1] == m and values.shape[0] == self.layers and values.shape[1] in columns
            and (x0 is None or x0.shape == (y.shape[0], n)) and s0 is None
            and len(self.support_sizes) in (0, self.layers) and all(0 <= size <= n for size in self.support_sizes)
            and have_same_dtype_and_device(y, x0, *tensors)
        )  # fmt: skip

    def can_differentiate(self, needs: Sequence[bool]) -> bool:
        """Whether kernels have the gradients of these lists of parameters: not of the fixed matrices."""
        return len(needs) == len(AdaptiveParameters._fields) and not needs[0]

    def reference(
        self, p: AdaptiveParameters, y: Tensor, x0: Tensor | None, s0: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Every layer, (K, ..., n), and an empty second state, by plain PyTorch."""
        x = reference_adaptive.network(self, y, [*p.fixed, *p.W], p.values[0], x0)
        return x, y.new_empty(*y.shape[:-1], 0)


class AdaptiveParameters(NamedTuple):
    """The parameters of an adaptive network, in three lists.

    fixed: A for GLISTA and LAMP; A, W and A⁺ for HyperLISTA; Uᵀ, Vᵀ and s, of shape (1, rank), for LVAMP.
    W: for GLISTA and LAMP, one matrix (m, n) that all layers share, or one for each.
    values: one tensor with a row of numbers for each layer, (K, values).
    """

    fixed: Sequence[Tensor]
    W: Sequence[Tensor]
    values: Sequence[Tensor]

    @staticmethod
    def of(spec: AdaptiveSpec, matrices: Sequence[Tensor], values: Tensor) -> AdaptiveParameters:
        """From all matrices, the fixed ones first."""
        fixed = 1 if spec.learns_W else len(matrices)
        return AdaptiveParameters(matrices[:fixed], matrices[fixed:], [values])
