"""Times the gradients of LISTA networks in all parameters against other programs that compute them on a CPU."""

from __future__ import annotations

import sys
from copy import deepcopy

import harness
import lista_compile
import lista_jax
from lista_cases import BATCHES, LARGE, MEDIUM, SMALL, flops, grid, problem
from lista_eager import eager, relu_relu, sign_relu, squared_error, step, training, weights
from lista_networks import density
from torch import Tensor


def build(case: harness.Case, seed: int) -> harness.Comparison:
    model, x, y = problem(case, seed)
    share = density(model, y)

    def oracle() -> list[Tensor | None]:
        exact = deepcopy(model).double()
        groups = weights(exact)
        gradients: list[Tensor | None] = step(
            exact, lambda: squared_error(eager(y.double(), *groups), x.double())
        ).run()
        return gradients

    contestants = {
        "fastunroll": step(model, lambda: squared_error(model(y), x)),
        "eager sign·relu": training(model, y, x, sign_relu),
        "eager relu−relu": training(model, y, x, relu_relu),
    }
    if not lista_compile.MISSING:
        contestants["torch.compile"] = lista_compile.training(model, y, x)
    if not lista_jax.MISSING:
        contestants["JAX"] = lista_jax.training(model, y, x)
    return harness.Comparison(
        contestants,
        oracle=oracle,
        figures={"density": share},
        flops=flops(case, training=True),
        own_flops=flops(case, training=True, density=share),
    )


BENCHMARK = harness.Benchmark(
    name="lista_training",
    question="How much faster are the gradients of a LISTA network in one native call than what else computes them?",
    # Without 8192 samples of 2048: one eager step is 3.3 TFLOP, and keeps 8 GB.
    cases=[
        *grid([SMALL], BATCHES, ["trained", "dense"]),
        *grid([MEDIUM], BATCHES[:-1], ["trained", "ista-0.1", "dense"]),
        *grid([MEDIUM], BATCHES[-1:], ["trained", "dense"]),
        *grid([LARGE], BATCHES[:-1], ["trained", "dense"]),
    ],
    quick_cases=grid([SMALL], [64], ["trained"]),
    build=build,
    baseline="eager sign·relu",
    tolerance=1e-3,  # of a scalar θ, whose terms cancel: 1e-4 in eager too; matrices agree to 1e-5
    x="B",
    panels=("m", "n", "matrices"),
    packages=("jax",),
    left_out=[line for line in (lista_compile.MISSING, lista_jax.MISSING) if line],
)

if __name__ == "__main__":
    sys.exit(harness.main(BENCHMARK))
