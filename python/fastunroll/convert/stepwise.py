"""Networks that run layer by layer, because no native kernel runs all their layers in one call."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from .. import _checks
from ..nn import UnrolledNetwork


class StepwiseNetwork(UnrolledNetwork):
    """A network that runs its layers one by one.

    With float16 or bfloat16 input it computes in float32, because variances and thresholds need the range of float32.
    """

    def _iterates(self, y: Tensor, x: Tensor) -> Iterator[Tensor]:
        """Yields the output of each layer, starting from x. It converts the parameters to the dtype of y."""
        raise NotImplementedError

    def _run(self, y: Tensor, x0: Tensor | None, depth: int, return_layers: bool) -> Tensor:
        _checks.unsharded(self)
        start = y.new_zeros(*y.shape[:-1], self.n) if x0 is None else x0
        # The rounding of PyTorch's sums depends on the memory layout, so all samples are made contiguous.
        y32, start = (t.to(torch.promote_types(t.dtype, torch.float32)).contiguous() for t in (y, start))
        x = start
        outputs = []
        for x in islice(self._iterates(y32, start), depth):
            if return_layers:
                outputs.append(x)
        return (torch.stack(outputs) if return_layers else x).to(y.dtype)
