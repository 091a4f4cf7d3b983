"""LISTA in OpenVINO."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import fastunroll as fu
import torch
from harness import Contestant
from lista_eager import weights
from torch import Tensor

MISSING = None if find_spec("openvino") else "OpenVINO left out: not installed; pip install '.[bench]'"


def _graph(model: fu.nn.LISTA, batch: int) -> Any:
    """The threshold as z − clamp(z, −θ, θ): OpenVINO makes one compiled loop of it and of the sum before it."""
    import openvino
    from openvino import opset13 as ops

    w1, w2, theta = weights(model)
    y = ops.parameter([batch, model.m], openvino.Type.f32)
    seen_by, recur = ([ops.constant(w.detach().numpy()) for w in group] for group in (w1, w2))
    x = None
    for k, t in enumerate(theta):
        if k < len(seen_by):
            seen = ops.matmul(y, seen_by[k], transpose_a=False, transpose_b=True)
        z = seen
        if k > 0:
            weight = recur[0 if model.tied else k]
            z = ops.add(ops.matmul(x, weight, transpose_a=False, transpose_b=True), seen)
        x = ops.subtract(z, ops.clamp(z, -t.item(), t.item()))
    return openvino.Model([x], [y])


def forward(model: fu.nn.LISTA, y: Tensor) -> Contestant:
    """Compiles for one call at a time in float32, which OpenVINO would replace by bfloat16 where that is faster."""
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.Core().compile_model(_graph(model, len(y)), "CPU", settings).create_infer_request()
    out = torch.empty(len(y), model.n)
    request.set_input_tensor(openvino.Tensor(y.numpy(), shared_memory=True))
    request.set_output_tensor(openvino.Tensor(out.numpy(), shared_memory=True))
    # share_outputs=True: without it, the result is copied in each call.
    return Contestant(lambda: request.infer(share_outputs=True), lambda _: out.clone(), own_threads=True)
