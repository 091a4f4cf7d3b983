"""Gradients by plain PyTorch, for second derivatives and batches of gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._precision import own_precision
from .network_call import Spec, parameters_of


def gradients_of(
    function: Callable[..., Sequence[Tensor]], tensors: Sequence[Tensor | None], needs: Sequence[bool],
    grads: Sequence[Tensor | None],
) -> list[Tensor | None]:  # fmt: skip
    """The gradients of the tensors that ``needs`` asks for; None for the others.

    function: of the tensors, returns outputs, of which some may require no gradient. grads: that of each output.
    """
    create_graph = torch.is_grad_enabled()
    leaves: list[Any] = [
        t if t is None or not need else t.view_as(t) if create_graph else t.detach().requires_grad_()
        for t, need in zip(tensors, needs, strict=True)
    ]
    with torch.enable_grad():
        outputs = zip(function(*leaves), grads, strict=True)
        pairs = [(out, g) for out, g in outputs if g is not None and out.requires_grad]
        found = iter(
            torch.autograd.grad(
                [out for out, _ in pairs], [t for t, need in zip(leaves, needs, strict=True) if need],
                [g for _, g in pairs], create_graph=create_graph, allow_unused=True, materialize_grads=True,
            )
        )  # fmt: skip
    return [next(found) if need else None for need in needs]


def plain_gradients(
    spec: Spec, counts: Sequence[int], y: Tensor, x0: Tensor | None, s0: Tensor | None, parameters: Sequence[Tensor],
    grad: Tensor, grad_s: Tensor | None, needs: Sequence[bool],
) -> list[Tensor | None]:  # fmt: skip
    """The gradients of y, x0, s0 and each parameter of a network."""

    def network(y: Tensor, x0: Tensor | None, s0: Tensor | None, *own: Tensor) -> tuple[Tensor, Tensor]:
        x, s = spec.reference(parameters_of(spec, own, counts), y, x0, s0)
        return (x if grad.dim() == 3 else x[-1]), s  # the state after one layer of FISTA is x0

    with own_precision(y):
        return gradients_of(network, [y, x0, s0, *parameters], needs, [grad, grad_s])
