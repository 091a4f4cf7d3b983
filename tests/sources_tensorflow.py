"""Weights as programs in TensorFlow save them, each with a twin that computes as its source does."""

from __future__ import annotations

from typing import Any

import torch
from sources import (
    Arrays,
    Twin,
    by_columns,
    draw,
    positive,
    soft,
    unit,
)
from torch import Tensor
from torch.nn.functional import relu


def onsager_lista(m: int, n: int, each: tuple[int, ...] = ()) -> tuple[Arrays, Arrays, Twin]:
    s = {"B_0:0": draw(n, m), "S_0:0": draw(n, n) / n**0.5} | {f"lam_{t}:0": positive(*each) for t in range(4)}
    s["lam_2:0"] = -s["lam_2:0"]  # clamped there

    def run(y: Tensor) -> Tensor:
        x = soft(s["B_0:0"] @ y, s["lam_0:0"].clamp(min=0))
        for t in range(1, 4):
            x = soft(s["S_0:0"] @ x + s["B_0:0"] @ y, s[f"lam_{t}:0"].clamp(min=0))
        return x

    return s, {}, by_columns(run)


def onsager_lista_coordinates(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
    return onsager_lista(m, n, (n, 1))


def onsager_lamp(kind: str | None, untied: bool = False) -> Any:
    def build(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
        A, T = unit(m, n), 4
        s = {f"B_{t}:0": 0.5 * unit(m, n).T for t in range(T if untied else 1)}
        for t in range(T):
            one = torch.stack([-positive(1)[0] if t == 1 else 1 + positive(1)[0], 0.5 + positive(1)[0]])
            s[f"theta_{t}:0"] = one[0] if kind is None else one

        def shrink(r: Tensor, variance: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
            if kind != "bernoulli-gaussian":
                theta = torch.stack([theta, torch.ones(()).double()]) if kind is None else theta
                gap = r.abs() - (theta[0] * variance.sqrt()).clamp(min=0)
                return theta[1] * r.sign() * relu(gap), theta[1] * (gap > 0).double().mean(0)
            power = theta[0].abs()
            beta = power / (power + variance)
            rho = torch.exp(theta[1] - r**2 * beta / (2 * variance)) * torch.sqrt(1 + power / variance)
            slope = beta * (1 + rho * (1 + r**2 * beta / variance)) / (1 + rho) ** 2
            return beta * r / (1 + rho), slope.mean(0)

        def run(y: Tensor) -> Tensor:
            v, x, slope = y, y.new_zeros(n, y.shape[1]), y.new_zeros(())
            for t in range(T):
                v = y - A @ x + slope * n / m * v if t else y
                B = s[f"B_{t if untied else 0}:0"]
                x, slope = shrink(x + B @ v, (v**2).sum(0) / m, s[f"theta_{t}:0"])
            return x

        return s, {"A": A} | ({} if kind is None else {"shrinkage": kind}), by_columns(run)

    return build


def vita_lista(tied: bool, selection: Any = None) -> Any:
    def build(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
        s = {"B:0": draw(n, m)} | {f"theta_{t}:0": positive(n, 1) for t in (1, 2, 3)}
        s |= {"W:0": draw(n, n) / n**0.5} if tied else {f"W_{t}:0": draw(n, n) / n**0.5 for t in (1, 2, 3)}

        def run(y: Tensor) -> Tensor:
            x = y.new_zeros(n, y.shape[1])
            for t in (1, 2, 3):
                z = s["W:0" if tied else f"W_{t}:0"] @ x + s["B:0"] @ y
                theta = s[f"theta_{t}:0"]
                x = select(z, theta if selection else theta.clamp(min=0), t, selection)
            return x

        # the scope of its variables comes before their names
        return {f"LISTA/{name}": v for name, v in s.items()}, {"selection": selection}, by_columns(run)

    return build


def select(z: Tensor, theta: Tensor, t: int, selection: Any) -> Tensor:
    """What exceeds the nearest-rank percentile of its column, and θ, passes."""
    x = soft(z, theta)
    if selection is None:
        return x
    ordered = z.abs().sort(dim=0, descending=True).values
    reach = ordered[round(min(t * selection[0], selection[1]) / 100 * (len(z) - 1))]
    return torch.where((z.abs() > theta) & (z.abs() > reach), z, x)


def vita_cp(tied: bool, selection: Any = None) -> Any:
    def build(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
        A = unit(m, n)
        s = {f"theta_{t}:0": positive(1)[0] for t in (1, 2, 3)}
        s |= {"W:0": 0.5 * unit(m, n).T} if tied else {f"W_{t}:0": 0.5 * unit(m, n).T for t in (1, 2, 3)}

        def run(y: Tensor) -> Tensor:
            x = y.new_zeros(n, y.shape[1])
            for t in (1, 2, 3):
                z = x + s["W:0" if tied else f"W_{t}:0"] @ (y - A @ x)
                x = select(z, s[f"theta_{t}:0"], t, selection)
            return x

        return s, {"A": A, "selection": selection}, by_columns(run)

    return build


def vita_alista(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
    A, W, selection = unit(m, n), unit(m, n), (10.0, 25.0)
    s = {f"theta_{t}:0": positive(1)[0] for t in (1, 2, 3)} | {f"alpha_{t}:0": positive(1)[0] for t in (1, 2, 3)}

    def run(y: Tensor) -> Tensor:
        x = y.new_zeros(n, y.shape[1])
        for t in (1, 2, 3):
            x = select(x + s[f"alpha_{t}:0"] * W.T @ (y - A @ x), s[f"theta_{t}:0"], t, selection)
        return x

    return s, {"A": A, "W": W, "selection": selection}, by_columns(run)


def vita_lamp(tied: bool) -> Any:
    def build(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
        A = unit(m, n)
        s = {f"lam_{t}:0": (1 + positive(1)[0]) if tied else 1 + positive(n, 1) for t in (1, 2, 3)}
        s |= {"B:0": 0.5 * unit(m, n).T} if tied else {f"B_{t}:0": 0.5 * unit(m, n).T for t in (1, 2, 3)}

        def run(y: Tensor) -> Tensor:
            x, v = y.new_zeros(n, y.shape[1]), torch.zeros_like(y)
            for t in (1, 2, 3):
                v = y - A @ x + (x.abs() > 0).double().mean(0) * n / m * v
                B = s["B:0" if tied else f"B_{t}:0"]
                x = soft(x + B @ v, s[f"lam_{t}:0"].clamp(min=0) * ((v**2).sum(0) / m).sqrt())
            return x

        return s, {"A": A}, by_columns(run)

    return build
