"""Weights as other programs save them, each with a twin in plain PyTorch that computes as its source does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softshrink

SIZES = [(1, 1), (1, 7), (5, 9), (8, 8), (9, 4), (20, 51)]
Arrays = dict[str, Any]
Twin = Callable[..., Tensor]


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def positive(*shape: int) -> Tensor:
    return 0.1 + 0.3 * torch.rand(shape, dtype=torch.float64)


def unit(m: int, n: int) -> Tensor:
    """Columns of about unit norm: of exactly that, those of one row would all be of one magnitude."""
    A = draw(m, n)
    return A / A.norm(dim=0) * (0.8 + 0.4 * torch.rand(n, dtype=torch.float64))


def soft(z: Tensor, theta: Tensor | float) -> Tensor:
    return z.sign() * relu(z.abs() - theta)


def by_columns(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Of a source whose samples are columns."""
    return lambda y: run(y.T).T


def agree(net: nn.Module, twin: Callable[[Tensor], Tensor], m: int, tolerance: float = 1e-11) -> None:
    y = draw(13, m)
    wanted = twin(y)
    for records in (True, False):  # calls without gradients may go another way
        with torch.set_grad_enabled(records):
            found = net(y)
        assert found.shape == wanted.shape
        assert (found - wanted).norm() <= tolerance * (1 + wanted.norm())


# One function for each convention: the weights, what is to be given, and what the source computes.


def own(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
    s = {f"W1.{k}": draw(n, m) for k in range(3)} | {f"W2.{k}": draw(n, n) / n**0.5 for k in range(3)}
    s |= {f"theta.{k}": positive(n) for k in range(3)}

    def twin(y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), n)
        for k in range(3):
            x = soft(y @ s[f"W1.{k}"].T + x @ s[f"W2.{k}"].T, s[f"theta.{k}"])
        return x

    return s, {}, twin


def own_tied(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
    s = fu.nn.LISTA(unit(m, n), layers=4, lam=0.2, tied=True).state_dict()
    return s, {}, lambda y: fu.solvers.ista(fu_matrix(s), y, 0.2, iterations=4)


def fu_matrix(s: Arrays) -> Tensor:
    """A, of W1 = Aᵀ/L with L = ‖A‖²: W1 has the norm 1/‖A‖."""
    W = s["W1.0"].T
    return W / torch.linalg.matrix_norm(W, 2) ** 2


def copied(m: int, n: int, max_iter: int = 4) -> tuple[Arrays, Arrays, Twin]:
    s = {"_W.weight": draw(n, m), "_S.weight": draw(n, n) / n**0.5}

    def twin(y: Tensor) -> Tensor:
        x = softshrink(y @ s["_W.weight"].T, 0.3)
        if max_iter == 1:
            return x
        for _ in range(max_iter):
            x = softshrink(y @ s["_W.weight"].T + x @ s["_S.weight"].T, 0.3)
        return x

    return s, {"theta": 0.3, "max_iter": max_iter}, twin


def copied_one_iteration(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
    return copied(m, n, max_iter=1)


def copied_thresholds(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
    s = {"_W.weight": draw(n, m), "_S.weight": draw(n, n) / n**0.5, "thr": positive(4, 1)}

    def twin(y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), n)
        for k in range(4):
            z = y @ s["_W.weight"].T + x @ s["_S.weight"].T
            x = relu(z - s["thr"][k]) - relu(-z - s["thr"][k])
        return x

    return s, {}, twin


def copied_one_threshold(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
    s = {"_W.weight": draw(n, m), "_S.weight": draw(n, n) / n**0.5, "thr": positive(1, 1)}

    def twin(y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), n)
        for _ in range(5):
            x = soft(y @ s["_W.weight"].T + x @ s["_S.weight"].T, s["thr"])
        return x

    return s, {"layers": 5}, twin


def hyperlista_lista(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
    A = unit(m, n)
    s = {"B": draw(n, m), "A": A, "At": A.T, "Wt": A.T, "L_ref": draw(1, 1)}
    s |= {f"W.{k}": draw(n, n) / n**0.5 for k in range(3)} | {f"theta.{k}": positive(1, 1) for k in range(3)}
    s["theta.1"] = -s["theta.1"]  # not clamped there

    def twin(y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), n)
        for k in range(3):
            x = soft(nn.functional.linear(y, s["B"]) + nn.functional.linear(x, s[f"W.{k}"]), s[f"theta.{k}"])
        return x

    return s, {}, twin


def hyperlista_alista(m: int, n: int, selection: Any = (9.0, 30.0)) -> tuple[Arrays, Arrays, Twin]:
    A, W = unit(m, n), unit(m, n)
    s = {"A": A, "At": A.T, "W": W, "Wt": W.T, "L_ref": draw(1, 1)}
    s |= {f"gamma.{k}": positive(1, 1) for k in range(5)} | {f"theta.{k}": positive(1, 1) for k in range(5)}

    def twin(y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), n)
        for k in range(5):
            z = x - s[f"gamma.{k}"] * (x @ A.T - y) @ W
            x = soft(z, s[f"theta.{k}"])
            if selection is not None:
                share = min((k + 1) * selection[0], selection[1]) / 100
                reach = torch.quantile(z.abs(), 1 - share, dim=1, keepdim=True)
                x = torch.where((z.abs() >= reach) & (z.abs() >= s[f"theta.{k}"]), z, x)
        return x

    return s, {"selection": selection}, twin


def hyperlista_alista_plain(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
    return hyperlista_alista(m, n, None)


def na_alista(m: int, n: int, p: Any = None) -> tuple[Arrays, Arrays, Twin]:
    A, W = unit(m, n), unit(m, n)
    s = {f"gamma.{k}": positive(1) for k in range(4)} | {f"theta.{k}": 2 * positive(1) for k in range(4)}
    largest = [min(k, n) for k in (0, 1, 4, 7)] if p is None else [p] * 4

    def run(y: Tensor) -> Tensor:
        x = y.new_zeros(n, y.shape[1])
        for k, count in enumerate(largest):
            z = x - s[f"gamma.{k}"][0] * (W.T @ (A @ x - y))
            x = soft(z, s[f"theta.{k}"][0])
            if count:
                least = torch.topk(z.abs(), count, dim=0).values.amin(0)
                x = torch.where(z.abs() > least, z, x)
        return x

    return s, {"A": A, "W": W, "p": largest if p is None else p, "network": "ALISTA"}, by_columns(run)


def na_alista_at(m: int, n: int, p: Any = None) -> tuple[Arrays, Arrays, Twin]:
    s, options, _ = na_alista(m, n, p)
    A, W, counts = options["A"], options["W"], options["p"] if p is None else [p] * 4

    def run(y: Tensor) -> Tensor:
        x = y.new_zeros(n, y.shape[1])
        for k, count in enumerate(counts):
            theta = s[f"theta.{k}"][0] * (1 / (x.abs() / 0.1 + 1))
            z = x - s[f"gamma.{k}"][0] * (W.T @ (A @ x - y))
            x = soft(z, theta)
            if count:
                least = torch.topk(z.abs(), count, dim=0).values.amin(0)
                x = torch.where(z.abs() > least, z, x)
        return x

    return s, options | {"network": "ALISTA-AT"}, by_columns(run)


def na_alista_at_plain(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
    return na_alista_at(m, n, p=0)


def na_alista_plain(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
    return na_alista(m, n, p=0)


def adopty(parts: Callable[[int, int, int], Arrays], swapped: bool = False, W: bool = False) -> Any:
    """A network of four layers with such parts; D has a row an atom."""

    def build(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
        D, lam, analytic = unit(m, n).T, 0.7, unit(m, n)
        layers = [parts(k, m, n) for k in range(4)]
        of_y, of_x = ("Wz", "Wx") if swapped else ("Wx", "Wz")
        if swapped:
            layers = [{{"Wx": "Wz", "Wz": "Wx"}.get(name, name): v for name, v in p.items()} for p in layers]

        def twin(y: Tensor) -> Tensor:
            x = None
            for p in layers:
                step = p.get("step_size", p.get("lr", 1.0))
                theta = p.get("threshold", p.get("step_size", 1 / torch.linalg.matrix_norm(D, 2) ** 2))
                if of_y in p:
                    z = y @ p[of_y] + (0 if x is None else x @ p[of_x])
                else:
                    w = p.get("W_coupled", D.T @ p["W_hessian"] if "W_hessian" in p else analytic if W else D.T)
                    z = step * (y @ w) if x is None else x - step * ((x @ D - y) @ w)
                x = soft(z, lam * theta)
            return x

        s = {f"layer{k}-{name}": v for k, p in enumerate(layers) for name, v in p.items()}
        square = {"of_y": of_y} if m == n and of_y in layers[0] else {}
        return s, {"A": D.T, "lam": lam} | ({"W": analytic} if W else {}) | square, twin

    return build


ADOPTY = {
    "lista": adopty(lambda k, m, n: {"threshold": positive(n), "Wx": draw(m, n), "Wz": draw(n, n) / n**0.5}),
    "lista, swapped": adopty(
        lambda k, m, n: {"threshold": positive(n), "Wx": draw(m, n), "Wz": draw(n, n) / n**0.5}, swapped=True
    ),
    "lista, thresholds not learned": adopty(lambda k, m, n: {"Wx": draw(m, n), "Wz": draw(n, n) / n**0.5}),
    "coupled": adopty(lambda k, m, n: {"threshold": positive(n), "W_coupled": 0.3 * unit(m, n)}),
    "coupled, thresholds not learned": adopty(lambda k, m, n: {"W_coupled": 0.3 * unit(m, n)}),
    "coupled step": adopty(lambda k, m, n: {"step_size": positive(1), "W_coupled": unit(m, n)}),
    "first step": adopty(
        lambda k, m, n: {"step_size": positive(1)[0]} if k else {"threshold": positive(1)[0], "W_coupled": unit(m, n)}
    ),
    "hessian": adopty(lambda k, m, n: {"threshold": positive(n), "W_hessian": 0.2 * torch.eye(n).double()}),
    "step": adopty(lambda k, m, n: {"step_size": positive(1)[0]}),
    "alista": adopty(lambda k, m, n: {"step_size": positive(1)[0], "threshold": positive(1)[0]}, W=True),
    "alista, before": adopty(lambda k, m, n: {"lr": positive(1)[0], "threshold": positive(n)}, W=True),
}


def ada_lista_lista(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
    lam, T = 0.4, 3
    s = {"A.weight": draw(n, m), "B.weight": draw(n, n), "etas": positive(T + 1, 1, 1), "gammas": positive(T + 1, 1, 1)}
    s["etas"][1] *= -1

    def twin(y: Tensor) -> Tensor:
        def shrink(z: Tensor, eta: Tensor) -> Tensor:
            return eta * softshrink(z / eta, lam)

        x = shrink(s["gammas"][0] * (y @ s["A.weight"].T), s["etas"][0])
        for k in range(1, T + 1):
            x = shrink(x - s["gammas"][k] * (x @ s["B.weight"].T - y @ s["A.weight"].T), s["etas"][k])
        return x

    return s, {"lam": lam}, twin


def ada_lista(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
    lam, D, ones = 0.4, unit(m, n), (4, 1, 1, 1)
    s = {"W1.weight": draw(m, m), "W2.weight": draw(m, m), "etas": positive(*ones), "gammas": 0.3 * positive(*ones)}

    def twin(y: Tensor) -> Tensor:
        x = y.new_zeros(len(y), n, 1)
        first, second = s["W1.weight"] @ D, s["W2.weight"] @ D
        for gamma, eta in zip(s["gammas"][:, 0], s["etas"][:, 0], strict=True):
            z = x - gamma * second.T @ (second @ x) + gamma * first.T @ y[..., None]
            x = eta * softshrink(z / eta, lam)
        return x[..., 0]

    return s, {"lam": lam, "A": D, "network": "Ada-LISTA"}, twin


def sparse_representation(m: int, n: int) -> tuple[Arrays, Arrays, Twin]:
    s = {"weight_input": draw(n, m), "weight_lateral": draw(n, n) / n**0.5, "soft_shrink.lambd": positive(n)}
    s["soft_shrink.lambd"][0] *= -1  # clamped there

    def twin(y: Tensor) -> Tensor:
        theta = relu(s["soft_shrink.lambd"])
        b = y @ s["weight_input"].T
        x = soft(b, theta)
        for _ in range(2):
            x = soft(b + x @ s["weight_lateral"].T, theta)
        return x

    return s, {"layers": 3}, twin
