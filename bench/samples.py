"""Times networks over a matrix for every sample against the ways to write their products in PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product

import fastunroll as fu
import harness
import torch
from torch import Tensor

LAYERS = 16
# An element within rounding of its threshold has a gradient or none: one of half a million changes the sum by 2e-3.
TOLERANCE = 5e-3
SIZES = (32, 64), (64, 128), (128, 256)
BATCHES = 1, 16, 256
Product = Callable[[Tensor, Tensor], Tensor]

# A x of each sample, in the idioms of PyTorch.
PRODUCTS: dict[str, Product] = {
    "eager matmul": lambda A, x: (A @ x.unsqueeze(-1)).squeeze(-1),
    "eager bmm": lambda A, x: torch.bmm(A, x.unsqueeze(-1)).squeeze(-1),
    "eager einsum": lambda A, x: torch.einsum("bmn,bn->bm", A, x),
    "eager multiply and sum": lambda A, x: (A * x.unsqueeze(-2)).sum(-1),
}


def eager(of: Product, A: Tensor, y: Tensor, steps: list[Tensor], thetas: list[Tensor]) -> Tensor:
    x = y.new_zeros(len(A), A.shape[-1])
    for step, theta in zip(steps, thetas, strict=True):
        z = x + step * of(A.mT, y - of(A, x))
        x = torch.sign(z) * torch.relu(z.abs() - theta)
    return x


def build(case: harness.Case, seed: int) -> harness.Comparison:
    m, n = map(int, str(case["size"]).split("×"))
    batch, trains = int(case["B"]), case["pass"] == "training"
    random = torch.Generator().manual_seed(seed)
    A = torch.randn(batch, m, n, generator=random) / m**0.5
    truth = torch.randn(batch, n, generator=random) * (torch.rand(batch, n, generator=random) < 0.1)
    y = (A @ truth.unsqueeze(-1)).squeeze(-1)
    step = 1 / float(torch.linalg.matrix_norm(A, 2).max()) ** 2
    net = fu.nn.Unrolled(
        fu.schemes.ProximalGradient(), fu.operators.Dense(A, learn=True), fu.prox.L1(), LAYERS, lam=0.05, step=step
    )
    numbers = [*net.parameters()]

    def contestant(run: Callable[[], Tensor]) -> harness.Contestant:
        if not trains:
            return harness.Contestant(torch.no_grad()(run))
        return harness.Contestant(
            lambda: torch.autograd.grad(torch.nn.functional.mse_loss(run(), truth), numbers),
            lambda gradients: torch.cat([g.flatten() for g in gradients]),
        )

    def rival(of: Product) -> Callable[[], Tensor]:
        def run() -> Tensor:
            values = net.values()
            return eager(of, net.operator.A, y, values["step"], values["theta"])

        return run

    rivals = {name: contestant(rival(of)) for name, of in PRODUCTS.items()}
    flops = 4 * batch * m * n * LAYERS * (2 if trains else 1)
    return harness.Comparison({"fastunroll": contestant(lambda: net(y)), **rivals}, flops=float(flops))


BENCHMARK = harness.Benchmark(
    name="samples",
    question=f"How much faster is a network over a matrix for every sample than PyTorch? ({LAYERS} layers)",
    cases=[
        {"size": f"{m}×{n}", "B": batch, "pass": way}
        for (m, n), batch, way in product(SIZES, BATCHES, ("forward", "training"))
    ],
    quick_cases=[{"size": "64×128", "B": 16, "pass": way} for way in ("forward", "training")],
    build=build,
    baseline="eager matmul",
    tolerance=TOLERANCE,
)

if __name__ == "__main__":
    sys.exit(harness.main(BENCHMARK))
