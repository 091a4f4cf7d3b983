"""The gradient of a network in plain PyTorch, for second derivatives and batches of gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._precision import own_precision
from .network_call import Spec, parameters_of


def plain_gradients(
    spec: Spec, counts: Sequence[int], y: Tensor, x0: Tensor | None, s0: Tensor | None, parameters: Sequence[Tensor],
    grad: Tensor, grad_s: Tensor | None, needs: Sequence[bool],
) -> list[Tensor | None]:  # fmt: skip
    """The gradients of y, x0, s0 and each parameter that ``needs`` asks for; None for the others."""
    create_graph = torch.is_grad_enabled()
    leaves: list[Any] = [
        t if t is None or not need else t.view_as(t) if create_graph else t.detach().requires_grad_()
        for t, need in zip((y, x0, s0, *parameters), needs, strict=True)
    ]
    with torch.enable_grad(), own_precision(y):
        y, x0, s0, *own = leaves
        x, s = spec.reference(parameters_of(spec, own, counts), y, x0, s0)
        pairs = [(x if grad.dim() == 3 else x[-1], grad), (s, grad_s)]
        # The state after one layer of FISTA is x0, which may not require a gradient.
        pairs = [(out, g) for out, g in pairs if g is not None and out.requires_grad]
        found = iter(
            torch.autograd.grad(
                [out for out, _ in pairs], [t for t, need in zip(leaves, needs, strict=True) if need],
                [g for _, g in pairs], create_graph=create_graph, allow_unused=True, materialize_grads=True,
            )
        )  # fmt: skip
    return [next(found) if need else None for need in needs]
