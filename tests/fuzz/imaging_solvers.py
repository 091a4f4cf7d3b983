"""Random calls of the classical solvers over operators of imaging, with priors of pictures."""

from __future__ import annotations

import warnings
from typing import Any

import fastunroll as fu
import torch
from torch import Tensor

from . import imaging_priors, matrices, oracle
from .compare import Finding
from .draw import Draw
from .imaging import Operator, Pictures, pictures
from .imaging_compositions import operator
from .imaging_layers import Layers
from .imaging_operators import held
from .subject import Leaves, Subject, widened_copy
from .tensors import expanded


def _problem(d: Draw) -> tuple[Pictures, Operator, str, float]:
    """Pictures, an operator, how it holds its tensors, and ‖A‖²."""
    p = pictures(d)
    o = operator(d, p)
    A = o.matrix(widened_copy(o.make(o.leaves, False)))
    square = float(torch.linalg.matrix_norm(A, 2).max() ** 2) if A.numel() else 1.0
    return p, o, held(d, o), square if square > 1e-12 else 1.0


def _subject(
    p: Pictures, o: Operator, way: str, leaves: dict[str, Tensor], names: Any, run: Any, exact: Any
) -> Subject:
    """run and exact: of the operator or its matrix, and of the leaves."""
    tensors = way == "tensors"
    made = None if tensors else o.make(o.leaves, False)
    A = None if made is None else o.matrix(widened_copy(made))
    return Subject(
        "solver", {**leaves, **(o.leaves if tensors else {})},
        lambda v: run(o.make(v, False) if made is None else made, v),
        lambda v: exact(o.matrix(o.make(v, False)) if A is None else A, v),
        p.lead, names, precision=p.dtype, options={"without": ["vmap", "per_sample_gradient"]},
    )  # fmt: skip


def iterations(d: Draw) -> Subject:
    """ISTA and FISTA with a fixed number of iterations."""
    p, o, way, square = _problem(d)
    which, count = d.pick("solver", ["ista", "fista"]), d.pick("iterations", [1, 2, 7, 15])
    prior, made = imaging_priors.prior(d, p, o.shape_in, 1)
    if isinstance(made, fu.prox.PerLayer):  # which is of networks
        made = made.copies[0]
    made.requires_grad_(False)
    leaves = {
        "y": expanded(d, d.normal(*p.lead, *o.shape_out, dtype=o.measured(p))),
        "lam": torch.tensor(d.uniform(0.02, 0.3) * square, dtype=torch.float64).to(p.real),
        "step": torch.tensor(d.uniform(0.3, 1) / square, dtype=torch.float64).to(p.real),
    }
    if d.chance("x0", 0.3):
        leaves["x0"] = d.normal(*p.lead, *o.shape_in, dtype=p.dtype)
    wide = widened_copy(made)

    def run(A: Any, v: Leaves) -> Tensor:
        solve = getattr(fu.solvers, which)
        found: Tensor = solve(A, v["y"], v["lam"], iterations=count, step=v["step"], x0=v.get("x0"), prox=made)
        return found

    def exact(A: Tensor, v: Leaves) -> Tensor:
        def shrink(k: int, z: Tensor) -> Tensor:
            return prior.formula(wide, k, z, v["lam"] * v["step"])

        betas = oracle.momentum(count) if which == "fista" else [0.0] * count
        numbers = {"step": [v["step"]], "beta": [torch.tensor(beta, dtype=torch.float64) for beta in betas]}
        x0 = v.get("x0")
        if isinstance(made, fu.prox.NonNegativeL1) and x0 is not None:  # a solver starts at x ≥ 0
            x0 = torch.relu(x0)
        return Layers(o, A, "FISTA", numbers, shrink).run(v["y"], x0, None, count)[0][-1]

    return _subject(p, o, way, leaves, tuple(name for name in leaves if name in ("y", "x0")), run, exact)


def admm(d: Draw) -> Subject:
    """ADMM, whose linear step is exact."""
    p, o, way, square = _problem(d)
    count, relaxation = d.pick("iterations", [1, 2, 6]), d.pick("relaxation", [1.0, 1.6, 0.7])
    prior, made = imaging_priors.prior(d, p, o.shape_in, 1)
    if isinstance(made, fu.prox.PerLayer):
        made = made.copies[0]
    made.requires_grad_(False)
    leaves = {
        "y": expanded(d, d.normal(*p.lead, *o.shape_out, dtype=o.measured(p))),
        "lam": torch.tensor(d.uniform(0.02, 0.3) * square, dtype=torch.float64).to(p.real),
        "rho": torch.tensor(d.uniform(0.5, 2) * square, dtype=torch.float64).to(p.real),
    }
    wide = widened_copy(made)

    def run(A: Any, v: Leaves) -> Tensor:
        return fu.solvers.admm(
            A, v["y"], v["lam"], rho=v["rho"], relaxation=relaxation, adaptive=False, iterations=count, prox=made,
            solve=A.solve,
        )  # fmt: skip

    def exact(A: Tensor, v: Leaves) -> Tensor:
        rho = v["rho"]
        At_y = matrices.adjoint(A, o.is_real, v["y"], o.shape_in, o.shape_out)
        z = u = torch.zeros_like(At_y)
        for k in range(count):
            x = matrices.regularised_inverse(A, o.is_real, rho, At_y + rho * (z - u), o.shape_in, of_rows=False)
            relaxed = oracle.rounded(relaxation * x + (1 - relaxation) * z + u)
            z = oracle.rounded(prior.formula(wide, k, relaxed, v["lam"] / rho))
            u = relaxed - z
        return z

    return _subject(p, o, way, leaves, ("y",), run, exact)


def primal_dual(d: Draw) -> Subject:
    """The primal-dual method with a fixed number of iterations, in one block or in several."""
    p, o, way, square = _problem(d)
    count, watched = d.pick("iterations", [1, 2, 7, 15]), d.chance("watched", 0.3)
    prior, made = imaging_priors.prior(d, p, o.shape_in, 1)
    if isinstance(made, fu.prox.PerLayer):
        made = made.copies[0]
    made.requires_grad_(False)
    ratio, omega = d.uniform(0.3, 3), d.pick("omega", [1.0, 0.6])
    leaves = {
        "y": expanded(d, d.normal(*p.lead, *o.shape_out, dtype=o.measured(p))),
        "lam": torch.tensor(d.uniform(0.02, 0.3) * square, dtype=torch.float64).to(p.real),
        "tau": torch.tensor(ratio / square**0.5, dtype=torch.float64).to(p.real),
        "sigma": torch.tensor(1 / (ratio * square**0.5), dtype=torch.float64).to(p.real),
    }
    if d.chance("x0", 0.3):
        leaves["x0"] = d.normal(*p.lead, *o.shape_in, dtype=p.dtype)
    wide = widened_copy(made)

    def run(A: Any, v: Leaves) -> Tensor:
        return fu.solvers.primal_dual(
            A, v["y"], v["lam"], tau=v["tau"], sigma=v["sigma"], omega=omega, iterations=count, x0=v.get("x0"),
            prox=made, callback=(lambda k, x: None) if watched else None,
        )  # fmt: skip

    def exact(A: Tensor, v: Leaves) -> Tensor:
        def shrink(k: int, z: Tensor) -> Tensor:
            return prior.formula(wide, k, z, v["lam"] * v["tau"])

        numbers = {"step": [v["tau"]], "sigma": [v["sigma"]], "omega": [torch.tensor(omega, dtype=torch.float64)]}
        x0 = v.get("x0")
        if isinstance(made, fu.prox.NonNegativeL1) and x0 is not None:
            x0 = torch.relu(x0)
        return Layers(o, A, "PrimalDual", numbers, shrink).run(v["y"], x0, None, count)[0][-1]

    return _subject(p, o, way, leaves, tuple(name for name in leaves if name in ("y", "x0")), run, exact)


def stopped(d: Draw) -> None:
    """FISTA that stops by the gap or by the KKT residual: a sample without a warning has it."""
    p, o, _, square = _problem(d)
    op = o.make(o.leaves, False)
    A = o.matrix(widened_copy(op))
    if A.dim() > 2 or o.is_real or not bool(A.any()):  # A = 0 has no step size
        return
    y = matrices.product(A, d.normal(*p.lead, *o.shape_in, dtype=p.dtype), o.shape_in, o.shape_out).to(p.dtype)
    lam, tol = d.uniform(0.05, 0.4) * square, d.pick("tol", [1e-2, 1e-3])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", fu.solvers.ConvergenceWarning)
        x = fu.solvers.fista(op, y, lam, iterations=1000, tol=tol, restart=d.random.random() < 0.5)
    if any(issubclass(w.category, fu.solvers.ConvergenceWarning) for w in said):
        return
    wide = torch.complex128 if A.is_complex() or p.is_complex else torch.float64
    dims = len(p.lead)
    flat = x.flatten(dims).to(wide), y.flatten(dims).to(wide)
    gap = oracle.gap(*flat, A.to(wide), torch.tensor(lam).double().expand(p.lead))
    allowed = tol + (1e-9 if p.real == torch.float64 else 1e-4)
    if bool((gap > 1.01 * allowed).any()):
        raise Finding(f"fista of {type(op).__name__}: the gap is {gap.max().item():.3g} where {tol:g} is claimed")
