"""Random calls of layers over a user's own operator and proximal operator, which run one by one or compiled."""

from __future__ import annotations

from typing import Any

import fastunroll as fu
import torch
from fastunroll import prox, schemes
from torch import Tensor
from twins import shrink

from .draw import Draw
from .oracle import of
from .subject import Leaves, Subject
from .tensors import expanded

DTYPES = [torch.float64, torch.float32, torch.complex128]
SIZES = [1, 2, 3, 6, 11, 17, 33]
SCHEMES = ("proximal gradient", "fista", "admm", "primal dual")


class Pair:
    """An operator that is no LinearOperator."""

    def __init__(self, A: Tensor) -> None:
        self.A = A
        self.shape_in, self.shape_out = (A.shape[1],), (A.shape[0],)

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.A.mT

    def adjoint(self, y: Tensor) -> Tensor:
        return y @ self.A.conj()


class Own(fu.operators.LinearOperator):
    """A user's subclass."""

    def __init__(self, A: Tensor) -> None:
        super().__init__()
        self.A = A
        self.shape_in, self.shape_out = (A.shape[1],), (A.shape[0],)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.A.mT

    def adjoint(self, y: Tensor) -> Tensor:
        return y @ self.A.conj()


class Shrink(prox.Proximal):
    """A user's soft threshold."""

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        return shrink(z, theta)


OPERATORS: dict[str, Any] = {"pair": Pair, "own": Own, "dense": fu.operators.Dense.of}
PROXES: dict[str, tuple[Any, Any]] = {
    "L1": (prox.L1, shrink),
    "own": (Shrink, shrink),
    "nonnegative": (prox.NonNegativeL1, lambda z, theta: torch.relu(z - theta)),
    "elastic net": (lambda: prox.ElasticNet(0.5), lambda z, theta: shrink(z, theta) / (1 + 0.5 * theta)),
    "firm": (prox.Firm, lambda z, t: torch.where(z.abs() > 3 * t, z, 1.5 * shrink(z, t))),
    "box": (lambda: prox.Box(-0.3, 0.5), lambda z, theta: z.clamp(-0.3, 0.5)),
}


def own_pieces(d: Draw) -> Subject:
    dtype = d.pick("dtype", DTYPES, [6, 2, 2])
    real = dtype.to_real()
    scheme = d.pick("scheme", list(SCHEMES))
    operator = d.pick("operator", list(OPERATORS))
    names = [name for name in PROXES if not (dtype.is_complex and name in ("nonnegative", "box"))]
    name = d.pick("prox", names)
    layers = d.pick("layers", [1, 2, 3, 5], [2, 3, 3, 1])
    m, n, lead = d.size("m", SIZES), d.size("n", SIZES), d.lead()
    leaves = {
        "y": expanded(d, d.normal(*lead, m, dtype=dtype)),
        "A": d.normal(m, n, dtype=dtype) / (m + n) ** 0.5,
    }

    def each(key: str, low: float, high: float) -> list[str]:
        count = layers if d.pick(f"{key} of", ["all layers", "each layer"]) == "each layer" else 1
        for k in range(count):
            leaves[f"{key}{k}"] = torch.full((1,), d.uniform(low, high), dtype=torch.float64).to(real)
        return [f"{key}{k}" for k in range(count)]

    lists = {"step": each("step", 0.1, 0.5)}
    if name != "box":
        lists["theta"] = each("theta", 0.02, 0.3)
    for key in {"fista": ("beta",), "admm": ("eta",), "primal dual": ("sigma", "omega")}.get(scheme, ()):
        lists[key] = each(key, 0.2, 0.9)
    keep = d.chance("return_layers", 0.3)
    segment = d.random.randint(1, layers) if not keep and d.chance("keep_every", 0.2) else None
    made, formula = PROXES[name]

    def values(leaves: Leaves, key: str) -> list[Tensor]:
        return [leaves[leaf] for leaf in lists.get(key, [])]

    def run(leaves: Leaves) -> Tensor:
        given = {key: values(leaves, key) for key in lists}
        made_scheme: Any = {
            "proximal gradient": lambda: schemes.ProximalGradient(),
            "fista": lambda: schemes.FISTA(given["beta"]),
            "admm": lambda: schemes.ADMM(given["eta"]),
            "primal dual": lambda: schemes.PrimalDual(given["sigma"], given["omega"]),
        }[scheme]()
        linear = fu.GradientStep(OPERATORS[operator](leaves["A"]), step=given["step"])
        out: Any = fu.unrolled(
            leaves["y"], linear, made(), given.get("theta"), layers=layers, scheme=made_scheme, return_layers=keep,
            keep_every=segment,
        )  # fmt: skip
        return out

    def exact(leaves: Leaves) -> Tensor:
        y, A = leaves["y"], leaves["A"]
        given = {key: values(leaves, key) for key in lists}
        x = before = s = y.new_zeros(*y.shape[:-1], A.shape[1])
        if scheme == "primal dual":
            s = -of(given["sigma"], 0) / (1 + of(given["sigma"], 0)) * y
        out = []
        for k in range(layers):
            t, theta = of(given["step"], k), of(given["theta"], k) if "theta" in given else y.real.new_zeros(())
            before, last = x, before
            if scheme == "primal dual":
                sigma, omega = of(given["sigma"], k), of(given["omega"], k)
                x = formula(x - t * (s @ A.conj()), theta)
                s = (s + sigma * ((x + omega * (x - before)) @ A.mT - y)) / (1 + sigma)
            else:
                v = x + of(given["beta"], k) * (x - last) if scheme == "fista" else x - s if scheme == "admm" else x
                z = v + t * ((y - v @ A.mT) @ A.conj())
                x = formula(z + s if scheme == "admm" else z, theta)
                s = s + of(given["eta"], k) * (z - x) if scheme == "admm" else s
            out.append(x)
        return torch.stack(out) if keep else out[-1]

    return Subject("own_pieces", leaves, run, exact, lead, ("y",), layers if keep else 0)
