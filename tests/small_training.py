"""A small problem, a network for it, and quiet options of training."""

from __future__ import annotations

from typing import Any

import fastunroll as fu
import torch
from fastunroll.data import SparseRecovery, sensing_matrix
from torch import Tensor

A = sensing_matrix(20, 40)
PROBLEM = SparseRecovery(A, snr=40)
QUIET: dict[str, Any] = {"progress": False, "batch": 32, "held_out": 64, "check_every": 5}


def alista(layers: int = 4) -> fu.nn.ALISTA:
    return fu.nn.ALISTA(A, layers=layers)


def weights(net: torch.nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
