"""Times the gradients of LISTA networks in all their parameters against eager PyTorch."""

from __future__ import annotations

import sys
from copy import deepcopy

import harness
import torch
from lista_cases import Weights, density, eager, grid, problem, relu_relu, sign_relu, weights
from torch import Tensor

CLEARANCE = 5e-6  # above the rounding of float32 before a threshold, about 1e-6; 60 % of samples of 500 are as clear


@torch.no_grad()
def clear_of_thresholds(y: Tensor, groups: Weights) -> Tensor:
    """Which samples have no value within rounding of a threshold, (B,).

    There float32 and float64 may differ in the support, and then in the gradient by far more than rounding: one such
    value in 64 samples moves it by 4e-4, and fewer samples by more. The check of errors needs these samples left out.
    """
    distance = torch.full((len(y),), torch.inf, dtype=y.dtype)

    def shrink(z: Tensor, theta: Tensor) -> Tensor:
        torch.minimum(distance, (z.abs() - theta).abs().amin(dim=1), out=distance)
        return sign_relu(z, theta)

    eager(y, *groups, shrink)
    return distance > CLEARANCE


def build(case: harness.Case, seed: int) -> harness.Contest:
    batch = int(case["B"])
    model, x, y = problem({**case, "B": 3 * batch + 64}, seed)
    single, exact = weights(model), weights(deepcopy(model).double())
    clear = clear_of_thresholds(y.double(), exact)
    x, y = x[clear][:batch], y[clear][:batch]
    if len(y) < batch:
        raise RuntimeError(f"only {len(y)} of {batch} samples are clear of the thresholds")

    def gradients(out: Tensor, groups: Weights) -> list[Tensor]:
        # From zero, an untied first layer makes no use of its W₂: a zero gradient, for ours and for rivals.
        loss = (out - x).square().sum()
        parameters = [p for group in groups for p in group]
        return list(torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True))

    return harness.Contest(
        contestants={
            "fastunroll": lambda: gradients(model(y), single),
            "eager sign·relu": lambda: gradients(eager(y, *single, sign_relu), single),
            "eager relu−relu": lambda: gradients(eager(y, *single, relu_relu), single),
        },
        oracle=lambda: gradients(eager(y.double(), *exact), exact),
        figures={"density": density(model, y)},
    )


BENCHMARK = harness.Benchmark(
    name="lista_training",
    question="How much faster are the gradients of a LISTA network in one native call than in eager PyTorch?",
    cases=grid([(64, 256), (250, 500)], [1, 16, 64, 256, 1024]),
    quick_cases=grid([(64, 256), (250, 500)], [1, 16, 64]),
    build=build,
    tolerance=1e-3,  # of a scalar θ, whose terms cancel: 1e-4 in eager too; matrices agree to 1e-5
    x="B",
    panels=("m", "n", "weights"),
)

if __name__ == "__main__":
    sys.exit(harness.main(BENCHMARK))
