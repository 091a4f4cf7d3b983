"""Random Lasso problems: what a solver claims of its solution must be so."""

from __future__ import annotations

import warnings
from typing import Any

import fastunroll as fu
import scipy.sparse
import torch
from torch import Tensor

from . import oracle
from .compare import GRADIENTS, Finding, compare, equal
from .draw import Draw
from .solvers import Opaque, sparse_problem
from .subject import Leaves, widened
from .tensors import CLOTHES, spoil


def _wear(d: Draw, t: Tensor) -> Tensor:
    return CLOTHES[d.pick("strides", list(CLOTHES))](t) if d.random.random() < 0.3 else t


def _sparse(d: Draw, A: Tensor) -> Any:
    kind = d.pick("sparse kind", ["torch", "csc", "csr", "coo"])
    return A.to_sparse() if kind == "torch" else getattr(scipy.sparse, f"{kind}_array")(A.numpy())


def _per_sample(lam: Tensor, lead: tuple[int, ...]) -> Tensor:
    return lam.double().reshape(()).expand(lead) if lam.numel() == 1 else lam.double().reshape(lead)


def lasso(d: Draw) -> None:
    given, lead = sparse_problem(d, [torch.float64, torch.float32])
    A, y, dtype = given["A"], given["y"], given["A"].dtype
    n = A.shape[1]
    options: dict[str, Any] = {}
    if d.chance("weights", 0.3):
        options["weights"] = 0.5 + torch.rand(n, dtype=dtype)
    if d.chance("nonnegative", 0.3):
        options["nonnegative"] = True
    if d.chance("ridge", 0.3):
        options["ridge"] = d.uniform(0.01, 1)
    if d.chance("equal columns", 0.1) and n > 1:
        A = A.clone()
        A[:, 0] = A[:, 1]
    lam = d.uniform(0.01, 0.3) if d.chance("lam is a number", 0.5) else torch.rand(lead, dtype=dtype) * 0.3 + 0.01
    tol = d.pick("tol", [1e-2, 1e-4, 1e-6, 1e-9])
    x0 = d.normal(*lead, n, dtype=dtype) if d.chance("x0", 0.3) else None
    spoiled = y.numel() > 0 and d.chance("not finite", 0.1)
    if spoiled:
        y = spoil(d, y)
    sparse = d.chance("sparse", 0.15)
    gram = False if sparse else d.pick("gram", [None, True, False])
    gram = True if gram is None and spoiled else gram  # two calls are compared, which may go two ways
    solver = fu.solvers.Lasso(_sparse(d, A) if sparse else _wear(d, A), **options, gram=gram)
    found = solver.solve(_wear(d, y), lam, tol=tol, x0=None if x0 is None else _wear(d, x0))
    lams = _per_sample(torch.as_tensor(lam), lead)
    wide_w = None if "weights" not in options else options["weights"].double()
    gap = oracle.gap(
        found.x.double(), y.double(), A.double(), lams, wide_w, options.get("nonnegative", False),
        options.get("ridge", 0.0),
    )  # fmt: skip
    sound = y.isfinite().all(-1)
    if not bool(found.x[~sound].isnan().all()):
        raise Finding("lasso: a sample that is not finite has a solution")
    if not bool(found.converged[sound].all()):
        raise Finding(f"lasso: not converged to {tol:g}: gap {found.gap[sound].max().item():.3g}")
    rounding = 1e-12 if dtype == torch.float64 else 1e-4
    if bool((gap[sound] > tol * (1 + 1e-6) + rounding).any()):
        raise Finding(f"lasso: the gap is {gap[sound].max().item():.3g} where {tol:g} is claimed")
    if options.get("nonnegative") and bool((found.x[sound] < 0).any()):
        raise Finding("lasso: a negative solution where x >= 0 is asked for")
    if spoiled and len(lead) == 1:
        lam_of = lam if not isinstance(lam, Tensor) or lam.dim() == 0 else lam[sound]
        alone = solver.solve(y[sound], lam_of, tol=tol, x0=None if x0 is None else x0[sound])
        equal("lasso: samples beside one that is not finite", found.x[sound], alone.x)
    if dtype == torch.float64 and not (spoiled or sparse) and found.x.numel() and d.chance("gradient", 0.5):
        _lasso_gradient(A, y, lams, wide_w, options)


def _lasso_gradient(A: Tensor, y: Tensor, lams: Tensor, weights: Tensor | None, options: dict[str, Any]) -> None:
    """By the equations of the optimum, where the support is clear."""
    leaves = {"A": A, "y": y.reshape(-1, A.shape[0]), "lam": lams.reshape(-1).clone()}
    if weights is not None:
        leaves["weights"] = weights
    asked = {k: t.detach().clone().requires_grad_() for k, t in leaves.items()}
    options = {**options, **({"weights": asked["weights"]} if weights is not None else {})}
    x = fu.solvers.Lasso(asked["A"], **options).solve(asked["y"], asked["lam"], tol=1e-13, max_iter=100000).x
    kept = x.detach() != 0
    at = x.detach()
    slope = (leaves["y"] - at @ A.mT) @ A - options.get("ridge", 0.0) * at
    w = 1.0 if weights is None else weights
    slack = (lams.reshape(-1, 1) * w - (slope if options.get("nonnegative") else slope.abs())) / lams.reshape(-1, 1)
    clear = bool((at[kept].abs() > 1e-5).all()) and bool((slack[~kept] > 1e-5).all())
    for row in range(len(at)):
        B = A[:, kept[row]]
        gram = B.mT @ B + options.get("ridge", 0.0) * torch.eye(B.shape[1], dtype=B.dtype)
        clear = clear and (B.shape[1] == 0 or float(torch.linalg.cond(gram)) < 1e6)
    if not clear:
        return
    loss = torch.randn_like(at)
    names = list(asked)
    found = torch.autograd.grad((loss * x).sum(), [asked[k] for k in names], allow_unused=True, materialize_grads=True)

    def evaluate(v: Leaves) -> list[Tensor]:
        again = {k: t.detach().clone().requires_grad_() for k, t in v.items()}
        exact = oracle.lasso_on_support(
            at, again["A"], again["y"], again["lam"], again.get("weights"), options.get("ridge", 0.0)
        )
        return list(
            torch.autograd.grad(
                (loss * exact).sum(), [again[k] for k in names], allow_unused=True, materialize_grads=True
            )
        )

    rows = [lambda g: g.reshape(1, -1)] * len(names)
    tolerances = {**GRADIENTS, torch.float64: 1e-5}
    compare("lasso: gradient", found, evaluate, leaves, rows, torch.float64, tolerances=tolerances)


def stopped(d: Draw) -> None:
    """ISTA, FISTA and ADMM that stop by the gap: a sample without a warning has that gap."""
    which = d.pick("solver", ["ista", "fista", "admm"])
    given, lead = sparse_problem(d, [torch.float64, torch.float64, torch.float32, torch.complex128])
    A, y, lam = given["A"], given["y"], given["lam"]
    if lam.dim() == 1 and lam.shape != (*lead, 1):
        lam = lam[0]
    tol = d.pick("tol", [1e-2, 1e-3])
    options: dict[str, Any] = {}
    if which == "fista":
        options |= {"restart": d.random.random() < 0.5, "monotone": d.random.random() < 0.5}
    operator = len(lead) == 1 and d.chance("operator", 0.3)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", fu.solvers.ConvergenceWarning)
        x = getattr(fu.solvers, which)(
            Opaque(A) if operator else _wear(d, A), _wear(d, y), lam, iterations=3000, tol=tol, **options
        )
    if any(issubclass(w.category, fu.solvers.ConvergenceWarning) for w in said):
        return
    gap = oracle.gap(widened(x), widened(y), widened(A), _per_sample(lam, lead))
    allowed = tol + (1e-9 if y.dtype.to_real() == torch.float64 else 1e-4)
    if bool((gap > 1.01 * allowed).any()):
        raise Finding(f"{which}: the gap is {gap.max().item():.3g} where {tol:g} is claimed")


def duality_gap(d: Draw) -> None:
    """At least the oracle's, which is a bound as well, and never below the true one."""
    given, lead = sparse_problem(d, [torch.float64, torch.float32, torch.complex128])
    A, y = given["A"], given["y"]
    lam = torch.tensor(d.uniform(0.02, 0.4), dtype=y.dtype.to_real())
    x = d.normal(*lead, A.shape[1], dtype=y.dtype) * d.pick("x times", [0.0, 0.01, 1.0])
    found = fu.solvers.duality_gap(_wear(d, x), _wear(d, y), _wear(d, A), lam)
    best = fu.solvers.fista(widened(A), widened(y), float(lam), iterations=2000, step=None) if y.numel() else None
    if best is None:
        return
    at, least = (fu.losses.lasso_objective(v, widened(y), widened(A), float(lam)) for v in (widened(x), best))
    power = widened(y).abs().square().sum(-1) / 2
    true = (at - least) / torch.where(power > 0, power, 1.0)
    slack = 1e-7 if y.dtype.to_real() == torch.float64 else 1e-3
    if bool((found.double() < true - slack * (1 + true)).any()):
        raise Finding(f"duality_gap: {found.min().item():.3g} is below the true one, {true.max().item():.3g}")


def certified(d: Draw) -> None:
    given, lead = sparse_problem(d, [torch.float64, torch.float32])
    A, y = given["A"], given["y"]
    lam, tol = d.uniform(0.02, 0.3), d.pick("tol", [1e-2, 1e-4, 1e-6])
    net = fu.nn.LISTA(A, layers=d.pick("layers", [1, 5, 20]), lam=lam)
    result = fu.solvers.certified(net, A, lam, tol)(_wear(d, y))
    gap = oracle.gap(result.x.double(), y.double(), A.double(), torch.tensor(lam).double().expand(lead))
    rounding = 1e-9 if y.dtype == torch.float64 else 1e-4
    if not bool(result.converged.all()) or bool((gap > 1.01 * tol + rounding).any()):
        raise Finding(f"certified: the gap is {gap.max().item():.3g} where {tol:g} is claimed")
