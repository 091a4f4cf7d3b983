"""The base class of TiLISTA and ALISTA, which have one W for all layers, and a step and a threshold for each layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .. import ops
from .network import UnrolledNetwork, exponentials, logarithms
from .selection import schedule


class OneMatrixNetwork(UnrolledNetwork):
    A: Tensor
    W: Tensor

    tensors = "A", "W", "log_step", "log_theta"

    def _start(
        self, A: Tensor, steps: Sequence[float], thetas: Sequence[float], selection: tuple[float, float] | None
    ) -> None:
        self.selection = selection
        self._support_sizes = schedule(selection, self.layers, self.n)
        self.register_buffer("A", A.clone())
        self.log_step, self.log_theta = logarithms(steps, A), logarithms(thetas, A)

    def _describe(self) -> tuple[ops.NetworkSpec, ops.Parameters]:
        form = ops.NetworkSpec(self.layers, "gradient", support_sizes=self._support_sizes)
        return form, ops.Parameters([self.A], [self.W], exponentials(self.log_step), exponentials(self.log_theta))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, selection={self.selection}"
