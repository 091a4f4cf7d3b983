"""The base class of TiLISTA and ALISTA, which have one W for all layers, and a step and a threshold for each layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..engine.layers import Pieces
from ..steps import GradientStep
from .network import UnrolledNetwork, exponentials, logarithms
from .selection import threshold_with


class OneMatrixNetwork(UnrolledNetwork):
    A: Tensor
    W: Tensor

    tensors = "A", "W", "log_step", "log_theta"

    def _start(
        self, A: Tensor, steps: Sequence[float], thetas: Sequence[float], selection: tuple[float, float] | None
    ) -> None:
        self.selection, self.prox = selection, threshold_with(selection, self.layers, self.n)
        self.register_buffer("A", A.clone())
        self.log_step, self.log_theta = logarithms(steps, A), logarithms(thetas, A)

    def pieces(self) -> Pieces:
        return self._pieces(GradientStep(self.A, self.W, exponentials(self.log_step)))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, selection={self.selection}"
