"""How much faster are the gradients of a LISTA network in one native call than in the eager PyTorch people write?"""

from __future__ import annotations

import sys

import harness
import torch
from lista_cases import density, eager, grid, problem, relu_relu, sign_relu
from torch import Tensor


def build(case: harness.Case, seed: int) -> harness.Contest:
    model, x, y = problem(case, seed)
    w1, w2, theta = list(model.W1), list(model.W2), list(model.theta)
    weights = [*w1, *w2, *theta]

    def gradients(out: Tensor, target: Tensor, weights: list[Tensor]) -> list[Tensor]:
        # From zero, an untied first layer makes no use of its W₂: that gradient is zero, for ours and for rivals.
        loss = (out - target).square().sum()
        return list(torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True))

    def oracle() -> list[Tensor]:
        a, b, t = ([p.detach().double().requires_grad_() for p in group] for group in (w1, w2, theta))
        return gradients(eager(y.double(), a, b, t, sign_relu), x.double(), [*a, *b, *t])

    return harness.Contest(
        contestants={
            "fastunroll": lambda: gradients(model(y), x, weights),
            "eager sign·relu": lambda: gradients(eager(y, w1, w2, theta, sign_relu), x, weights),
            "eager relu−relu": lambda: gradients(eager(y, w1, w2, theta, relu_relu), x, weights),
        },
        oracle=oracle,
        figures={"density": density(model, y)},
    )


if __name__ == "__main__":
    sys.exit(
        harness.main(
            harness.Benchmark(
                name="lista_training",
                question="How much faster are the gradients of a LISTA network in one native call than in eager PyTorch?",
                cases=grid([(64, 256), (250, 500)], [1, 16, 64, 256, 1024]),
                quick_cases=grid([(64, 256), (250, 500)], [1, 64, 256]),
                build=build,
                tolerance=1e-4,
                x="B",
                panels=("m", "n", "weights"),
            )
        )
    )
