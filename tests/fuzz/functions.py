"""Random calls of the functions and small modules that networks and solvers are made of."""

from __future__ import annotations

from math import prod
from typing import Any

import fastunroll as fu
import torch
from torch import Tensor
from twins import shrink

from .draw import Draw
from .subject import Leaves, Subject
from .tensors import expanded, spoil

DTYPES = [torch.float64, torch.float32, torch.complex128, torch.complex64, torch.bfloat16, torch.float16]
SIZES = [1, 2, 3, 5, 8, 11, 16, 17, 31, 33, 64, 65, 130]


def _dtype(d: Draw) -> torch.dtype:
    return d.pick("dtype", DTYPES, [10, 4, 4, 2, 1, 1])


def _spoiled(d: Draw, leaves: dict[str, Tensor]) -> None:
    if d.chance("not finite", 0.12):
        name = d.random.choice([name for name in leaves if leaves[name].numel()] or [""])
        if name:
            d.say(f"not finite in {name}")
            leaves[name] = spoil(d, leaves[name])


def soft_threshold(d: Draw) -> Subject:
    dtype, lead = _dtype(d), d.lead()
    n = d.size("n", SIZES)
    shape = (*lead, n)
    x = expanded(d, d.normal(*shape, dtype=dtype))
    # A threshold that broadcasts: some dimensions of x, some of size 1, some left out.
    own = [1 if d.random.random() < 0.4 else size for size in shape][d.random.randrange(len(shape) + 1) :]
    d.say(f"theta dims={len(own)}")
    low = d.pick("threshold from", [0.2, 0.0, -0.3], [6, 1, 1])
    leaves = {"x": x, "theta": (low + torch.rand(own, dtype=torch.float64) * (low != 0)).to(dtype.to_real())}
    _spoiled(d, leaves)
    as_module = low >= 0 and d.chance("as a module", 0.2)
    layer: Any = None
    if as_module:
        layer = fu.nn.SoftThreshold(0.1, shape=own, dtype=dtype.to_real())

    def run(leaves: Leaves) -> Tensor:
        if layer is not None:
            return torch.func.functional_call(layer, {"theta": leaves["theta"]}, (leaves["x"],))
        return fu.soft_threshold(leaves["x"], leaves["theta"])

    whole = leaves["theta"].shape == leaves["x"].shape
    return Subject(
        "soft_threshold", leaves, run, lambda leaves: shrink(leaves["x"], leaves["theta"]), lead,
        ("x", "theta") if whole else ("x",) if len(own) <= 1 else (),
    )  # fmt: skip


def _matrix_problem(d: Draw, dtype: torch.dtype) -> tuple[dict[str, Tensor], tuple[int, ...]]:
    lead, m, n = d.lead(), d.size("m", SIZES), d.size("n", SIZES)
    x = d.normal(*lead, n, dtype=dtype)
    leaves = {
        "x": expanded(d, x * (x.abs() > 0.7)),
        "y": expanded(d, d.normal(*lead, m, dtype=dtype)),
        "A": d.normal(m, n, dtype=dtype) / (m + n) ** 0.5,
    }
    return leaves, lead


def _scalar(d: Draw, low: float, high: float, dtype: torch.dtype) -> Tensor:
    shape = d.pick("scalar shape", [(), (1,)], [3, 1])
    return torch.full(shape, d.uniform(low, high), dtype=torch.float64).to(dtype.to_real())


def gradient_step(d: Draw) -> Subject:
    dtype = _dtype(d)
    leaves, lead = _matrix_problem(d, dtype)
    leaves["step"] = _scalar(d, 0.2, 1, dtype)
    _spoiled(d, leaves)

    def exact(v: Leaves) -> Tensor:
        return v["x"] - v["step"] * ((v["x"] @ v["A"].mT - v["y"]) @ v["A"].conj())

    return Subject(
        "gradient_step", leaves, lambda v: fu.gradient_step(v["x"], v["y"], v["A"], v["step"]), exact, lead, ("x", "y")
    )


def ista_step(d: Draw) -> Subject:
    dtype = _dtype(d)
    leaves, lead = _matrix_problem(d, dtype)
    leaves["step"] = _scalar(d, 0.2, 1, dtype)
    n = leaves["A"].shape[1]
    shape = d.pick("theta shape", [(), (1,), (n,), (*lead, 1), (*lead, n)])
    leaves["theta"] = (0.05 + 0.3 * torch.rand(shape, dtype=torch.float64)).to(dtype.to_real())
    of_samples = ("x", "y", "theta") if len(shape) == len(lead) + 1 > 1 else ("x", "y")
    if len(shape) > 1 and prod(shape[:-1]) == 0 and len(of_samples) == 2:
        of_samples = ("x", "y")
    _spoiled(d, leaves)

    def exact(v: Leaves) -> Tensor:
        return shrink(v["x"] - v["step"] * ((v["x"] @ v["A"].mT - v["y"]) @ v["A"].conj()), v["theta"])

    def run(v: Leaves) -> Tensor:
        return fu.ista_step(v["x"], v["y"], v["A"], v["step"], v["theta"])

    return Subject("ista_step", leaves, run, exact, lead, of_samples)


def losses(d: Draw) -> Subject:
    dtype = _dtype(d)
    leaves, lead = _matrix_problem(d, dtype)
    which = d.pick("loss", ["kkt_residual", "lasso_objective"])
    shape = d.pick("lam shape", [(), (leaves["A"].shape[1],), (*lead, 1)])
    leaves["lam"] = (0.05 + 0.3 * torch.rand(shape, dtype=torch.float64)).to(dtype.to_real())
    _spoiled(d, leaves)

    def exact(v: Leaves) -> Tensor:
        x, y, A, lam = v["x"], v["y"], v["A"], v["lam"]
        if which == "lasso_objective":
            return (x @ A.mT - y).abs().square().sum(-1) / 2 + (lam * x.abs()).sum(-1)
        moved = x - shrink(x - (x @ A.mT - y) @ A.conj(), lam)
        return torch.linalg.vector_norm(moved, dim=-1) / torch.linalg.vector_norm(y @ A.conj(), dim=-1)

    def run(v: Leaves) -> Tensor:
        return getattr(fu.losses, which)(v["x"], v["y"], v["A"], v["lam"])

    of_samples = ("x", "y", "lam") if len(shape) == len(lead) + 1 > 1 else ("x", "y")
    return Subject(which, leaves, run, exact, lead, of_samples)


def products(d: Draw) -> Subject:
    dtype = _dtype(d)
    leaves, lead = _matrix_problem(d, dtype)
    which = d.pick("product", ["forward", "adjoint", "gradient"])
    A = leaves.pop("A")
    op = fu.operators.Dense(A)
    if which != "gradient":
        leaves = {"x": leaves["x" if which == "forward" else "y"]}
    _spoiled(d, leaves)
    wide = op.A.to(torch.complex128 if A.is_complex() else torch.float64)

    def exact(v: Leaves) -> Tensor:
        if which == "gradient":
            return (v["x"] @ wide.mT - v["y"]) @ wide.conj()
        return v["x"] @ (wide.mT if which == "forward" else wide.conj())

    def run(v: Leaves) -> Tensor:
        return (
            op.gradient(v["x"], v["y"]) if which == "gradient" else (op if which == "forward" else op.adjoint)(v["x"])
        )

    return Subject(f"Dense {which}", leaves, run, exact, lead, tuple(leaves))


def ista_layer(d: Draw) -> Subject:
    dtype = d.pick("dtype", DTYPES[:4])
    leaves, lead = _matrix_problem(d, dtype)
    layer = fu.nn.ISTALayer(leaves.pop("A"), lam=d.uniform(0, 0.3))
    wide = layer.A.to(torch.complex128 if dtype.is_complex else torch.float64)
    leaves |= {name: p.detach() for name, p in layer.named_parameters()}

    def run(v: Leaves) -> Tensor:
        own = {"step": v["step"], "theta": v["theta"]}
        return torch.func.functional_call(layer, own, (v["x"], v["y"]))

    def exact(v: Leaves) -> Tensor:
        A = wide.to(v["x"].dtype)
        return shrink(v["x"] - v["step"] * ((v["x"] @ A.mT - v["y"]) @ A.conj()), v["theta"])

    return Subject("ISTALayer", leaves, run, exact, lead, ("x", "y"))
