"""The cases of the LISTA benchmarks, their problems, and their numbers of operations."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from itertools import product

import fastunroll as fu
import torch
from harness import Case
from lista_eager import eager, sign_relu, weights
from lista_networks import LAYERS, WEIGHTS, network, signals
from torch import Tensor

Size = tuple[int, int]
SMALL, MEDIUM, LARGE = (64, 256), (250, 500), (512, 2048)
BATCHES = 1, 16, 64, 256, 1024, 8192

CLEARANCE = 5e-6  # smallest distance from a threshold; the rounding of float32 before a threshold is about 1e-6
POOL = 512  # number of distinct samples; larger batches repeat them


def grid(sizes: Sequence[Size], batches: Sequence[int], kinds: Sequence[str]) -> list[Case]:
    """Returns all combinations. Weights vary fastest, because a compiled program fits all weights of a shape."""
    return [
        {"m": m, "n": n, "matrices": matrices, "B": batch, "weights": kind}
        for (m, n), matrices, batch, kind in product(sizes, ("tied", "untied"), batches, kinds)
    ]


@torch.no_grad()
def _clear_of_thresholds(model: fu.nn.LISTA, y: Tensor) -> Tensor:
    """Which samples have no value within rounding of a threshold, (B,).

    There float32 and float64 may differ in the support, and then in the gradient by far more than rounding: one such
    value in 64 samples moves it by 4e-4, and fewer samples by more. So errors are checked without such samples.
    """
    distance = torch.full((len(y),), torch.inf, dtype=y.dtype)

    def shrink(z: Tensor, theta: Tensor) -> Tensor:
        torch.minimum(distance, (z.abs() - theta).abs().amin(dim=1), out=distance)
        return sign_relu(z, theta)

    eager(y, *weights(model), shrink)
    return distance > CLEARANCE


@lru_cache(maxsize=len(WEIGHTS))
def _problem(m: int, n: int, tied: bool, kind: str, seed: int) -> tuple[fu.nn.LISTA, Tensor, Tensor]:
    A, model = network(m, n, tied, kind, seed)
    exact, random = deepcopy(model).double(), torch.Generator().manual_seed(seed + 1)
    found = torch.empty(0, n)
    for _ in range(50):
        x = signals(POOL, n, random)
        found = torch.cat([found, x[_clear_of_thresholds(exact, (x @ A.mT).double())]])
        if len(found) >= POOL:
            return model, found[:POOL], found[:POOL] @ A.mT
    raise RuntimeError(f"only {len(found)} of {50 * POOL} samples are clear of the thresholds")


def problem(case: Case, seed: int) -> tuple[fu.nn.LISTA, Tensor, Tensor]:
    """Returns the network, the signals x, and y = A x without noise."""
    size = int(case["m"]), int(case["n"])
    model, x, y = _problem(*size, case["matrices"] == "tied", str(case["weights"]), seed)
    index = torch.arange(int(case["B"])) % POOL
    return model, x[index], y[index]


def flops(case: Case, training: bool, density: float = 1.0) -> float:
    """Of the products, where those with W₂ need only a share of the work.

    From zero, the first layer has no W₂ x; tied layers share one W₁ y. A training step adds the gradients in W₁, in W₂
    and, by W₂ again, in x.
    """
    m, n, batch = int(case["m"]), int(case["n"]), int(case["B"])
    first = (1 if case["matrices"] == "tied" else LAYERS) * m * n
    second = (LAYERS - 1) * n * n
    return 2.0 * batch * ((2 if training else 1) * first + (3 if training else 1) * density * second)
