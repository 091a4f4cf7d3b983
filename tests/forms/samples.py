"""Rows of the table whose operator is a matrix for every sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import torch
from fastunroll import ops
from torch import Tensor

from .row import Problem as AnyProblem
from .row import Row


@dataclass(frozen=True)
class Form(Row):
    """Layers over a matrix for every sample."""

    m: int = 5
    n: int = 9
    vector: bool = False  # a threshold for each coordinate

    tiny: ClassVar[dict[str, Any]] = {"m": 4, "n": 6, "batch": 2}
    large: ClassVar[dict[str, Any]] = {"m": 19, "n": 45, "layers": 4, "batch": 77}

    def __str__(self) -> str:
        options = "-vector" * self.vector + "-starts" * self.starts
        return f"{'-'.join(self.columns)}{options}"

    def draw(self, seed: int) -> Problem:
        random = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=random).to(self.dtype)

        (B,), m, n, K = self.shape, self.m, self.n, self.layers
        A = normal(B, m, n) / m**0.5
        y, x0 = normal(B, m), normal(B, n) if self.starts else None
        step, beta = 0.2 + 0.1 * normal(K).abs(), normal(K) / 4 if self.scheme == "fista" else None
        theta = 0.05 * normal(K, n if self.vector else 1).abs()
        return Problem(self, A, y, x0, step, theta, beta)


@dataclass
class Problem(AnyProblem):
    """Arguments of one call."""

    form: Form
    A: Tensor
    y: Tensor
    x0: Tensor | None
    step: Tensor
    theta: Tensor
    beta: Tensor | None

    @property
    def values(self) -> list[Tensor | None]:
        return [self.A, self.y, self.x0, self.step, self.theta, self.beta]

    @property
    def leaves(self) -> list[Tensor]:
        return [t for t in self.values if t is not None]

    @property
    def of_each_sample(self) -> list[Tensor]:
        return [t for t in (self.A, self.y, self.x0) if t is not None]

    def with_leaves(self, leaves: list[Tensor]) -> Problem:
        left = iter(leaves)
        return Problem(self.form, *(None if t is None else next(left) for t in self.values))  # type: ignore[arg-type]

    def of_samples(self, samples: Any) -> Problem:
        A, y = self.A[samples], self.y[samples]
        return replace(self, form=replace(self.form, batch=len(y)), A=A, y=y,
                       x0=None if self.x0 is None else self.x0[samples])  # fmt: skip

    def native(self) -> tuple[Tensor, ...]:
        return (ops.sample_layers(*self.values, self.form.prox, keep=True),)  # type: ignore[arg-type]

    def plain(self) -> tuple[Tensor, ...]:
        return (ops.plain_layers(*self.values, self.form.prox),)  # type: ignore[arg-type]


ROWS = [
    Form("matrices", prox, scheme, starts=starts, vector=vector)
    for prox, scheme, starts, vector in product(
        ("soft", "nonnegative"), ("proximal_gradient", "fista"), (False, True), (False, True)
    )
]
