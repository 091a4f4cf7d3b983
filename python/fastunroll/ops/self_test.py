"""A comparison of a device's kernels with plain PyTorch, for ``fastunroll info --check`` and ``make gpu``."""

from __future__ import annotations

import torch
from torch import Tensor

from .network import network
from .spec import NetworkSpec, Parameters

_BATCH, _LAYERS = 5, 2
_CASES = (  # spec, number of matrices, m, n, dtype
    (NetworkSpec(_LAYERS), _LAYERS, 12, 17, torch.float32),  # one launch of one block
    (NetworkSpec(_LAYERS), _LAYERS, 12, 300, torch.float32),  # one launch of several blocks
    (NetworkSpec(_LAYERS, linear="gradient"), 1, 12, 300, torch.float32),  # the same with weights in shared memory
    (NetworkSpec(_LAYERS, linear="gradient", scheme="fista"), _LAYERS, 12, 17, torch.float32),
    (NetworkSpec(_LAYERS, linear="gradient", scheme="amp"), _LAYERS, 12, 17, torch.float32),  # sums over samples
    (NetworkSpec(_LAYERS, support_sizes=(3, 3)), _LAYERS, 12, 17, torch.float64),  # layer by layer
)
_TOLERANCES = {torch.float32: 1e-2, torch.float64: 1e-9}  # the first is that of TF32; a mistake is far larger


def self_test(device: torch.device) -> str | None:
    """One sentence about the first network whose values or gradients are wrong; None if all are right."""
    autocast = torch.autocast(device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), autocast:
        for spec, count, m, n, dtype in _CASES:
            name = f"linear {spec.linear}, scheme {spec.scheme}, n = {n}, {dtype}"
            try:
                agrees = _agrees(spec, count, m, n, dtype, device)
            except torch.cuda.OutOfMemoryError:
                raise
            except RuntimeError as error:
                return f"its kernels fail ({name}): {error}"
            if not agrees:
                return f"its kernels disagree with plain PyTorch ({name}): please report it with `fastunroll info`"
    return None


def _agrees(spec: NetworkSpec, count: int, m: int, n: int, dtype: torch.dtype, device: torch.device) -> bool:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        drawn = torch.randn(shape, generator=generator, device="cpu", dtype=torch.float64) * scale
        return drawn.to(device, dtype).requires_grad_()

    depth = m if spec.is_gradient_step else n
    W1_shape = (m, n) if spec.is_gradient_step else (n, m)
    W1 = [draw(*W1_shape, scale=m**-0.5) for _ in range(count)]
    W2 = [draw(depth, n, scale=0.5 * depth**-0.5) for _ in range(count)]
    beta = [draw(1, scale=0.3) for _ in range(_LAYERS)] if spec.scheme == "fista" else []
    p = Parameters(W1, W2, (), [draw(1, scale=0.1) for _ in range(_LAYERS)], (), beta)
    y = draw(_BATCH, m)
    leaves = [y, *(t for group in p for t in group)]

    def values_and_gradients(x: Tensor) -> Tensor:
        grads = torch.autograd.grad(x.square().sum(), leaves, allow_unused=True, materialize_grads=True)
        return torch.cat([x.detach().flatten(), *(g.flatten() for g in grads)]).double()

    found = values_and_gradients(network(spec, p, y, None, None, return_layers=False)[0])
    with torch.no_grad():
        without_gradient = network(spec, p, y, None, None, return_layers=False)[0]
    x = spec.reference(p, y, None, None)[0][-1]
    wanted = values_and_gradients(x)
    errors = (found - wanted).norm() / wanted.norm(), (without_gradient - x.detach()).norm() / x.detach().norm()
    return bool(max(errors) <= _TOLERANCES[dtype])
