"""Times a training step with the native kernels and in plain PyTorch."""

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
    """Returns the median times of a training step in milliseconds, with the native kernels and in plain PyTorch.

    A training step is the forward and backward pass of all layers. In plain PyTorch, :mod:`fastunroll.reference` runs
    in the place of the kernels.
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
    for _ in range(_TURNS + 1):  # the first turn warms up and does not count
        ours.append(step())
        with plain():
            eager.append(step())
    return statistics.median(ours[1:]), statistics.median(eager[1:])
