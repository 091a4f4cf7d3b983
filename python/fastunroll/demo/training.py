"""Training of the demo's two networks: one on the truth, one on the KKT residual alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor
from tqdm import tqdm

from ..losses import kkt_residual
from ..nn import LISTA
from .sensing import Sensing

BATCH = 256
CHECKED = 2048  # blocks that the loss is checked on, never trained on
CHECK_EVERY = 100

# From all layers (K, samples, n), measurements and truth, to one loss a layer (K,).
LayerLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """How one network is trained."""

    title: str
    loss: LayerLoss
    theta_rate: float  # Adam's rate for the thresholds; the matrices have 1e-3


def on_the_truth() -> Recipe:
    """Learn the photographs themselves: the logarithm of the mean square error."""

    def loss(layers: Tensor, y: Tensor, x: Tensor) -> Tensor:
        return (layers - x).square().sum(-1).mean(-1).log()

    return Recipe("LISTA, truth", loss, 1e-4)


def on_the_kkt_residual(sensing: Sensing) -> Recipe:
    """Learn to solve the Lasso problem, seeing measurements only: the mean KKT residual."""

    def loss(layers: Tensor, y: Tensor, x: Tensor) -> Tensor:
        return kkt_residual(layers, y.expand(layers.shape[0], *y.shape), sensing.A, sensing.lam).mean(-1)

    return Recipe("LISTA, KKT", loss, 1e-3)


@dataclass(frozen=True)
class Budget:
    """What a training ends with, whichever comes first."""

    iterations: int
    seconds: float


@dataclass(frozen=True)
class Trained:
    """How far a training came, and whether it was Ctrl-C that ended it."""

    iterations: int
    interrupted: bool


def train(net: LISTA, recipe: Recipe, sensing: Sensing, blocks: Tensor, budget: Budget, seed: int) -> Trained:
    """Trains in place and leaves the best weights seen.

    Every layer is trained, the last one most (0.8 to the power of its distance from the end), so that the network can
    be read layer by layer. Adam, with a warm-up and a cosine decay to 1 % as the budget is used up, of iterations or of
    time; thresholds are kept ≥ 0. Where time is what ends it, the result depends on the machine.
    """
    begun = perf_counter()
    generator = torch.Generator().manual_seed(seed)
    checked, trained = sensing.coefficients(blocks[:CHECKED]), blocks[CHECKED:]
    weights = 0.8 ** torch.arange(net.layers - 1, -1, -1)
    weights /= weights.sum()
    optimizer = torch.optim.Adam(
        [{"params": [*net.W1, *net.W2], "lr": 1e-3}, {"params": [*net.theta], "lr": recipe.theta_rate}],
        betas=(0.9, 0.99),
        fused=True,
    )

    def spent(i: int) -> float:
        # Where time does not run ahead clearly, iterations alone count, so that the result is the same every time.
        of_iterations, of_time = i / budget.iterations, (perf_counter() - begun) / budget.seconds
        return min(1.0, of_time if of_time > of_iterations + 0.05 else of_iterations)

    def rate(i: int) -> float:
        return min(1, (i + 1) / 50) * (0.01 + 0.99 * (1 + math.cos(math.pi * spent(i))) / 2)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    def losses(x: Tensor) -> Tensor:
        y = sensing.measure(x)
        return recipe.loss(net(y, return_layers=True), y, x)

    best, best_weights = math.inf, copy.deepcopy(net.state_dict())
    bar = tqdm(range(budget.iterations), desc=recipe.title, unit="it", dynamic_ncols=True)
    made, interrupted = 0, False
    try:
        for i in bar:
            x = sensing.coefficients(trained[torch.randint(len(trained), (BATCH,), generator=generator)])
            optimizer.zero_grad()
            (losses(x) @ weights).backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for theta in net.theta:
                    theta.clamp_(min=0)
                made = i + 1
                done = spent(made) == 1
                if made % CHECK_EVERY == 0 or done:
                    loss = float(losses(checked)[-1])
                    bar.set_postfix(loss=f"{loss:.4g}")
                    if loss < best:
                        best, best_weights = loss, copy.deepcopy(net.state_dict())
            if done:
                break
    except KeyboardInterrupt:
        interrupted = True
    bar.close()
    net.load_state_dict(best_weights)
    return Trained(made, interrupted)
