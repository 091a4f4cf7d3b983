"""Random forms of a layer for ``fastunroll.unrolled``."""

from __future__ import annotations

import math
from typing import Any

import fastunroll as fu
import torch
from torch import Tensor

from . import oracle
from .draw import Draw
from .subject import Leaves, Subject
from .tensors import expanded, spoil

DTYPES = [torch.float64, torch.float32, torch.complex128, torch.complex64, torch.bfloat16, torch.float16]
SIZES = [1, 2, 3, 5, 8, 11, 16, 17, 31, 33, 64, 65, 130]


def unrolled(d: Draw) -> Subject:
    dtype = d.pick("dtype", DTYPES, [10, 4, 4, 2, 1, 1])
    real, is_complex = dtype.to_real(), dtype.is_complex
    linear = d.pick("linear", ["affine", "gradient", "gram"])
    schemes = ["proximal_gradient", "fista", "admm", *(["amp"] if linear == "gradient" else [])]
    scheme = d.pick("scheme", schemes)
    kinds = ["soft", "identity"] if is_complex else ["soft", "nonnegative", "identity"]
    kind = d.pick("prox", kinds, [5, 1] if is_complex else [5, 3, 1])
    group = d.pick("group", [1, 2, 3, 5], [5, 1, 1, 1]) if kind == "soft" else 1
    layers = d.pick("layers", [1, 2, 3, 5, 16], [3, 3, 3, 2, 0.5])
    m, n = d.size("m", SIZES), d.size("n", SIZES)
    n = max(1, n // group) * group
    lead = d.lead()
    support_sizes = None
    if kind != "identity" and d.chance("selection", 0.35):
        support_sizes = [d.random.choice([0, 1, 2, 3, n // group, n + 1]) for _ in range(layers)]
    strict = d.chance("exact sums", 0.15) and layers <= 3 and max(m, n) <= 17 and group == 1 and scheme != "amp"
    strict = strict and dtype == torch.float64
    normal = d.whole if strict else d.normal
    leaves: dict[str, Tensor] = {}

    def each(name: str, feature: str, make: Any) -> Any:
        """One for all layers or one a layer, as names of leaves."""
        count = d.pick(f"{feature} of", ["all layers", "each layer"])
        names = [f"{name}{k}" for k in range(layers if count == "each layer" else 1)]
        for one in names:
            leaves[one] = make()
        return names

    def numbers(low: float, high: float, sizes: list[int]) -> Tensor:
        size = d.pick("values", ["scalar", "one", "vector"], [2, 1, 2])
        shape = {"scalar": (), "one": (1,), "vector": (sizes[-1],)}[size]
        if strict:
            return torch.randint(0, 3, shape).to(real)
        return (low + (high - low) * torch.rand(shape, dtype=torch.float64)).to(real)

    def alike(name: str, feature: str, low: float, high: float, sizes: list[int]) -> Any:
        first = numbers(low, high, sizes)
        names = each(name, feature, lambda: numbers_of(first.shape, low, high))
        return names

    def numbers_of(shape: torch.Size, low: float, high: float) -> Tensor:
        if strict:
            return torch.randint(0, 3, shape).to(real)
        return (low + (high - low) * torch.rand(shape, dtype=torch.float64)).to(real)

    scales = [1.0, 1e-4, 1e4, 1e-30 if real == torch.float64 else 1e-6]
    scale = 1.0 if strict or real.itemsize < 4 else d.pick("scale", scales, [20, 1, 1, 1])
    leaves["y"] = (normal(*lead, m, dtype=dtype).to(torch.complex128 if is_complex else torch.float64) * scale).to(
        dtype
    )
    leaves["y"] = expanded(d, leaves["y"])
    if len(lead) and lead[0] > 1 and d.chance("a sample is zero", 0.1):
        leaves["y"] = leaves["y"].clone()
        leaves["y"][0] = 0
    of_samples = ["y"]

    def weight(rows: int, columns: int, size: int) -> Tensor:
        return normal(rows, columns, dtype=dtype) / (1 if strict else size**0.5)

    names: dict[str, list[str]] = {key: [] for key in ("first", "second", "step", "theta", "gain", "beta")}
    if linear == "affine":
        names["first"] = each("W1_", "W1", lambda: weight(n, m, m))
        names["second"] = each("W2_", "W2", lambda: weight(n, n, n))
    elif linear == "gradient":
        names["first"] = each("A", "A", lambda: weight(m, n, m + n))
        if d.chance("own W", 0.6):
            names["second"] = each("W", "W", lambda: weight(m, n, n))
    else:
        leaves["A"] = weight(m, n, m + n)
        names["first"] = ["A"]
        if d.chance("own W", 0.6):
            leaves["W"] = weight(m, n, n)
            names["second"] = ["W"]
    if linear != "affine" and scheme != "amp" and d.chance("step", 0.8):
        names["step"] = alike("step", "step", 0.3, 0.8, [n if linear == "gram" else m])
    if kind != "identity":
        low = d.pick("threshold from", [0.05, 0.3, 0.0, -0.2], [6, 3, 1, 1])
        names["theta"] = alike("theta", "theta", low * scale, (low + 0.3) * scale, [n // group])
        if low == 0.0:
            for name in names["theta"]:
                leaves[name].zero_()
    if d.chance("gain", 0.25):
        names["gain"] = each("gain", "gain", lambda: numbers_of(torch.Size([]), 0.6, 1.4) if not strict
                             else torch.tensor(2.0, dtype=real))  # fmt: skip
    if scheme in ("fista", "admm"):
        names["beta"] = each("beta", "beta", lambda: numbers_of(torch.Size([]), 0.1, 0.9))
    if d.chance("x0", 0.4):
        leaves["x0"] = normal(*lead, n, dtype=dtype)
        leaves["x0"] = leaves["x0"] * (leaves["x0"].abs() > 0.7)
        of_samples.append("x0")
    if scheme != "proximal_gradient" and d.chance("s0", 0.4):
        leaves["s0"] = normal(*lead, m if scheme == "amp" else n, dtype=dtype) / (1 if strict else 2)
        of_samples.append("s0")
    if d.chance("not finite", 0.12):
        name = d.random.choice([name for name in leaves if leaves[name].numel()])
        d.say(f"not finite in {name.rstrip('0123456789_') or name}")
        if name in leaves and leaves[name].numel():
            values: tuple[float, ...] = (math.nan, math.inf, -math.inf)
            if name.startswith("gain"):  # one that is not positive is refused
                values = (math.nan, math.inf)
            if is_complex and group > 1 and support_sizes is not None:
                # PyTorch's product of a complex infinity is infinite or NaN, as its library has it. Selection lets a
                # group of infinite norm pass as it is, with its finite members, but not one whose norm is NaN.
                values = (math.nan,)
            leaves[name] = spoil(d, leaves[name], values)
    keep = d.chance("return_layers", 0.3)
    segment = d.random.randint(1, layers) if not keep and d.chance("keep_every", 0.15) else None
    second_state = scheme != "proximal_gradient" and not keep and d.chance("return_state", 0.2)

    def listed(leaves: Leaves, key: str) -> Any:
        found = [leaves[name] for name in names[key]]
        return None if not found else found[0] if len(found) == 1 else found

    prox: Any = {"soft": fu.prox.L1, "nonnegative": fu.prox.NonNegativeL1, "identity": fu.prox.Identity}[kind]()
    prox = fu.prox.GroupL1(group) if group > 1 else prox
    prox = prox if support_sizes is None else fu.prox.SupportSelection(support_sizes, prox)

    def run(leaves: Leaves) -> Tensor:
        first, second, beta = (listed(leaves, key) for key in ("first", "second", "beta"))
        if linear == "affine":
            step: Any = fu.AffineStep(first, second)
        else:
            via = "gram" if linear == "gram" else "residual"
            step = fu.GradientStep(first, second, listed(leaves, "step"), via)
        schemes = {"fista": fu.schemes.FISTA, "admm": fu.schemes.ADMM}
        plain = {"amp": fu.schemes.AMP(), "proximal_gradient": fu.schemes.ProximalGradient()}
        out: Any = fu.unrolled(
            leaves["y"], step, prox, listed(leaves, "theta"), layers=layers, gain=listed(leaves, "gain"),
            scheme=schemes[scheme](beta) if scheme in schemes else plain[scheme], x0=leaves.get("x0"),
            s0=leaves.get("s0"), return_layers=keep, return_state=second_state, keep_every=segment,
        )  # fmt: skip
        if not second_state:
            return out
        with torch.autocast("cpu", enabled=False):
            return torch.cat(out, dim=-1)

    def exact(leaves: Leaves) -> Tensor:
        lists = {key: [leaves[name] for name in names[key]] for key in names}
        x, s = oracle.network(
            leaves["y"], linear, lists["first"], lists["second"], lists["step"], kind, lists["theta"], lists["gain"],
            group, support_sizes or (), scheme, lists["beta"], leaves.get("x0"), leaves.get("s0"), layers,
        )  # fmt: skip
        if keep:
            return x
        return torch.cat([x[-1], s], dim=-1) if second_state and s is not None else x[-1]

    return Subject(
        "unrolled", leaves, run, exact, lead, tuple(of_samples), layers if keep else 0,
        native=real in (torch.float32, torch.float64) and not (is_complex and linear == "gram"), strict=strict,
    )  # fmt: skip
