"""Times a gradient step by the residual, v + t Aᵀ(y − A v), by the Gram matrix, v + t(Aᵀy − G v), and eager PyTorch."""

from __future__ import annotations

import sys
from itertools import product

import fastunroll as fu
import harness
import torch
from lista_cases import MEDIUM, SMALL
from lista_eager import sign_relu
from lista_networks import LAYERS, signals
from torch import Tensor


def build(case: harness.Case, seed: int) -> harness.Comparison:
    m, n, lam = int(case["m"]), int(case["n"]), float(case["λ"])
    random = torch.Generator().manual_seed(seed)
    A = torch.randn(m, n, generator=random)
    A /= A.norm(dim=0)
    y = signals(int(case["B"]), n, random) @ A.mT
    step = 1 / torch.linalg.matrix_norm(A, 2) ** 2
    steps = [step.clone().requires_grad_() for _ in range(LAYERS)]
    thetas = [(lam * step).requires_grad_() for _ in range(LAYERS)]

    def eager() -> Tensor:
        x = (steps[0] * y) @ A
        x = sign_relu(x, thetas[0])
        for t, theta in zip(steps[1:], thetas[1:], strict=True):
            x = sign_relu(x + t * ((y - x @ A.mT) @ A), theta)
        return x

    def unrolled(linear: fu.GradientStep) -> Tensor:
        found = fu.unrolled(y, linear, fu.prox.L1(), thetas, layers=LAYERS)
        assert isinstance(found, Tensor)
        return found

    gram, residual = fu.GradientStep(A, step=steps, via="gram"), fu.GradientStep(A, step=steps)
    ways = {"gram": lambda: unrolled(gram), "residual": lambda: unrolled(residual), "eager": eager}
    with torch.no_grad():
        density = float((ways["residual"]() != 0).float().mean())

    def contestant(way: str) -> harness.Contestant:
        def forward() -> Tensor:
            with torch.no_grad():
                return ways[way]()

        def training() -> Tensor:
            return torch.stack(torch.autograd.grad(ways[way]().square().sum(), steps + thetas))

        return harness.Contestant(forward if case["pass"] == "forward" else training)

    return harness.Comparison({way: contestant(way) for way in ways}, figures={"density of x": density})


BENCHMARK = harness.Benchmark(
    name="gram",
    question="When does the Gram matrix of a gradient step pay? (16 layers that learn a step and a threshold each)",
    cases=[
        {"pass": way, "m": m, "n": n, "B": batch, "λ": lam}
        for way, (m, n), batch, lam in product(("forward", "training"), (SMALL, MEDIUM), (1, 64, 1024), (0.5, 0.1))
    ],
    quick_cases=[{"pass": way, "m": 64, "n": 256, "B": 64, "λ": 0.5} for way in ("forward", "training")],
    build=build,
    baseline="eager",
    tolerance=2e-3,  # of the gradient of a step, whose terms cancel
)

if __name__ == "__main__":
    sys.exit(harness.main(BENCHMARK))
