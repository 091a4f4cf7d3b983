"""A loop of Adam steps for any module, within a budget of steps and seconds. It leaves the best weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor, nn
from tqdm import tqdm


@dataclass(frozen=True)
class Budget:
    """The largest number of iterations and the longest time of a training. Training ends at the first of both."""

    iterations: int
    seconds: float

    def spent(self, iterations: int, seconds: float) -> float:
        """Returns the share of the budget that is spent.

        Time counts only if it is clearly ahead of the iterations. Otherwise results would differ from run to run.
        """
        of_iterations, of_time = iterations / self.iterations, seconds / self.seconds
        return min(1.0, of_time if of_time > of_iterations + 0.05 else of_iterations)


@dataclass(frozen=True)
class Trained:
    """The number of iterations that a training has done, and whether Ctrl-C ended it."""

    iterations: int
    interrupted: bool


def train_within(
    budget: Budget,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[float], Tensor],
    check: Callable[[], Tensor],
    *,
    title: str,
    check_every: int,
    warm_up: int = 20,
    clip: float = math.inf,
    shown: Callable[[float], str] = lambda loss: f"loss={loss:.4g}",
) -> Trained:
    """Trains a module in place, and leaves the weights with the smallest loss of the checks.

    The rates of the optimiser warm up, and then decay along a cosine to 1 % at the end of the budget. Ctrl-C ends the
    training with the best weights so far. If the time of the budget ends the training, the result depends on the
    machine. Otherwise the seeds of ``loss`` and ``check`` decide every bit.

    Args:
        budget: how long to train.
        module: the module.
        optimizer: the optimiser of its parameters, with the largest rates.
        loss: the function that draws a batch and returns its loss. Its argument is the share of the budget that is
            spent, from 0 to 1.
        check: the function that returns the loss of held-out samples. It is called without gradients.
        title: the title of the progress bar.
        check_every: the number of steps between checks. The last step is followed by a check too.
        warm_up: the number of steps until the rates are at their largest.
        clip: the largest norm of the gradient. A larger gradient is scaled down to it.
        shown: the function that writes the loss of a check for the progress bar.

    Returns:
        What became of the training.
    """
    start = perf_counter()
    learned = [p for group in optimizer.param_groups for p in group["params"]]

    def spent(i: int) -> float:
        """Returns the share of the budget that is spent after i iterations."""
        return budget.spent(i, perf_counter() - start)

    def rate(i: int) -> float:
        return min(1, (i + 1) / warm_up) * (0.01 + 0.99 * (1 + math.cos(math.pi * spent(i))) / 2)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    best, best_weights = math.inf, copy.deepcopy(module.state_dict())
    iterations, interrupted = 0, False
    with tqdm(range(budget.iterations), desc=title, unit="it", dynamic_ncols=True) as bar:
        try:
            for i in bar:
                optimizer.zero_grad()
                loss(spent(i)).backward()
                torch.nn.utils.clip_grad_norm_(learned, clip)
                optimizer.step()
                schedule.step()
                iterations = i + 1
                done = spent(iterations) == 1
                if iterations % check_every == 0 or done:
                    with torch.no_grad():
                        found = float(check())
                    bar.set_postfix_str(shown(found))
                    if found < best:
                        best, best_weights = found, copy.deepcopy(module.state_dict())
                if done:
                    break
        except KeyboardInterrupt:
            interrupted = True
    module.load_state_dict(best_weights)
    return Trained(iterations, interrupted)


def grown(layers: int, spent: float, half_until: float) -> int:
    """Returns the number of layers to train: half of them in the first part of a training, and then all.

    A step of half of the layers takes half of the time. Weights that layers share learn from it nearly as much.

    Args:
        layers: the number of all layers.
        spent: the share of the budget that is spent.
        half_until: the share of the budget for half of the layers.
    """
    return layers if spent >= half_until else (layers + 1) // 2


def faded_mean(losses: Tensor, fade: float) -> Tensor:
    """Returns the mean of the losses of layers (K,), in which a layer weighs ``fade`` times as much as the next one."""
    weights = fade ** torch.arange(len(losses) - 1, -1, -1)
    return losses @ (weights / weights.sum())
