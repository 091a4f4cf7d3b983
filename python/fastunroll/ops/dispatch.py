"""Which kernel a network gets on a device: of those that can run it, the one measured to be the fastest there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import log2
from typing import Any

import torch
from torch import Tensor

from .device import describe, kernels, where
from .spec import PROXES, SCHEMES, NetworkSpec, Parameters, sizes
from .timings import Timings, of_device

# In the order of the native code.
PRECISIONS = ("single", "tf32", "bfloat16")
LARGEST = 512  # columns of float32 that some kernel has room for
KINDS = ("untied", "tied", "gradient")
_WIDE, _WIDE_FROM = 8, 256  # blocks for few samples of more columns: what counts is how fast weights come in


def precision_of(y: Tensor) -> str | None:
    """What products are computed with; None if there is no fused kernel for the type."""
    if y.dtype == torch.bfloat16:
        return "bfloat16"
    if y.dtype != torch.float32:
        return None
    return "tf32" if y.is_cuda and _tf32_is_allowed() else "single"


def _tf32_is_allowed() -> bool:
    matmul = torch.backends.cuda.matmul
    said = getattr(matmul, "fp32_precision", "none")  # since torch 2.9; it forbids reading the other if it was set
    return said == "tf32" if said in ("tf32", "ieee") else bool(matmul.allow_tf32)


@dataclass(frozen=True)
class Plan:
    """A fused kernel and how work is shared out: 16 ``tall`` samples to a cluster of ``blocks``.

    keeps: matrices that all layers share stay in shared memory.
    """

    precision: str
    tall: int
    blocks: int
    keeps: bool = False

    @property
    def shape(self) -> tuple[int, int, bool]:
        """As the native code wants it."""
        return self.tall, self.blocks, self.keeps


_SHAPES: tuple[tuple[int, int, bool], ...] = (
    *((tall, blocks, False) for blocks in (1, 2, 4) for tall in (1, 2)), (1, 8, True), (1, 16, False), (1, 16, True),
)  # fmt: skip


def name_of(plan: Plan | None) -> str:
    """As timings call it."""
    if plan is None:
        return "layer by layer"
    return f"{16 * plan.tall} samples on {plan.blocks} blocks" + (" with their matrices" if plan.keeps else "")


def reason_against(f: NetworkSpec, y: Tensor) -> str | None:
    """Why a network cannot run in one launch, whatever its size."""
    if precision_of(y) is None:
        return f"there is none for {y.dtype}"
    if f.linear == "gram":
        return "tensor cores gain nothing by a Gram matrix"
    if any(f.support_sizes):
        return "support selection looks at whole samples"
    if f.group > 2:
        return "groups of more than 2 are spread over threads"
    return None


def reason_against_gradient(s0: Tensor | None, grad_s: Tensor | None) -> str | None:
    """Why the gradient of a network that ran in one launch cannot."""
    return None if s0 is None and grad_s is None else "the second state was given, or has a gradient"


def kind_of(f: NetworkSpec, p: Parameters) -> str:
    """What of a network's form decides which kernel is the fastest."""
    return "gradient" if f.is_gradient_step else "tied" if len(p.W2) == 1 else "untied"


def candidates(module: Any, f: NetworkSpec, p: Parameters, y: Tensor, gradient: bool = False) -> dict[Plan, int]:
    """The fused kernels that can run a network or its gradient, and of how many samples each at once."""
    precision = precision_of(y)
    if precision is None or reason_against(f, y) is not None:
        return {}
    clusters = describe(module, y.device)[1]
    shared = f.layers > 1 and max(len(p.W1), len(p.W2)) == 1
    possible = [
        Plan(precision, tall, blocks, keeps)
        for tall, blocks, keeps in _SHAPES
        if (blocks == 1 or clusters) and (shared or not keeps)
    ]
    rooms = {plan: _room(module, y, gradient, plan, numbers(module, f, p, y)) for plan in possible}
    return {plan: 16 * plan.tall * room for plan, room in rooms.items() if room}


def plan(module: Any, f: NetworkSpec, p: Parameters, y: Tensor, gradient: bool = False) -> Plan | None:
    """The kernel for a batch, or for its gradient; None for layer by layer."""
    possible = candidates(module, f, p, y, gradient)
    if not possible:
        return None
    if _forced:
        return _forced[-1] if _forced[-1] in possible else None
    n, batch = sizes(f, p)[1], y.shape[0]
    times = measured(of_device(y.device), kind_of(f, p), next(iter(possible)).precision, gradient, n, batch)
    if times is None:
        return _usual(possible, n, batch)
    known = {times[name_of(choice)]: choice for choice in (*possible, None) if name_of(choice) in times}
    return known[min(known)] if known else _usual(possible, n, batch)


def measured(
    timings: Timings | None, kind: str, precision: str, gradient: bool, n: int, batch: int
) -> dict[str, float] | None:
    """Of the case nearest to this one, the time of each kernel."""
    cases = [] if timings is None else [
        c for c in timings.cases if (c.kind, c.precision, c.gradient) == (kind, precision, gradient)
    ]  # fmt: skip
    if not cases:
        return None

    def distance(value: int, of: int) -> float:
        return abs(log2(max(value, 1)) - log2(of))

    return min(cases, key=lambda c: (distance(n, c.n), distance(batch, c.batch))).times


def _usual(possible: dict[Plan, int], n: int, batch: int) -> Plan:
    """Where nothing was measured: what arithmetic says."""
    wide = [p for p in possible if p.blocks >= _WIDE and batch <= possible[p]] if n > _WIDE_FROM else []
    if wide:
        return max(wide, key=lambda p: (p.blocks, p.keeps))
    blocks = min(p.blocks for p in possible)
    fitting = [p for p in possible if p.blocks == blocks]
    # The fewest samples at a time that still occupy the whole device at once.
    enough = [p for p in fitting if batch <= possible[p]]
    return enough[0] if enough else fitting[-1]


def examples(device: torch.device) -> list[str]:
    """A sentence of how kernels are chosen on a device that has them, and some that calls would get there."""
    timings = of_device(device)
    why = f"the fastest measured on {timings.date[:10]}" if timings else "by rule: `fastunroll tune` measures them"
    lines = [f"kernels for networks: {why}; so for float32, not tied:"]
    for n in (128, 500):
        first, second = (torch.empty(n, columns, device=device) for columns in (n // 2, n))
        p = Parameters([first] * 16, [second] * 16, theta=[first.new_empty(1)])
        for batch in (1, 64, 1024, 65536):
            y = first.new_empty(1, n // 2).expand(batch, -1)
            module = kernels(y)
            assert module is not None
            chosen = [name_of(plan(module, NetworkSpec(16), p, y, gradient)) for gradient in (False, True)]
            lines.append(f"  n = {n}, {batch} samples: {chosen[0]}; gradient: {chosen[1]}")
    return lines


_forced: list[Plan | None] = []


@contextmanager
def only(chosen: Plan | None) -> Iterator[None]:
    """Makes it the kernel, or none, wherever it can run: to measure it, and to test it."""
    _forced.append(chosen)
    try:
        yield
    finally:
        _forced.pop()


_rooms: dict[tuple[Any, ...], int] = {}


def _room(module: Any, y: Tensor, gradient: bool, plan: Plan, of: tuple[int, ...]) -> int:
    """How many of its clusters the device has room for at once; 0 if there is no such kernel."""
    key = module, y.device, gradient, plan, *of[4:]  # without batch, layers, and sizes not padded
    if key not in _rooms:
        _rooms[key] = module.fused_room(where(y), gradient, PRECISIONS.index(plan.precision), plan.shape, of)
    return _rooms[key]


def padded(module: Any, size: int) -> int:
    unit: int = module.fused_padding
    return -(-size // unit) * unit


def numbers(module: Any, f: NetworkSpec, p: Parameters, y: Tensor) -> tuple[int, ...]:
    """A network as the fused kernels want it."""
    m, n = sizes(f, p)
    return (
        y.shape[0], f.layers, m, n, padded(module, m), padded(module, n), f.is_gradient_step, SCHEMES.index(f.scheme),
        PROXES.index(f.prox), f.group,
    )  # fmt: skip
