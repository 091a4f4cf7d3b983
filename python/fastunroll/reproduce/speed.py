"""Times a training step with the native kernels and in plain PyTorch."""

from __future__ import annotations

import torch

from .. import nn
from ..data import Problem
from ..demo.timing import milliseconds
from ..ops import plain
from ..training import supervised

_TURNS = 5


def step_times(net: nn.UnrolledNetwork, problem: Problem, batch: int = 128) -> tuple[float, float]:
    """Returns the median times of a training step in milliseconds, with the native kernels and in plain PyTorch.

    A training step is the forward and backward pass of all layers. In plain PyTorch, :mod:`fastunroll.reference` runs
    in the place of the kernels.
    """
    y, x = problem.sample(batch, torch.Generator().manual_seed(0))

    def step() -> None:
        loss = supervised(net(y), y, x)
        if loss.requires_grad:
            loss.backward()
        net.zero_grad()

    def eager_step() -> None:
        with plain():
            step()

    ours, eager = milliseconds([step, eager_step], 0.0, turns=_TURNS)
    return ours, eager
