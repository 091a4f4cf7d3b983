"""Trains a network of the imaging demos, and leaves its best weights, also after Ctrl-C."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...operators import LinearOperator
from ...training.loop import Budget, Trained, faded_mean, train_within

CHECK_EVERY = 25
CHECKED = 2  # pictures of each batch of a check


class Batch(NamedTuple):
    """Measurements, pictures, the operator that has measured them, and the pixels at borders that are not judged."""

    y: Tensor
    x: Tensor
    A: LinearOperator
    margin: tuple[int, int] = (0, 0)


# Draws a batch from the number of its pictures and the generator of all random numbers.
Draw = Callable[[int, torch.Generator], Batch]
# Maps a batch, and the share of the training that is done, to the outputs of the layers (K, B, H, W) that are trained.
Outputs = Callable[[Batch, float], Tensor]


def layer_losses(layers: Tensor, batch: Batch) -> Tensor:
    """Maps the outputs of all layers (K, B, H, W) to the logarithm of their mean square errors, (K,).

    The mean of the logarithms over a batch is the mean PSNR, in other units.
    """
    (down, right), (H, W) = batch.margin, batch.x.shape[-2:]
    errors = (layers - batch.x)[..., down : H - down, right : W - right].abs().square().mean((-2, -1))
    return (errors + 1e-8).log().mean(-1)


def decibels(loss: float) -> str:
    """Returns the logarithm of a mean square error as the PSNR of pictures from 0 to 1."""
    return f"{-10 / math.log(10) * loss:.2f} dB"


def train(
    net: nn.Module,
    outputs: Outputs,
    draw: Draw,
    budget: Budget,
    *,
    batch: int,
    rate: float,
    numbers_rate: float,
    fade: float,
    seed: int,
    title: str,
    checks: int = 4,
) -> Trained:
    """Trains a network in place, and leaves the weights with the smallest loss.

    The loss is a weighted sum over the outputs of the layers, so that each layer gives a useful picture.

    Args:
        net: the network.
        outputs: the function that runs the network.
        draw: the function that draws a batch.
        budget: how long to train.
        batch: the number of pictures of a step.
        rate: the learning rate of filters.
        numbers_rate: the learning rate of steps, momenta and noise levels, relative to that of filters.
        fade: the weight of the loss of a layer relative to that of the next one.
        seed: the seed of all random draws.
        title: the title of the progress bar.
        checks: the number of batches on which the loss is checked. Each has an operator of its own.
    """
    generator = torch.Generator().manual_seed(2 * seed)
    held_out = torch.Generator().manual_seed(2 * seed + 1)
    checked = [draw(CHECKED, held_out) for _ in range(checks)]
    filters = [p for p in net.parameters() if p.dim() > 1]
    numbers = [p for p in net.parameters() if p.dim() <= 1]
    groups = [{"params": filters, "lr": rate}, {"params": numbers, "lr": numbers_rate * rate}]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)

    def losses(drawn: Batch, spent: float) -> Tensor:
        return layer_losses(outputs(drawn, spent), drawn)

    def loss(spent: float) -> Tensor:
        return faded_mean(losses(draw(batch, generator), spent), fade)

    def check() -> Tensor:
        return torch.stack([losses(drawn, 1.0)[-1] for drawn in checked]).mean()

    return train_within(
        budget, net, optimizer, loss, check, title=title, check_every=CHECK_EVERY, clip=1.0, shown=decibels,
    )  # fmt: skip
