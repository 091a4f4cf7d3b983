"""Random calls of the classical solvers: those that are functions of their arguments, against plain PyTorch."""

from __future__ import annotations

import fastunroll as fu
import torch
from problems import Opaque
from torch import Tensor

from . import oracle
from .draw import Draw
from .subject import Leaves, Subject
from .tensors import spoil

SIZES = [1, 2, 3, 5, 8, 11, 16, 17, 31, 33, 64]

# Solvers that look at samples between iterations read values, which vmap hides: they say so. An operator gets a batch.
WATCHED = {"refuses vmap": "torch.vmap hides"}
OPERATOR = {"refuses vmap": "y must be a batch of signals"}


def sparse_problem(d: Draw, dtypes: list[torch.dtype]) -> tuple[dict[str, Tensor], tuple[int, ...]]:
    """A, y and λ, of which the sizes suit each other."""
    dtype = d.pick("dtype", dtypes)
    m, n, lead = d.size("m", SIZES), d.size("n", SIZES), d.lead()
    A = d.normal(m, n, dtype=dtype) / m**0.5
    x = d.normal(*lead, n, dtype=dtype) * (torch.rand(*lead, n) < 0.3)
    y = x @ A.mT + 0.05 * d.normal(*lead, m, dtype=dtype)
    shape = d.pick("lam shape", [(), (n,), (*lead, 1)], [4, 1, 1])
    lam = (0.05 + 0.2 * torch.rand(shape, dtype=torch.float64)).to(dtype.to_real())
    return {"y": y, "A": A, "lam": lam}, lead


def iterations(d: Draw) -> Subject:
    """ISTA and FISTA with a fixed number of iterations."""
    which = d.pick("solver", ["ista", "fista"])
    leaves, lead = sparse_problem(d, [torch.float64, torch.float64, torch.float32, torch.complex128])
    count = d.pick("iterations", [1, 2, 7, 30])
    lam, per_sample = leaves["lam"], leaves["lam"].dim() > 1 or (leaves["lam"].dim() == 1 and len(lead) == 0)
    per_sample = lam.shape == (*lead, 1) and len(lead) > 0
    leaves["step"] = torch.tensor(1 / fu.operators.Dense(leaves["A"]).norm() ** 2, dtype=lam.dtype)
    if d.chance("x0", 0.3):
        leaves["x0"] = d.normal(*lead, leaves["A"].shape[1], dtype=leaves["A"].dtype)
    operator = len(lead) == 1 and lam.dim() != 1 and d.chance("operator", 0.15)
    nonnegative = not leaves["y"].is_complex() and d.chance("nonnegative", 0.3)
    if d.chance("not finite", 0.08) and leaves["y"].numel():
        leaves["y"] = spoil(d, leaves["y"])
    function = getattr(fu.solvers, which)

    def run(v: Leaves) -> Tensor:
        A = Opaque(v["A"]) if operator else v["A"]
        options = {"iterations": count, "step": v["step"], "x0": v.get("x0"), "nonnegative": nonnegative}
        return function(A, v["y"], v["lam"], **options)

    def exact(v: Leaves) -> Tensor:
        betas = oracle.momentum(count) if which == "fista" else [0.0] * count
        return oracle.proximal_gradient(v["A"], v["y"], v["lam"], v["step"], v.get("x0"), betas, nonnegative)

    of_samples = ["y", *(["x0"] if "x0" in leaves else []), *(["lam"] if per_sample else [])]
    return Subject(
        which, leaves, run, exact, lead, tuple(of_samples), native=not (operator or per_sample),
        options=OPERATOR if operator else WATCHED if per_sample and len(lead) > 1 else {},
    )  # fmt: skip


def admm(d: Draw) -> Subject:
    leaves, lead = sparse_problem(d, [torch.float64, torch.float32, torch.complex128])
    count, relaxation = d.pick("iterations", [1, 2, 7, 20]), d.pick("relaxation", [1.0, 1.6, 0.7])
    leaves["rho"] = torch.tensor(d.uniform(0.3, 2), dtype=leaves["lam"].dtype)
    per_sample = leaves["lam"].shape == (*lead, 1) and len(lead) > 0

    def run(v: Leaves) -> Tensor:
        return fu.solvers.admm(
            v["A"], v["y"], v["lam"], rho=v["rho"], relaxation=relaxation, adaptive=False, iterations=count
        )

    def exact(v: Leaves) -> Tensor:
        return oracle.admm(v["A"], v["y"], v["lam"], v["rho"], relaxation, count)

    return Subject("admm", leaves, run, exact, lead, ("y", "lam") if per_sample else ("y",), options=WATCHED)


def primal_dual(d: Draw) -> Subject:
    leaves, lead = sparse_problem(d, [torch.float64, torch.float32, torch.complex128])
    count, omega = d.pick("iterations", [1, 2, 7, 20]), d.pick("omega", [1.0, 0.6, 0.0])
    per_sample = leaves["lam"].shape == (*lead, 1) and len(lead) > 0
    norm, ratio = fu.operators.Dense(leaves["A"]).norm(), d.uniform(0.3, 3)
    leaves["tau"] = torch.tensor(ratio / norm, dtype=leaves["lam"].dtype)
    leaves["sigma"] = torch.tensor(1 / (ratio * norm), dtype=leaves["lam"].dtype)
    if d.chance("x0", 0.3):
        leaves["x0"] = d.normal(*lead, leaves["A"].shape[1], dtype=leaves["A"].dtype)

    def run(v: Leaves) -> Tensor:
        numbers = {"tau": v["tau"], "sigma": v["sigma"], "omega": omega}
        return fu.solvers.primal_dual(v["A"], v["y"], v["lam"], **numbers, x0=v.get("x0"), iterations=count)

    def exact(v: Leaves) -> Tensor:
        return oracle.primal_dual(v["A"], v["y"], v["lam"], v["tau"], v["sigma"], omega, v.get("x0"), count)

    of_samples = ["y", *(["x0"] if "x0" in leaves else []), *(["lam"] if per_sample else [])]
    return Subject("primal_dual", leaves, run, exact, lead, tuple(of_samples), options=WATCHED)


def amp(d: Draw) -> Subject:
    leaves, lead = sparse_problem(d, [torch.float64, torch.float32])
    del leaves["lam"]
    count, damping = d.pick("iterations", [1, 2, 7]), d.pick("damping", [1.0, 0.6])
    leaves["alpha"] = torch.tensor(d.uniform(1, 2), dtype=leaves["y"].dtype)

    def run(v: Leaves) -> Tensor:
        return fu.solvers.amp(v["A"], v["y"], alpha=v["alpha"], damping=damping, iterations=count)

    def exact(v: Leaves) -> Tensor:
        return oracle.amp(v["A"], v["y"], v["alpha"], damping, count)

    options = {} if damping == 1 else WATCHED
    return Subject("amp", leaves, run, exact, lead, ("y",), native=damping == 1, options=options)
