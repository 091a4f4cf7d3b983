"""The samples that a network is trained on, and those that it is checked on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _checks
from ..data import Problem, Samples, fixed

_DRAWN = "data.sample(count, generator)"


def checked(name: str, given: Any) -> Samples:
    """``given`` as y (count, ..., m) and x (count, ..., n), or None, on one device.

    Args:
        name: of what gives the samples, for messages.
        given: a pair.
    """
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise TypeError(
            f"{name} must be a pair (y, x), got {_checks.shown(given)}: use (y, None) for measurements alone"
        )
    y, x = given
    _checks.tensor(f"y of {name}", y)
    if y.dim() < 2:
        raise ValueError(f"y of {name} must be (count, m), got shape {_checks.shape_text(y.shape)}: use y[None]")
    if x is not None:
        _checks.tensor(f"x of {name}", x)
        if x.dim() < 2:
            raise ValueError(f"x of {name} must be (count, n), got shape {_checks.shape_text(x.shape)}: use x[None]")
        if len(x) != len(y):
            raise ValueError(f"y and x of {name} must hold the same samples, got {len(y)} and {len(x)}")
        _checks.same_device(f"x of {name}", x, y)
    return Samples(y, x)


def drawn(problem: Problem, count: int, generator: torch.Generator) -> Samples:
    """``count`` samples of a problem.

    Raises:
        TypeError, ValueError: the problem returns something else.
    """
    return checked(_DRAWN, problem.sample(count, generator))


class FixedSamples:
    """Given samples, of which batches are drawn at random."""

    def __init__(self, samples: Samples, batch: int) -> None:
        if len(samples.y) < batch:
            raise ValueError(
                f"the training set must hold at least one batch of {batch}, but has {len(samples.y)} samples beside "
                "those held out"
            )
        self.samples = samples

    def sample(self, count: int, generator: torch.Generator) -> Samples:
        y, x = self.samples
        chosen = torch.randint(len(y), (count,), generator=generator).to(y.device)
        return Samples(y[chosen], None if x is None else x[chosen])


def _apart(samples: Samples, count: int, seed: int) -> tuple[Samples, Samples]:
    """The samples to train on, and ``count`` that are held out, at most a fifth."""
    y, x = samples
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(2 * seed + 1)).to(y.device)
    apart = min(count, max(1, len(y) // 5))
    parts = order[apart:], order[:apart]
    trained, held_out = (Samples(y[part], None if x is None else x[part]) for part in parts)
    return trained, held_out


def to_train_and_to_check(
    data: Problem | Samples | tuple[Tensor, Tensor | None], held_out: int | Samples | tuple[Tensor, Tensor | None],
    batch: int, seed: int,
) -> tuple[Problem, Samples]:  # fmt: skip
    """What to train on, and what to check on."""
    apart = checked("held_out", held_out) if isinstance(held_out, tuple) else None
    count = 0 if isinstance(held_out, tuple) else _checks.count("held_out", held_out)
    if isinstance(data, tuple):
        samples = checked("data", data)
        if apart is not None:
            return FixedSamples(samples, batch), apart
        trained, kept = _apart(samples, count, seed)
        return FixedSamples(trained, batch), kept
    if not callable(getattr(data, "sample", None)):
        raise TypeError(
            f"data must be a problem with sample(count, generator), or samples (y, x), got {_checks.shown(data)}: use "
            "(y, None) for measurements alone"
        )
    return data, apart or checked(_DRAWN, fixed(data, count, seed))
