"""Trains the two networks of the demo: with the photographs as ground truth, and on the KKT residual without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..losses import kkt_residual
from ..nn import LISTA
from ..training.loop import Budget, Trained, faded_mean, train_within
from .sensing import Sensing

BATCH = 256
CHECKED = 2048  # held-out blocks, on which the loss is checked
CHECK_EVERY = 100
WARM_UP = 50
FADE = 0.8  # the weight of the loss of a layer relative to that of the next one

# Maps the outputs of all layers (K, samples, n), the measurements and the truth to the losses of the layers (K,).
LayerLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """The title, the loss and the learning rate of the thresholds for training a network. Matrices learn at 1e-3."""

    title: str
    loss: LayerLoss
    theta_rate: float


def on_the_truth() -> Recipe:
    """Returns the recipe for training with ground truth. The loss is the logarithm of the mean square error."""

    def loss(layers: Tensor, y: Tensor, x: Tensor) -> Tensor:
        return (layers - x).square().sum(-1).mean(-1).log()

    return Recipe("LISTA, truth", loss, 1e-4)


def on_the_kkt_residual(sensing: Sensing) -> Recipe:
    """Returns the recipe for training on measurements alone. The loss is the mean KKT residual of the Lasso problem."""

    def loss(layers: Tensor, y: Tensor, x: Tensor) -> Tensor:
        return kkt_residual(layers, y.expand(layers.shape[0], *y.shape), sensing.A, sensing.lam).mean(-1)

    return Recipe("LISTA, KKT", loss, 1e-3)


def train(net: LISTA, recipe: Recipe, sensing: Sensing, blocks: Tensor, budget: Budget, seed: int) -> Trained:
    """Trains a network in place, and leaves the weights with the smallest loss.

    The loss is a weighted sum over the outputs of all layers, so that each layer gives a useful reconstruction. A layer
    j layers before the last has a weight proportional to 0.8^j. Thresholds stay ≥ 0.
    """
    generator = torch.Generator().manual_seed(seed)
    checked, training_blocks = sensing.coefficients(blocks[:CHECKED]), blocks[CHECKED:]
    optimizer = torch.optim.Adam(
        [{"params": [*net.W1, *net.W2], "lr": 1e-3}, {"params": [*net.theta], "lr": recipe.theta_rate}],
        betas=(0.9, 0.99),
        fused=True,
    )

    @torch.no_grad()
    def clamp(*_: Any) -> None:
        for theta in net.theta:
            theta.clamp_(min=0)

    optimizer.register_step_post_hook(clamp)

    def losses(x: Tensor) -> Tensor:
        y = sensing.measure(x)
        return recipe.loss(net(y, return_layers=True), y, x)

    def loss(_: float) -> Tensor:
        drawn = torch.randint(len(training_blocks), (BATCH,), generator=generator)
        return faded_mean(losses(sensing.coefficients(training_blocks[drawn])), FADE)

    return train_within(
        budget, net, optimizer, loss, lambda: losses(checked)[-1], title=recipe.title, check_every=CHECK_EVERY,
        warm_up=WARM_UP,
    )  # fmt: skip
