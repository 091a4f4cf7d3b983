"""The networks that the LISTA benchmarks run: briefly trained, untrained, or with dense iterates."""

from __future__ import annotations

import fastunroll as fu
import torch
from torch import Tensor, nn

LAYERS = 16
# Trained iterates are about as sparse as the signals; those of ISTA are so only at its solution; θ = 0 leaves no zeros.
WEIGHTS = ("trained", "ista-0.1", "ista-0.4", "dense")
SMALLEST_THETA = 1e-3


def matrix(m: int, n: int, seed: int) -> Tensor:
    """Returns a Gaussian matrix with columns of norm 1."""
    A = torch.randn(m, n, generator=torch.Generator().manual_seed(seed))
    return A / A.norm(dim=0)


def signals(count: int, n: int, random: torch.Generator) -> Tensor:
    """Returns signals with 10 % nonzeros from N(0, 1)."""
    return torch.randn(count, n, generator=random) * (torch.rand(count, n, generator=random) < 0.1)


def network(m: int, n: int, tied: bool, weights: str, seed: int) -> tuple[Tensor, fu.nn.LISTA]:
    """Returns A and a network. ``weights`` is a name of WEIGHTS."""
    A = matrix(m, n, seed)
    if weights == "trained":
        return A, _trained(A, tied, seed)
    lam = 0.0 if weights == "dense" else float(weights.removeprefix("ista-"))
    net = fu.nn.LISTA(A, layers=LAYERS, lam=lam, tied=tied)
    if not tied:
        _tell_apart(net, seed)
    return A, net


@torch.no_grad()
def _tell_apart(net: fu.nn.LISTA, seed: int) -> None:
    """Changes each weight by about 1e-3 of itself: JAX and ONNX Runtime notice equal layers, and compute W₁ y once."""
    random = torch.Generator().manual_seed(seed + 3)
    for w in (*net.W1, *net.W2):
        w.mul_(1 + 1e-3 * torch.randn(w.shape, generator=random))


def _trained(A: Tensor, tied: bool, seed: int) -> fu.nn.LISTA:
    """Seconds of Adam on the Lasso objective, which needs no truth. Thresholds are learned as logarithms.

    Trained on the truth the last layers become half full, as their squared error asks for no zeros. λ is such that the
    solution is about as sparse as the signal: larger where there are fewer measurements.
    """
    m, n = A.shape
    lam = 0.2 if 2 * m >= n else 0.4
    steps, batch = (200, 64) if n <= 1000 else (60, 32)
    net = fu.nn.LISTA(A, layers=LAYERS, lam=lam, tied=tied)
    matrices = [*net.W1, *net.W2]
    logs = [nn.Parameter(theta.detach().log()) for theta in net.theta]
    optimizer = torch.optim.Adam([{"params": matrices, "lr": 1e-3}, {"params": logs, "lr": 0.05}])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    random = torch.Generator().manual_seed(seed + 2)
    for _ in range(steps):
        _set_thresholds(net, logs)
        net.zero_grad()
        y = signals(batch, n, random) @ A.mT
        fu.losses.lasso_objective(net(y), y, A, lam).mean().backward()
        for theta, log in zip(net.theta, logs, strict=True):
            log.grad = None if theta.grad is None else theta.grad * theta.detach()
        optimizer.step()
        schedule.step()
    _set_thresholds(net, logs)
    net.zero_grad()
    return net


@torch.no_grad()
def _set_thresholds(net: fu.nn.LISTA, logs: list[nn.Parameter]) -> None:
    for theta, log in zip(net.theta, logs, strict=True):
        theta.copy_(log.exp().clamp(min=SMALLEST_THETA))


@torch.no_grad()
def density(model: fu.nn.LISTA, y: Tensor) -> float:
    """The share of nonzeros in the iterates of all layers, over at most 256 samples."""
    return float((model(y[:256], return_layers=True) != 0).double().mean())
