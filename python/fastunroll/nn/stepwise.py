"""Networks whose layers depend on each sample as the fused kernels do not: layer by layer, on native products."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from .network import UnrolledNetwork


class StepwiseNetwork(UnrolledNetwork):
    def _iterates(self, y: Tensor, x: Tensor) -> Iterator[Tensor]:
        """The output of one layer after another, from x."""
        raise NotImplementedError

    def _run(self, y: Tensor, x0: Tensor | None, depth: int, return_layers: bool) -> Tensor:
        start = y.new_zeros(*y.shape[:-1], self.n) if x0 is None else x0
        x = start
        every = []
        for x in islice(self._iterates(y, start), depth):
            if return_layers:
                every.append(x)
        return torch.stack(every) if return_layers else x
