"""What a call computes, as a function of named tensors, beside the same in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor

Leaves = Mapping[str, Tensor]
WIDE = {True: torch.complex128, False: torch.float64}


def widened(t: Tensor) -> Tensor:
    return t.detach().to(WIDE[t.is_complex()])


@dataclass
class Subject:
    """One public function with its arguments.

    leaves: the tensors that it is a function of, by name.
    run: fastunroll, of tensors such as ``leaves``.
    exact: the same in plain PyTorch, of the same tensors in double precision.
    lead: the leading shape of samples; None where the result is not one for each sample.
    of_samples: the names of leaves whose leading shape is that of the samples.
    layers: the number of layers in the first dimension of the result; 0 for none.
    native: kernels serve it, which promise the same bits whatever the circumstances.
    module: the module that ``run`` calls.
    constants: what ``exact`` takes besides, in double precision: nobody asks for its gradient.
    strict: sums of the values drawn are exact, so that decisions are the same in every order of summation.
    """

    name: str
    leaves: dict[str, Tensor]
    run: Callable[[Leaves], Tensor]
    exact: Callable[[Leaves], Tensor]
    lead: tuple[int, ...] | None
    of_samples: tuple[str, ...] = ()
    layers: int = 0
    native: bool = False
    module: torch.nn.Module | None = None
    strict: bool = False
    constants: dict[str, Tensor] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def poisoned(self) -> bool:
        """Whether something that all samples share is not finite: results may be, or not."""
        return not all(bool(t.isfinite().all()) for name, t in self.leaves.items() if name not in self.of_samples)

    @property
    def dtype(self) -> torch.dtype:
        return next(iter(self.leaves.values())).dtype

    def rows(self, out: Tensor) -> Tensor:
        """The result as (samples, values)."""
        if self.lead is None:
            return out.reshape(1, -1)
        samples, layers = prod(self.lead), max(self.layers, 1)
        values = out.numel() // (samples * layers) if samples else 0
        return out.reshape(layers, samples, values).transpose(0, 1).reshape(samples, layers * values)

    def widened(self) -> dict[str, Tensor]:
        return {name: widened(t) for name, t in self.leaves.items()} | self.constants
