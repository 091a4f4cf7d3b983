"""The gradient of a network by plain PyTorch, for second derivatives and batches of gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import reference
from .spec import NetworkSpec, Parameters, sizes


def plain_gradients(
    f: NetworkSpec, counts: Sequence[int], y: Tensor, x0: Tensor | None, s0: Tensor | None,
    parameters: Sequence[Tensor], grad: Tensor, grad_s: Tensor | None, needs: Sequence[bool],
) -> list[Tensor | None]:  # fmt: skip
    """Those of y, x0, s0 and each parameter that ``needs`` asks for; None for the others."""
    again = torch.is_grad_enabled()
    leaves: list[Any] = [
        t if t is None or not need else t.view_as(t) if again else t.detach().requires_grad_()
        for t, need in zip((y, x0, s0, *parameters), needs, strict=True)
    ]
    with torch.enable_grad():
        return _differentiated(f, counts, leaves, grad, grad_s, needs, again)


def _differentiated(
    f: NetworkSpec, counts: Sequence[int], leaves: list[Any], grad: Tensor, grad_s: Tensor | None,
    needs: Sequence[bool], again: bool,
) -> list[Tensor | None]:  # fmt: skip
    y, x0 = leaves[:2]
    p = Parameters.split(leaves[3:], counts)
    start = y.new_zeros(y.shape[0], sizes(f, p)[1]) if x0 is None else x0
    x, s = reference.network(
        y, *p, start, leaves[2], layers=f.layers, linear=f.linear, scheme=f.scheme, prox=f.prox,
        group=f.group, support_sizes=f.support_sizes,
    )  # fmt: skip
    pairs = [(x if grad.dim() == 3 else x[-1], grad), (s, grad_s)]
    # The state after one layer with momentum is x0, which may depend on nothing that learns.
    pairs = [(out, g) for out, g in pairs if g is not None and out.requires_grad]
    found = iter(
        torch.autograd.grad(
            [out for out, _ in pairs], [t for t, need in zip(leaves, needs, strict=True) if need],
            [g for _, g in pairs], create_graph=again, allow_unused=True, materialize_grads=True,
        )
    )  # fmt: skip
    return [next(found) if need else None for need in needs]
