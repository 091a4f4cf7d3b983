"""LISTA with the matrix products of oneDNN, through the operators that torch.compile uses for packed weights."""

from __future__ import annotations

import fastunroll as fu
import torch
from harness import Contestant
from lista_eager import weights
from torch import Tensor
from torch.nn import functional as F

MISSING = (
    None
    if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    else "oneDNN left out: this build of torch lacks it"
)


@torch.no_grad()
def forward(model: fu.nn.LISTA, y: Tensor) -> Contestant:
    """Makes a program with weights packed for this batch, sums fused into the products, and fixed thresholds."""
    ops = torch.ops.mkldnn
    w1, w2, theta = weights(model)
    packed1, packed2 = ([ops._reorder_linear_weight(w.detach(), len(y)) for w in group] for group in (w1, w2))
    numbers = [t.item() for t in theta]

    def product(weight: Tensor) -> Tensor:
        out: Tensor = ops._linear_pointwise(y, weight, None, "none", [], "")
        return out

    @torch.no_grad()
    def run() -> Tensor:
        seen = product(packed1[0])
        x = F.softshrink(seen, numbers[0])
        for k in range(1, len(numbers)):
            if len(packed1) > 1:
                seen = product(packed1[k])
            z = ops._linear_pointwise.binary(x, seen, packed2[k if len(packed2) > 1 else 0], None, "add")
            x = F.softshrink(z, numbers[k])
        return x

    return Contestant(run)
