"""LISTA as people write it in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import fastunroll as fu
import torch
from harness import Contestant
from torch import Tensor
from torch.nn import functional as F

Weights = tuple[list[Tensor], list[Tensor], list[Tensor]]  # W₁, W₂, θ: each one entry, or one a layer
Shrink = Callable[[Tensor, Any], Tensor]


def weights(model: fu.nn.LISTA) -> Weights:
    return list(model.W1), list(model.W2), list(model.theta)


def sign_relu(z: Tensor, theta: Tensor) -> Tensor:
    return torch.sign(z) * F.relu(z.abs() - theta)


def relu_relu(z: Tensor, theta: Tensor) -> Tensor:
    return F.relu(z - theta) - F.relu(-z - theta)


def eager(
    y: Tensor, w1: Sequence[Tensor], w2: Sequence[Tensor], theta: Sequence[Any], shrink: Shrink = sign_relu
) -> Tensor:
    """Runs LISTA from zero, without W₂ x in the first layer, and with a single W₁ y if tied."""
    seen = F.linear(y, w1[0])
    x = shrink(seen, theta[0])
    for k in range(1, len(theta)):
        if len(w1) > 1:
            seen = F.linear(y, w1[k])
        x = shrink(seen + F.linear(x, w2[k if len(w2) > 1 else 0]), theta[k])
    return x


def forward(model: fu.nn.LISTA, y: Tensor, shrink: Shrink = sign_relu) -> Contestant:
    groups = weights(model)

    @torch.no_grad()
    def run() -> Tensor:
        return eager(y, *groups, shrink)

    return Contestant(run)


def softshrink(model: fu.nn.LISTA, y: Tensor) -> Contestant:
    """The fastest eager idiom. It takes a number and no tensor, so thresholds cannot learn."""
    w1, w2, theta = weights(model)
    numbers = [t.item() for t in theta]

    @torch.no_grad()
    def run() -> Tensor:
        return eager(y, w1, w2, numbers, F.softshrink)

    return Contestant(run)


def squared_error(x: Tensor, truth: Tensor) -> Tensor:
    return (x - truth).square().sum()


def learned(model: fu.nn.LISTA) -> list[Tensor]:
    """Returns all parameters except for the first W₂ of untied layers, which has no effect without x0."""
    w1, w2, theta = weights(model)
    return [*w1, *(w2 if model.tied else w2[1:]), *theta]


def step(model: fu.nn.LISTA, loss: Callable[[], Tensor]) -> Contestant:
    """Returns a training step without the optimiser: the loss, and gradients in newly allocated buffers."""
    parameters = learned(model)

    def run() -> list[Tensor | None]:
        model.zero_grad(set_to_none=True)
        loss().backward()
        return [p.grad for p in parameters]

    return Contestant(run)


def training(model: fu.nn.LISTA, y: Tensor, truth: Tensor, shrink: Shrink) -> Contestant:
    groups = weights(model)
    return step(model, lambda: squared_error(eager(y, *groups, shrink), truth))
