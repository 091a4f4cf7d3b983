"""Measures the error of a network or an algorithm on a test set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import nn, solvers
from ..data import Samples, SparseRecovery

_FLOOR = 1e-10  # added to mean squares, so that a sample with an error of almost zero does not dominate the mean in dB

CLASSICAL = ("ISTA, λ = 0.1", "FISTA, λ = 0.1", "FISTA, λ = 0.05, 1000 iterations", "AMP")


def errors(layers: Tensor, x: Tensor) -> dict[str, list[float]]:
    """Returns the NMSE in dB of every layer, from the outputs of the layers (K, samples, n).

    "pooled" is 10·log₁₀(Σ‖x̂ − x‖²/Σ‖x‖²), and "per_sample" is the mean of the NMSE of the samples in dB.
    """
    error, power = (layers - x).square().mean(-1).double(), x.square().mean(-1).double()
    pooled = 10 * torch.log10(error.sum(-1) / power.sum())
    each = 10 * torch.log10((error + _FLOOR) / (power + _FLOOR))
    return {"pooled": pooled.tolist(), "per_sample": each.mean(-1).tolist()}


@torch.no_grad()
def of_network(net: nn.UnrolledNetwork, test: Samples) -> dict[str, list[float]]:
    assert test.x is not None
    return errors(net(test.y, return_layers=True), test.x)


@torch.no_grad()
def of_algorithm(name: str, problem: SparseRecovery, test: Samples, layers: int) -> dict[str, Any]:
    """Measures an algorithm of :data:`CLASSICAL`. Of 1000 iterations, only the last is measured."""
    A, (y, x) = problem.A, test
    assert x is not None
    if name == "AMP":
        return of_network(nn.LAMP(A, layers=layers), test)
    if name.startswith("ISTA"):
        return errors(solvers.ista(A, y, 0.1, iterations=layers, return_iterates=True), x)
    if name.endswith("iterations"):
        return errors(solvers.fista(A, y, 0.05, iterations=1000)[None], x)
    return errors(solvers.fista(A, y, 0.1, iterations=layers, return_iterates=True), x)
