"""Random choices of one call, which are counted, and which describe the call."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def label(value: Any) -> str:
    return str(value).removeprefix("torch.")


class Draw:
    """The choices of call ``call`` of seed ``seed``.

    counts: how often each choice of a named feature was made. said: the choices of this call, in order.
    """

    def __init__(self, seed: int, call: int) -> None:
        self.random = random.Random(f"{seed} {call}")
        self.counts: Counter[str] = Counter()
        self.said: list[str] = []
        torch.manual_seed(self.random.getrandbits(60))

    def pick(self, feature: str, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
        (value,) = self.random.choices(options, weights)
        self.say(f"{feature}={label(value)}")
        return value

    def chance(self, feature: str, probability: float) -> bool:
        happens = self.random.random() < probability
        if happens:
            self.say(feature)
        return happens

    def say(self, what: str) -> None:
        self.counts[what] += 1
        self.said.append(what)

    def some(self, options: Sequence[T]) -> list[T]:
        """At least one of them."""
        return self.random.sample(options, self.random.randint(1, len(options)))

    def uniform(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)

    def size(self, feature: str, sizes: Sequence[int]) -> int:
        """Small sizes are drawn more often."""
        return self.pick(feature, sizes, [1 / (3 + s) for s in sizes])

    def lead(self) -> tuple[int, ...]:
        """The leading shape of samples."""
        few = [(), (1,), (5,), (2, 3), (7,), (3,), (2, 1, 4)]
        return self.pick("samples", [*few, (0,), (2, 0, 3), (17,), (33,), (70,)], [3] * len(few) + [1] * 5)

    def normal(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Standard normal values, which are values of ``dtype``."""
        wide = torch.complex128 if dtype.is_complex else torch.float64
        return torch.randn(*shape, dtype=wide).to(dtype)

    def whole(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Small whole numbers, whose sums are exact: equal magnitudes and values at a threshold occur."""
        parts = torch.randint(-2, 3, (*shape, 2), dtype=torch.float64)
        return (torch.view_as_complex(parts) if dtype.is_complex else parts[..., 0]).to(dtype)
