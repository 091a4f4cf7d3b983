"""The shared table of cases, and how a test builds one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import fastunroll as fu
import torch
from torch import Tensor


@dataclass(frozen=True)
class Case:
    """One LISTA: its size, form and the batch it gets."""

    m: int = 11
    n: int = 17
    layers: int = 3
    batch: tuple[int, ...] = (5,)
    tied: bool = False
    threshold: str = "scalar"
    starts: bool = False  # whether x0 is given
    dtype: torch.dtype = torch.float64

    def __str__(self) -> str:
        form = f"{'tied' if self.tied else 'untied'}-{self.threshold}{'-x0' if self.starts else ''}"
        return f"{self.m}x{self.n}-K{self.layers}-{'x'.join(map(str, self.batch))}-{form}-{str(self.dtype)[6:]}"


# Sizes that are multiples of nothing, and of everything; empty batches; one of everything.
_SIZES = [
    (1, 1, 1, (1,)),
    (1, 17, 3, (2,)),
    (11, 17, 3, (5,)),
    (5, 3, 1, (0,)),
    (11, 17, 2, (2, 0, 3)),
    (16, 64, 2, (64,)),
    (33, 129, 4, (3, 7)),
    (20, 40, 2, (65,)),
    (31, 130, 2, (131,)),
]
_FORMS = list(product((False, True), ("scalar", "vector"), (False, True)))

CASES = [
    Case(m, n, layers, batch, tied, threshold, starts)
    for m, n, layers, batch in _SIZES
    for tied, threshold, starts in _FORMS
]
SMALL = [c for c in CASES if (c.m, c.n) == (11, 17) and c.batch == (5,)]
SINGLE = [replace(c, dtype=torch.float32) for c in CASES]


@dataclass
class Problem:
    """A network with weights drawn at random, and what goes in."""

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


def reference_on_piece(p: Problem, signs: Tensor) -> Tensor:
    """Every layer of the linear piece whose signs, 0 off the support, are given: x = |s|·(W₁ y + W₂ x) − s·θ.

    It is the reference wherever the signs are its own. In single precision an element may round to the other side of
    its threshold, and its gradient with it; on the piece that was taken, gradients can be compared.
    """
    w1, w2, theta = p.weights
    x = torch.zeros(*p.y.shape[:-1], p.net.n, dtype=p.y.dtype) if p.x0 is None else p.x0
    layers = []
    for k, s in enumerate(signs):
        z = p.y @ w1[min(k, len(w1) - 1)].mT + x @ w2[min(k, len(w2) - 1)].mT
        x = s.abs() * z - s * theta[k]
        layers.append(x)
    return torch.stack(layers)


def build(case: Case, *, requires_grad: bool = False, seed: int = 0) -> Problem:
    """Weights, inputs and thresholds at random, such that about half of each iterate is zero."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    A = draw(case.m, case.n)
    net = fu.nn.LISTA(A.to(case.dtype), layers=case.layers, tied=case.tied, threshold=case.threshold)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.startswith("theta"):
                p.copy_(0.4 + 0.4 * torch.rand(p.shape, generator=g, dtype=torch.float64))
            else:
                p.copy_(draw(*p.shape) / (case.m if name.startswith("W1") else case.n) ** 0.5)
    y = draw(*case.batch, case.m).to(case.dtype)
    x0 = draw(*case.batch, case.n).to(case.dtype) if case.starts else None
    if x0 is not None:
        x0 = x0 * (x0.abs() > 1)
    if requires_grad:
        y.requires_grad_()
        if x0 is not None:
            x0.requires_grad_()
    return Problem(net, y, x0)


def relative_error(a: Tensor, b: Tensor) -> float:
    """‖a − b‖ / ‖b‖, zero for two empty tensors."""
    assert a.shape == b.shape
    scale = b.norm().item()
    return (a.to(b.dtype) - b).norm().item() / (scale if scale else 1.0)


def tolerance(dtype: torch.dtype) -> float:
    """What a native result may differ from the reference by, relative."""
    return {torch.float32: 1e-5, torch.complex64: 1e-5}.get(dtype, 1e-12)
