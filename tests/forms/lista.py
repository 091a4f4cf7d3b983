"""The rows of the table that LISTA computes, of many sizes, and the module with their parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import fastunroll as fu
import torch
from torch import Tensor

from . import dense
from .dense import Form
from .row import build

LISTA = Form("affine", n=17)
# Sizes that are multiples of nothing, and of everything; empty batches; one of everything.
_SIZES: list[dict[str, Any]] = [
    {"m": 1, "n": 1, "layers": 1, "batch": 1},
    {"m": 1, "n": 17, "batch": 2},
    {"m": 11, "n": 17, "batch": 5},
    {"m": 5, "n": 3, "layers": 1, "batch": 0},
    {"m": 11, "n": 17, "layers": 2, "batch": (2, 0, 3)},
    {"m": 16, "n": 64, "layers": 2, "batch": 64},
    {"m": 33, "n": 129, "layers": 4, "batch": (3, 7)},
    {"m": 20, "n": 40, "layers": 2, "batch": 65},
    {"m": 31, "n": 130, "layers": 2, "batch": 131},
]
ROWS = [
    Form(operator, vector=vector, starts=starts)
    for operator, vector, starts in product(("affine", "affine-tied"), (False, True), (False, True))
]
OF_EVERY_SIZE = [replace(f, **size) for size in _SIZES for f in ROWS]
SINGLE = [replace(f, dtype=torch.float32) for f in OF_EVERY_SIZE]


@dataclass
class Problem:
    """The module, and what goes in."""

    net: fu.nn.LISTA
    y: Tensor
    x0: Tensor | None

    @property
    def weights(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        return list(self.net.W1), list(self.net.W2), list(self.net.theta)

    @property
    def leaves(self) -> list[Tensor]:
        """Everything a gradient can be asked for."""
        return [t for t in (self.y, self.x0, *self.net.parameters()) if t is not None]

    def run(self, return_layers: bool = False) -> Tensor:
        return self.net(self.y, self.x0, return_layers)

    def reference(self) -> Tensor:
        """Every layer, by the reference."""
        shape = (*self.y.shape[:-1], self.net.n)
        start = torch.zeros(shape, dtype=self.y.dtype) if self.x0 is None else self.x0
        return fu.reference.lista(self.y, *self.weights, start, self.net.layers)


def module(form: Form, *, requires_grad: bool = False, seed: int = 0) -> Problem:
    """LISTA with the parameters of a row. Its weights always record gradients, y and x0 if it is asked for."""
    p: dense.Problem = build(form, requires_grad=requires_grad, seed=seed)
    net = fu.nn.LISTA(
        m=form.m, n=form.n, layers=form.layers, tied=form.operator == "affine-tied",
        threshold="vector" if form.vector else "scalar", dtype=form.dtype,
    )  # fmt: skip
    given = [p.linear.W1, p.linear.W2, p.theta]
    values = [t for value in given for t in (value if isinstance(value, list) else [value])]
    with torch.no_grad():
        for parameter, t in zip(net.parameters(), values, strict=True):
            parameter.copy_(t)
    return Problem(net, p.y, p.x0)
