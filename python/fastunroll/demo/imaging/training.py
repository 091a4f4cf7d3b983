"""Trains a network of the imaging demos, and leaves its best weights, also after Ctrl-C."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ...nn import Unrolled
from ...operators import LinearOperator
from ..budget import Budget, Trained

CHECK_EVERY = 25


class Batch(NamedTuple):
    """Measurements, pictures, the operator that has measured them, and the pixels at borders that are not judged."""

    y: Tensor
    x: Tensor
    A: LinearOperator
    margin: tuple[int, int] = (0, 0)


# Draws a batch from the number of its pictures and the generator of all random numbers.
Draw = Callable[[int, torch.Generator], Batch]


def layer_losses(layers: Tensor, batch: Batch) -> Tensor:
    """Maps the outputs of all layers (K, B, H, W) to the logarithm of their mean square errors, (K,).

    The mean of the logarithms over a batch is the mean PSNR, in other units.
    """
    (down, right), (H, W) = batch.margin, batch.x.shape[-2:]
    errors = (layers - batch.x)[..., down : H - down, right : W - right].abs().square().mean((-2, -1))
    return (errors + 1e-8).log().mean(-1)


def train(
    net: Unrolled,
    draw: Draw,
    budget: Budget,
    *,
    batch: int,
    rate: float,
    fade: float,
    seed: int,
    title: str,
    checked: int = 8,
) -> Trained:
    """Trains a network in place, and leaves the weights with the smallest loss.

    The loss is a weighted sum over the outputs of all layers, so that each layer gives a useful picture. Adam's rates
    warm up and then decay along a cosine to 1 % at the end of the budget. If the time of the budget ends the training,
    the result depends on the machine.

    Args:
        net: the network.
        draw: the function that draws a batch.
        budget: how long to train.
        batch: the number of pictures of a step.
        rate: the learning rate of weights. Steps, momenta and noise levels learn at three times this rate.
        fade: the weight of the loss of a layer relative to that of the next one.
        seed: the seed of all random draws.
        title: the title of the progress bar.
        checked: the number of pictures on which the loss is checked.
    """
    start = perf_counter()
    generator = torch.Generator().manual_seed(2 * seed)
    check = draw(checked, torch.Generator().manual_seed(2 * seed + 1))
    weights = fade ** torch.arange(net.layers - 1, -1, -1)
    weights /= weights.sum()
    numbers = [p for name, p in net.named_parameters() if not name.startswith("prox.")]
    groups = [{"params": [*net.prox.parameters()], "lr": rate}, {"params": numbers, "lr": 3 * rate}]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)

    def spent(i: int) -> float:
        return budget.spent(i, perf_counter() - start)

    def factor(i: int) -> float:
        return min(1, (i + 1) / 20) * (0.01 + 0.99 * (1 + math.cos(math.pi * spent(i))) / 2)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    def losses(drawn: Batch) -> Tensor:
        return layer_losses(net(drawn.y, return_layers=True, operator=drawn.A), drawn)

    best, best_weights = math.inf, copy.deepcopy(net.state_dict())
    bar = tqdm(range(budget.iterations), desc=title, unit="it", dynamic_ncols=True)
    iterations, interrupted = 0, False
    try:
        for i in bar:
            optimizer.zero_grad()
            (losses(draw(batch, generator)) @ weights).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            iterations = i + 1
            done = spent(iterations) == 1
            if iterations % CHECK_EVERY == 0 or done:
                with torch.no_grad():
                    loss = float(losses(check)[-1])
                bar.set_postfix_str(f"{-10 / math.log(10) * loss:.2f} dB")
                if loss < best:
                    best, best_weights = loss, copy.deepcopy(net.state_dict())
            if done:
                break
    except KeyboardInterrupt:
        interrupted = True
    bar.close()
    net.load_state_dict(best_weights)
    return Trained(iterations, interrupted)
