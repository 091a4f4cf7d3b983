"""How long a training step takes, natively and in plain PyTorch."""

from __future__ import annotations

import statistics
from time import perf_counter

import torch

from .. import nn
from ..data import Problem
from ..ops import plain
from ..training import supervised

_TURNS = 5


def step_times(net: nn.UnrolledNetwork, problem: Problem, batch: int = 128) -> tuple[float, float]:
    """Milliseconds of one training step of all layers, forward and backward: ours, and plain PyTorch's; medians.

    Plain PyTorch is :mod:`fastunroll.reference` in place of the kernels, and else the same program.
    """
    y, x = problem.sample(batch, torch.Generator().manual_seed(0))

    def step() -> float:
        start = perf_counter()
        loss = supervised(net(y), y, x)
        if loss.requires_grad:
            loss.backward()
        net.zero_grad()
        return 1e3 * (perf_counter() - start)

    ours, eager = [], []
    for _ in range(_TURNS + 1):  # the first warms up
        ours.append(step())
        with plain():
            eager.append(step())
    return statistics.median(ours[1:]), statistics.median(eager[1:])
