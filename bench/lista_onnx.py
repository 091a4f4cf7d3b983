"""LISTA in ONNX Runtime."""

from __future__ import annotations

from importlib.util import find_spec

import fastunroll as fu
import numpy as np
import torch
from harness import Contestant
from lista_eager import weights
from torch import Tensor

MISSING = (
    None
    if find_spec("onnx") and find_spec("onnxruntime")
    else "ONNX Runtime left out: not installed; pip install '.[bench]'"
)


def _graph(model: fu.nn.LISTA, batch: int) -> bytes:
    """The threshold as z − clip(z, −θ, θ): of what ONNX offers the quickest; its own operator Shrink has one thread."""
    from onnx import TensorProto, helper, numpy_helper

    w1, w2, theta = weights(model)
    nodes, constants = [], []

    def constant(name: str, value: Tensor) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value.detach().numpy().T), name))
        return name

    def node(kind: str, out: str, *inputs: str) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [out]))
        return out

    seen_by = [constant(f"W1.{k}", w) for k, w in enumerate(w1)]
    recur = [constant(f"W2.{k}", w) for k, w in enumerate(w2) if model.tied or k > 0]
    x = ""
    for k, t in enumerate(theta):
        if k < len(w1):
            seen = node("MatMul", f"seen.{k}", "y", seen_by[k])
        z = node("Add", f"z.{k}", seen, node("MatMul", f"p.{k}", x, recur[0 if model.tied else k - 1])) if k else seen
        inside = node("Clip", f"inside.{k}", z, constant(f"low.{k}", -t), constant(f"high.{k}", t))
        x = node("Sub", f"x.{k}", z, inside)
    given = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, model.m])
    found = helper.make_tensor_value_info(x, TensorProto.FLOAT, [batch, model.n])
    graph = helper.make_graph(nodes, "lista", [given], [found], constants)
    versions = [helper.make_opsetid("", 17)]
    serialized: bytes = helper.make_model(graph, opset_imports=versions, ir_version=8).SerializeToString()
    return serialized


def forward(model: fu.nn.LISTA, y: Tensor) -> Contestant:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(_graph(model, len(y)), options, providers=["CPUExecutionProvider"])
    out = onnxruntime.OrtValue.ortvalue_from_shape_and_type([len(y), model.n], np.float32)
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, onnxruntime.OrtValue.ortvalue_from_numpy(y.numpy()))
    binding.bind_ortvalue_output(session.get_outputs()[0].name, out)
    return Contestant(lambda: session.run_with_iobinding(binding), lambda _: out.numpy().copy(), own_threads=True)
