"""Linear equations on the supports of sparse samples that share A."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK = 1 << 24  # values of one array at a time


class Supports:
    """A_SᵀA_S for the support S of each x (B, n), padded to the largest of them."""

    def __init__(self, A: Tensor, x: Tensor) -> None:
        support = x != 0
        most = max(1, int(support.sum(-1).max()))
        self._index = support.to(torch.int8).argsort(dim=-1, descending=True, stable=True)[:, :most]
        self.inside = support.gather(1, self._index)
        columns = A.mT[self._index] * self.inside[..., None]  # (B, most, m)
        self.gram = columns @ columns.mT

    def add_to_diagonal(self, value: Tensor | float) -> None:
        """Adds a value to the diagonal of each support. The padding gets ones, so that no matrix is singular."""
        self.gram.diagonal(dim1=-2, dim2=-1).add_(torch.where(self.inside, value, 1.0))

    def gather(self, values: Tensor) -> Tensor:
        """The values on each support, (B, n) to (B, largest support)."""
        return torch.where(self.inside, values.gather(1, self._index), 0.0)

    def scatter(self, values: Tensor, n: int) -> Tensor:
        """The reverse of :meth:`gather`, with zeros off the support."""
        return values.new_zeros(len(values), n).scatter(1, self._index, torch.where(self.inside, values, 0.0))


def parts(A: Tensor, x: Tensor) -> Iterator[slice]:
    """Slices of samples whose columns of A and Gram matrices fit into memory."""
    support = int((x != 0).sum(-1).max()) if x.numel() else 0
    rows = max(1, CHUNK // max(1, support * max(support, A.shape[0])))
    for first in range(0, len(x), rows):
        yield slice(first, first + rows)
