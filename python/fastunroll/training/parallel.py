"""Data-parallel training in the processes that torchrun starts. With one process, these functions change nothing."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def _is_on() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    return dist.get_rank() if _is_on() else 0


def start(model: nn.Module) -> None:
    """Joins the process group, if torchrun has started one, and copies the network of the first process to all."""
    several = dist.is_available() and dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1
    if several and not dist.is_initialized():
        device = next(model.parameters()).device
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if _is_on():
        for t in (*model.parameters(), *model.buffers()):
            dist.broadcast(t.data, 0)


def processes() -> int:
    return dist.get_world_size() if _is_on() else 1


def gather(value: Tensor) -> list[Tensor]:
    """Returns the values of all processes, in the order of their ranks."""
    if not _is_on():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Replaces every gradient by its mean over processes, with a single all-reduce."""
    if not _is_on():
        return
    for p in parameters:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    grads = [p.grad for p in parameters if p.grad is not None]
    real = [torch.view_as_real(g) if g.is_complex() else g for g in grads]
    flat = torch.cat([g.reshape(-1) for g in real])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for g, part in zip(real, flat.split([g.numel() for g in real]), strict=True):
        g.copy_(part.view_as(g))


def mean(value: float) -> float:
    """Returns the mean of ``value`` over processes."""
    if not _is_on():
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    total = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return float(total) / dist.get_world_size()


def all_finite(value: float) -> bool:
    """Returns whether ``value`` is finite in every process. All processes get the same answer and stop together."""
    return math.isfinite(mean(value))


def progress_bar(total: int, title: str, shown: bool) -> Any:
    """Returns a progress bar, which only the first process shows."""
    from tqdm import tqdm

    return tqdm(total=total, desc=title, unit="step", dynamic_ncols=True, disable=not shown or rank() > 0)
