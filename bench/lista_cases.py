"""What the LISTA benchmarks share: networks on sparse recovery, and LISTA as people write it in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import fastunroll as fu
import torch
from harness import Case
from torch import Tensor
from torch.nn import functional as F

LAYERS = 16
Size = tuple[int, int]
Weights = tuple[list[Tensor], list[Tensor], list[Tensor]]  # W₁, W₂, θ: each one entry, or one a layer


def grid(sizes: Sequence[Size], batches: Sequence[int]) -> list[Case]:
    """All combinations; neighbours share a network."""
    return [
        {"m": m, "n": n, "weights": weights, "lam": lam, "B": batch}
        for (m, n), weights, lam, batch in product(sizes, ("tied", "untied"), (0.1, 0.4), batches)
    ]


@lru_cache(maxsize=1)
def _network(m: int, n: int, weights: str, lam: float, seed: int) -> tuple[Tensor, fu.nn.LISTA]:
    A = torch.randn(m, n, generator=torch.Generator().manual_seed(seed)) / m**0.5
    A = A / A.norm(dim=0)
    return A, fu.nn.LISTA(A, layers=LAYERS, lam=lam, tied=weights == "tied")


def problem(case: Case, seed: int) -> tuple[fu.nn.LISTA, Tensor, Tensor]:
    """A network that starts as ISTA, normal signals x of density 0.1, and y = A x without noise."""
    A, model = _network(int(case["m"]), int(case["n"]), str(case["weights"]), float(case["lam"]), seed)
    random = torch.Generator().manual_seed(seed + 1)
    shape = (int(case["B"]), A.shape[1])
    x = torch.randn(shape, generator=random) * (torch.rand(shape, generator=random) < 0.1)
    return model, x, x @ A.mT


@torch.no_grad()
def density(model: fu.nn.LISTA, y: Tensor) -> float:
    """The share of nonzeros in the iterates of all layers, over at most 256 samples."""
    return float((model(y[:256], return_layers=True) != 0).double().mean())


def flops(case: Case) -> float:
    """Of the dense forward pass. From zero, the first layer has no W₂ x; tied layers share one W₁ y."""
    m, n, batch = int(case["m"]), int(case["n"]), int(case["B"])
    return 2.0 * batch * ((LAYERS - 1) * n * n + (1 if case["weights"] == "tied" else LAYERS) * m * n)


def weights(model: fu.nn.LISTA) -> Weights:
    return list(model.W1), list(model.W2), list(model.theta)


def sign_relu(z: Tensor, theta: Tensor) -> Tensor:
    return torch.sign(z) * F.relu(z.abs() - theta)


def relu_relu(z: Tensor, theta: Tensor) -> Tensor:
    return F.relu(z - theta) - F.relu(-z - theta)


def eager(
    y: Tensor,
    w1: Sequence[Tensor],
    w2: Sequence[Tensor],
    theta: Sequence[Any],
    shrink: Callable[[Tensor, Any], Tensor] = sign_relu,
) -> Tensor:
    """LISTA from zero, written with care: no W₂ x in the first layer, and one W₁ y if tied."""
    seen = F.linear(y, w1[0])
    x = shrink(seen, theta[0])
    for k in range(1, len(theta)):
        if len(w1) > 1:
            seen = F.linear(y, w1[k])
        x = shrink(seen + F.linear(x, w2[k if len(w2) > 1 else 0]), theta[k])
    return x
