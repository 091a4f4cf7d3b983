"""Times the forward pass of LISTA networks against other programs that run them on a CPU."""

from __future__ import annotations

import sys
from copy import deepcopy

import harness
import lista_compile
import lista_jax
import lista_onednn
import lista_onnx
import lista_openvino
import torch
from lista_cases import BATCHES, LARGE, MEDIUM, SMALL, flops, grid, problem
from lista_eager import eager, forward, softshrink, weights
from lista_networks import WEIGHTS, density
from torch import Tensor

FEWER = 1, 64, 1024  # batches of the less important contestants and of those that take 20 seconds to compile


def build(case: harness.Case, seed: int) -> harness.Comparison:
    model, _, y = problem(case, seed)
    share = density(model, y)

    @torch.no_grad()
    def ours() -> Tensor:
        out: Tensor = model(y)
        return out

    @torch.no_grad()
    def oracle() -> Tensor:
        return eager(y.double(), *weights(deepcopy(model).double()))

    contestants = {
        "fastunroll": harness.Contestant(ours),
        "eager sign·relu": forward(model, y),
        "eager softshrink": softshrink(model, y),
    }
    if not lista_compile.MISSING:
        contestants["torch.compile"] = lista_compile.forward(model, y)
        if (y.shape[1], model.n) == MEDIUM and case["weights"] == "trained" and case["B"] in FEWER:
            contestants["torch.compile max-autotune, frozen"] = lista_compile.frozen(model, y)
    if not lista_onednn.MISSING:
        contestants["oneDNN"] = lista_onednn.forward(model, y)
    if not lista_jax.MISSING:
        contestants["JAX"] = lista_jax.forward(model, y)
    if not lista_onnx.MISSING:
        contestants["ONNX Runtime"] = lista_onnx.forward(model, y)
    if not lista_openvino.MISSING:
        contestants["OpenVINO"] = lista_openvino.forward(model, y)
    return harness.Comparison(
        contestants,
        oracle=oracle,
        figures={"density": share},
        flops=flops(case, training=False),
        own_flops=flops(case, training=False, density=share),
    )


BENCHMARK = harness.Benchmark(
    name="lista_forward",
    question="How much faster is a LISTA forward pass in one native call than what else runs it on a CPU?",
    # Without 8192 samples of 2048: one eager pass is 1.1 TFLOP, many seconds.
    cases=[
        *grid([SMALL], BATCHES, ["trained", "dense"]),
        *[case for case in grid([MEDIUM], BATCHES, WEIGHTS) if case["weights"] != "ista-0.4" or case["B"] in FEWER],
        *grid([LARGE], BATCHES[:-1], ["trained", "dense"]),
    ],
    quick_cases=[*grid([SMALL], [64], ["trained", "dense"]), *grid([MEDIUM], [16], ["trained", "ista-0.1"])[:2]],
    build=build,
    baseline="eager sign·relu",
    tolerance=1e-5,
    x="B",
    panels=("m", "n", "matrices"),
    packages=("jax", "onnxruntime", "openvino"),
    left_out=[
        rival.MISSING
        for rival in (lista_compile, lista_onednn, lista_jax, lista_onnx, lista_openvino)
        if rival.MISSING is not None
    ],
)

if __name__ == "__main__":
    sys.exit(harness.main(BENCHMARK))
