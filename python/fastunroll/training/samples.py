"""The samples for training, and the held-out samples for checks."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _checks
from ..arrays import as_tensor
from ..data import Batch, OperatorProblem, Problem, Samples, fixed
from ..operators import LinearOperator

_SAMPLE_CALL = "data.sample(count, generator)"


class Drawn(NamedTuple):
    """Checked samples, and the operator that has measured them, or None if it is that of the network."""

    y: Tensor
    x: Tensor | None
    operator: LinearOperator | None = None


def checked_samples(name: str, given: Any, *, may_have_operator: bool = False) -> Drawn:
    """Returns the samples ``given`` after a check of their shapes and devices.

    Args:
        name: the argument or function that the samples come from, for messages.
        given: y (count, ..., m) and x (count, ..., n), or None in the place of x.
        may_have_operator: whether ``given`` may have the operator that has measured the samples after y and x.
    """
    if not isinstance(given, (tuple, list)) or len(given) not in ((2, 3) if may_have_operator else (2,)):
        kind = "a pair (y, x) or (y, x, operator)" if may_have_operator else "a pair (y, x)"
        raise TypeError(f"{name} must be {kind}, got {_checks.shown(given)}: use (y, None) for measurements alone")
    operator = given[2] if len(given) == 3 else None
    if len(given) == 3 and not isinstance(operator, LinearOperator):
        raise TypeError(
            f"the operator of {name} must be a fastunroll.operators.LinearOperator, got {_checks.shown(operator)}: "
            "convert it with fastunroll.operators.as_operator"
        )
    y, x = (as_tensor(values, name) for values in given[:2])
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
    return Drawn(y, x, operator)


def draw_samples(problem: Problem | OperatorProblem, count: int, generator: torch.Generator) -> Drawn:
    """Draws ``count`` samples of a problem.

    Raises:
        TypeError, ValueError: ``problem.sample`` does not return a pair of tensors with fitting shapes, nor a pair and
            an operator.
    """
    return checked_samples(_SAMPLE_CALL, problem.sample(count, generator), may_have_operator=True)


class FixedSamples:
    """A problem that draws its batches at random from a fixed set of samples."""

    def __init__(self, samples: Drawn, batch: int) -> None:
        if len(samples.y) < batch:
            raise ValueError(
                f"the training set must hold at least one batch of {batch} samples, but it has {len(samples.y)} beside "
                "the held-out samples: use a smaller batch"
            )
        self.samples = samples

    def sample(self, count: int, generator: torch.Generator) -> Samples:
        y, x, _ = self.samples
        chosen = torch.randint(len(y), (count,), generator=generator).to(y.device)
        return Samples(y[chosen], None if x is None else x[chosen])


def _split_held_out(samples: Drawn, count: int, seed: int) -> tuple[Drawn, Drawn]:
    """Splits samples at random into a training set and ``count`` held-out samples, at most a fifth of all."""
    y, x, _ = samples
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(2 * seed + 1)).to(y.device)
    count = min(count, max(1, len(y) // 5))
    parts = order[count:], order[:count]
    training_set, held_out_set = (Drawn(y[part], None if x is None else x[part]) for part in parts)
    return training_set, held_out_set


def split_data(
    data: Problem | OperatorProblem | Samples | tuple[Tensor, Tensor | None],
    held_out: int | Samples | Batch | tuple[Tensor, Tensor | None], batch: int, seed: int,
) -> tuple[Problem | OperatorProblem, Drawn]:  # fmt: skip
    """Returns the problem that training draws batches from, and the held-out samples."""
    is_given = isinstance(held_out, tuple)
    given = checked_samples("held_out", held_out, may_have_operator=True) if is_given else None
    count = 0 if is_given else _checks.count("held_out", held_out)
    if isinstance(data, tuple):
        samples = checked_samples("data", data)
        if given is not None:
            return FixedSamples(samples, batch), given
        training_set, held_out_set = _split_held_out(samples, count, seed)
        return FixedSamples(training_set, batch), held_out_set
    if not callable(getattr(data, "sample", None)):
        fix = "use (y, None) for measurements alone" if isinstance(data, Tensor) else "give a tuple (y, x) of tensors"
        raise TypeError(
            f"data must be a problem with sample(count, generator), or samples (y, x), got {_checks.kind(data)}: {fix}"
        )
    problem: Any = data
    return problem, given or checked_samples(_SAMPLE_CALL, fixed(problem, count, seed), may_have_operator=True)
