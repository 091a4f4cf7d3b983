"""Times the forward pass of LISTA networks against eager PyTorch."""

from __future__ import annotations

import sys
from copy import deepcopy

import harness
import torch
from lista_cases import density, eager, flops, grid, problem, weights
from torch import Tensor
from torch.nn import functional as F


def build(case: harness.Case, seed: int) -> harness.Contest:
    model, _, y = problem(case, seed)
    w1, w2, theta = weights(model)
    numbers = [t.item() for t in theta]  # softshrink takes no tensor

    @torch.no_grad()
    def ours() -> Tensor:
        out: Tensor = model(y)
        return out

    @torch.no_grad()
    def eager_sign_relu() -> Tensor:
        return eager(y, w1, w2, theta)

    @torch.no_grad()
    def eager_softshrink() -> Tensor:
        return eager(y, w1, w2, numbers, F.softshrink)

    @torch.no_grad()
    def oracle() -> Tensor:
        return eager(y.double(), *weights(deepcopy(model).double()))

    return harness.Contest(
        contestants={
            "fastunroll": ours,
            "eager sign·relu": eager_sign_relu,
            "eager softshrink": eager_softshrink,
        },
        oracle=oracle,
        figures={"density": density(model, y)},
        flops=flops(case),
    )


BENCHMARK = harness.Benchmark(
    name="lista_forward",
    question="How much faster is a LISTA forward pass in one native call than the eager PyTorch people write?",
    # Without 8192 samples of 2048: one eager pass is 1.1 TFLOP, many seconds.
    cases=[
        *grid([(64, 256), (250, 500)], [1, 16, 64, 256, 1024, 8192]),
        *grid([(512, 2048)], [1, 16, 64, 256, 1024]),
    ],
    quick_cases=grid([(64, 256), (250, 500)], [1, 16, 256]),
    build=build,
    tolerance=1e-5,
    x="B",
    panels=("m", "n", "weights"),
)

if __name__ == "__main__":
    sys.exit(harness.main(BENCHMARK))
