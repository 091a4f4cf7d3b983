"""The choice of a kernel for a network on a device: the fastest measured of those that can run it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import log2
from typing import Any

import torch
from torch import Tensor

from ..spec import NetworkSpec, Parameters
from .device import describe, stream_of
from .packed_weights import padded
from .timings import Timings, of_device

LARGEST = 512  # the most columns of float32 for which a fused kernel exists
KINDS = ("untied", "tied", "gradient")
_WIDE, _WIDE_FROM = 8, 256  # few samples of more columns take 8 blocks or more: fetching the weights takes longest


def precision_of(y: Tensor) -> str | None:
    """The precision of products; None if there is no fused kernel for the dtype."""
    if y.dtype == torch.bfloat16:
        return "bfloat16"
    if y.dtype != torch.float32:
        return None
    return "tf32" if y.is_cuda and _tf32_is_allowed() else "single"


def _tf32_is_allowed() -> bool:
    matmul = torch.backends.cuda.matmul
    # Since torch 2.9, which forbids reading allow_tf32 where this is set.
    precision = getattr(matmul, "fp32_precision", "none")
    return precision == "tf32" if precision in ("tf32", "ieee") else bool(matmul.allow_tf32)


@dataclass(frozen=True)
class Plan:
    """A fused kernel, and how it divides the work.

    row_tiles: a cluster computes 16 · ``row_tiles`` samples.
    blocks: the blocks of a cluster.
    weights_in_smem: matrices that all layers share stay in shared memory.
    """

    precision: str  # "single", "tf32" or "bfloat16"
    row_tiles: int
    blocks: int
    weights_in_smem: bool = False


_SHAPES: tuple[tuple[int, int, bool], ...] = (
    *((row_tiles, blocks, False) for blocks in (1, 2, 4) for row_tiles in (1, 2)),
    (1, 8, True), (1, 16, False), (1, 16, True),
)  # fmt: skip


def name_of(plan: Plan | None) -> str:
    """The name of a kernel in timings."""
    if plan is None:
        return "layer by layer"
    return f"{16 * plan.row_tiles} samples on {plan.blocks} blocks" + (
        " with their matrices" if plan.weights_in_smem else ""
    )


def unsupported_reason(spec: NetworkSpec, y: Tensor) -> str | None:
    """Why a network of any size cannot run in one launch; None if it can."""
    if precision_of(y) is None:
        return f"there is none for {y.dtype}"
    if spec.linear == "gram":
        return "a Gram matrix gains nothing on tensor cores"
    if any(spec.support_sizes):
        return "support selection looks at whole samples"
    if spec.group > 2:
        return "groups of more than 2 are spread over threads"
    return None


def kind_of(spec: NetworkSpec, p: Parameters) -> str:
    """The kind of network by which timings are looked up."""
    return "gradient" if spec.is_gradient_step else "tied" if len(p.W2) == 1 else "untied"


def candidates(module: Any, spec: NetworkSpec, p: Parameters, y: Tensor, gradient: bool = False) -> dict[Plan, int]:
    """The fused kernels that can run a network or its gradient, and how many samples each computes at once."""
    precision = precision_of(y)
    if precision is None or unsupported_reason(spec, y) is not None:
        return {}
    clusters = describe(module, y.device)[1]
    shared = spec.layers > 1 and max(len(p.W1), len(p.W2)) == 1
    possible = [
        Plan(precision, row_tiles, blocks, weights_in_smem)
        for row_tiles, blocks, weights_in_smem in _SHAPES
        if (blocks == 1 or clusters) and (shared or not weights_in_smem)
    ]
    active = {plan: _max_active_clusters(module, y, gradient, plan, spec, p) for plan in possible}
    return {plan: 16 * plan.row_tiles * clusters for plan, clusters in active.items() if clusters}


def plan(module: Any, spec: NetworkSpec, p: Parameters, y: Tensor, gradient: bool = False) -> Plan | None:
    """The kernel for a batch, or for its gradient; None for layer by layer."""
    possible = candidates(module, spec, p, y, gradient)
    if not possible:
        return None
    if _forced:
        return _forced[-1] if _forced[-1] in possible else None
    n, batch = spec.sizes(p)[1], y.shape[0]
    times = measured_times(of_device(y.device), kind_of(spec, p), next(iter(possible)).precision, gradient, n, batch)
    if times is None:
        return _by_rule(possible, n, batch)
    known = {times[name_of(choice)]: choice for choice in (*possible, None) if name_of(choice) in times}
    return known[min(known)] if known else _by_rule(possible, n, batch)


def measured_times(
    timings: Timings | None, kind: str, precision: str, gradient: bool, n: int, batch: int
) -> dict[str, float] | None:
    """The time of each kernel in the measured case nearest to this one; None if there is none of this kind."""
    cases = [] if timings is None else [
        c for c in timings.cases if (c.kind, c.precision, c.gradient) == (kind, precision, gradient)
    ]  # fmt: skip
    if not cases:
        return None

    def distance(value: int, of: int) -> float:
        return abs(log2(max(value, 1)) - log2(of))

    return min(cases, key=lambda c: (distance(n, c.n), distance(batch, c.batch))).times


def _by_rule(possible: dict[Plan, int], n: int, batch: int) -> Plan:
    """The kernel where nothing was measured."""
    wide = [p for p in possible if p.blocks >= _WIDE and batch <= possible[p]] if n > _WIDE_FROM else []
    if wide:
        return max(wide, key=lambda p: (p.blocks, p.weights_in_smem))
    blocks = min(p.blocks for p in possible)
    fitting = [p for p in possible if p.blocks == blocks]
    # The fewest samples a cluster for which the batch still runs at once.
    enough = [p for p in fitting if batch <= possible[p]]
    return enough[0] if enough else fitting[-1]


def examples(module: Any, device: torch.device) -> list[str]:
    """How kernels are chosen on a device that has them, and the kernels of some calls there, a line each."""
    timings = of_device(device)
    why = f"the fastest measured on {timings.date[:10]}" if timings else "by rule: `fastunroll tune` measures them"
    lines = [f"kernels for networks: {why}; so for float32, not tied:"]
    for n in (128, 500):
        first, second = (torch.empty(n, columns, device=device) for columns in (n // 2, n))
        p = Parameters([first] * 16, [second] * 16, theta=[first.new_empty(1)])
        for batch in (1, 64, 1024, 65536):
            y = first.new_empty(1, n // 2).expand(batch, -1)
            chosen = [name_of(plan(module, NetworkSpec(16), p, y, gradient)) for gradient in (False, True)]
            lines.append(f"  n = {n}, {batch} samples: {chosen[0]}; gradient: {chosen[1]}")
    return lines


_forced: list[Plan | None] = []


@contextmanager
def only(chosen: Plan | None) -> Iterator[None]:
    """Forces one fused kernel, or None for layer by layer, wherever it can run: for measurements and tests."""
    _forced.append(chosen)
    try:
        yield
    finally:
        _forced.pop()


_active: dict[tuple[Any, ...], int] = {}


def _max_active_clusters(module: Any, y: Tensor, gradient: bool, plan: Plan, spec: NetworkSpec, p: Parameters) -> int:
    """The number of clusters that the device runs at once; 0 if there is no such kernel."""
    m, n = spec.sizes(p)
    sizes = padded(module, m), padded(module, n)
    # Neither the batch nor the number of layers matters, but whether layers share matrices does: that is in the plan.
    key = module, y.device, gradient, plan, sizes, spec.is_gradient_step, spec.scheme, spec.prox, spec.group
    if key not in _active:
        _active[key] = module.max_active_clusters(stream_of(y), plan, gradient, module.FusedLayers(spec, m, n))
    return _active[key]
