"""What a call computes, as a function of named tensors, beside the same in plain PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Leaves = Mapping[str, Tensor]
WIDE = {True: torch.complex128, False: torch.float64}
M = TypeVar("M", bound=nn.Module)


def widened(t: Tensor) -> Tensor:
    return t.detach().to(WIDE[t.is_complex()])


def widened_copy(module: M) -> M:
    """The module with tensors of double precision."""
    module = copy.deepcopy(module)
    made: dict[int, Tensor] = {}  # layers may share an entry
    for part in module.modules():
        for own in (part._parameters, part._buffers):
            for name, t in own.items():
                if t is not None and id(t) not in made:
                    wide = widened(t)
                    made[id(t)] = nn.Parameter(wide, t.requires_grad) if isinstance(t, nn.Parameter) else wide
                own[name] = None if t is None else made[id(t)]
    return module


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
    precision: that of the result, where it is not that of the first leaf.
    spreads: a value of a sample that is not finite may reach all of the sample, as by a Fourier transform.
    slack: the absolute error that a stopping rule leaves.
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
    precision: torch.dtype | None = None
    spreads: bool = False
    slack: float = 0.0

    @property
    def poisoned(self) -> Tensor:
        """The samples that may be not finite where the oracle is, (samples,)."""
        shared = not all(bool(t.isfinite().all()) for name, t in self.leaves.items() if name not in self.of_samples)
        found = torch.full((1 if self.lead is None else prod(self.lead),), shared)
        for name in self.of_samples if self.spreads else ():
            finite = self.leaves[name].isfinite().unsqueeze(-1)
            found |= ~finite.flatten(len(self.lead or ())).all(-1).flatten()
        return found

    @property
    def dtype(self) -> torch.dtype:
        return self.precision or next(iter(self.leaves.values())).dtype

    def rows(self, out: Tensor) -> Tensor:
        """The result as (samples, values)."""
        if self.lead is None:
            return out.reshape(1, -1)
        samples, layers = prod(self.lead), max(self.layers, 1)
        values = out.numel() // (samples * layers) if samples else 0
        return out.reshape(layers, samples, values).transpose(0, 1).reshape(samples, layers * values)

    def widened(self) -> dict[str, Tensor]:
        return {name: widened(t) for name, t in self.leaves.items()} | self.constants
