"""Networks that no kernel takes whole: layer by layer, on native products."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from .. import _checks
from ..nn import UnrolledNetwork


class StepwiseNetwork(UnrolledNetwork):
    """A network of float16 or bfloat16 computes in float32, since its variances and thresholds need that range."""

    def _iterates(self, y: Tensor, x: Tensor) -> Iterator[Tensor]:
        """The output of one layer after another, from x; parameters are to be brought to the dtype of y."""
        raise NotImplementedError

    def _run(self, y: Tensor, x0: Tensor | None, depth: int, return_layers: bool) -> Tensor:
        _checks.unsharded(self)
        start = y.new_zeros(*y.shape[:-1], self.n) if x0 is None else x0
        # PyTorch's sums over a sample round by how the sample lies in memory.
        wide, start = (t.to(torch.promote_types(t.dtype, torch.float32)).contiguous() for t in (y, start))
        x = start
        every = []
        for x in islice(self._iterates(wide, start), depth):
            if return_layers:
                every.append(x)
        return (torch.stack(every) if return_layers else x).to(y.dtype)
