"""Times the forward pass of LISTA networks with each instruction set, and with weights rounded to bfloat16."""

from __future__ import annotations

import sys
from copy import deepcopy

import fastunroll as fu
import harness
import torch
from fastunroll import _fastunroll
from lista_cases import MEDIUM, flops, grid, problem
from lista_eager import eager, forward, weights
from lista_networks import density
from machine import roof
from text import LOAD_BOUND
from torch import Tensor

SETS = [name for name in _fastunroll.compiled_instruction_sets() if name != "baseline"]


def _rounded(model: fu.nn.LISTA) -> fu.nn.LISTA:
    """Returns a network with the matrices that ``weights="bf16"`` uses, rounded to bfloat16."""
    found = deepcopy(model)
    with torch.no_grad():
        for w in (*found.W1, *found.W2):
            w.copy_(w.bfloat16())
    return found


@torch.no_grad()
def _exact(model: fu.nn.LISTA, y: Tensor) -> Tensor:
    return eager(y.double(), *weights(deepcopy(model).double()))


def build(case: harness.Case, seed: int) -> harness.Comparison:
    _fastunroll.use_instruction_set(str(case["set"]))
    model, _, y = problem(case, seed)
    halved = deepcopy(model)
    halved.weights = "bf16"
    share, exact = density(model, y), _exact(model, y)
    moved = _exact(_rounded(model), y) - exact

    def run(net: fu.nn.LISTA) -> harness.Run:
        @torch.no_grad()
        def call() -> Tensor:
            out: Tensor = net(y)
            return out

        return call

    return harness.Comparison(
        {
            "fastunroll": harness.Contestant(run(model)),
            # Rounded weights have a result of their own; what is left is compared.
            "fastunroll, bf16 weights": harness.Contestant(run(halved), read=lambda x: x.double() - moved),
            "eager sign·relu": forward(model, y),
        },
        oracle=lambda: exact,
        figures={
            "density": share,
            "bound": roof()[LOAD_BOUND],
            "error by rounding": float(moved.norm() / exact.norm()),
        },
        flops=flops(case, training=False),
        own_flops=flops(case, training=False, density=share),
    )


BENCHMARK = harness.Benchmark(
    name="lista_kernels",
    question="What fraction of its bound does each instruction set reach, and what do bfloat16 weights gain?",
    cases=[
        {"set": name, **case}
        for name in SETS
        for case in grid([MEDIUM], [1, 64, 1024], ["trained", "ista-0.4", "ista-0.1"])
    ],
    quick_cases=[{"set": name, **case} for name in SETS for case in grid([MEDIUM], [16], ["ista-0.4"])[:1]],
    build=build,
    baseline="eager sign·relu",
    tolerance=1e-5,
)

if __name__ == "__main__":
    sys.exit(harness.main(BENCHMARK))
