"""What a problem is, and how its samples are drawn: without end for training, or a fixed set for tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .. import _checks
from ..operators import LinearOperator


class Samples(NamedTuple):
    """Measurements y (count, m) and the ground truth x (count, n), which is None if it is unknown."""

    y: Tensor
    x: Tensor | None


class Batch(NamedTuple):
    """Samples, and the operator that has measured them, such as a scan with another mask for each sample."""

    y: Tensor
    x: Tensor | None
    operator: LinearOperator


class Problem(Protocol):
    """An object that draws samples."""

    def sample(self, count: int, generator: torch.Generator) -> Samples:
        """Draws ``count`` samples. All random numbers come from the generator."""
        ...


class OperatorProblem(Protocol):
    """An object that draws samples, and with each batch the operator that has measured it."""

    def sample(self, count: int, generator: torch.Generator) -> Batch:
        """Draws ``count`` samples. All random numbers come from the generator."""
        ...


def stream(problem: Problem, batch: int, seed: int = 0) -> Iterator[Samples]:
    """Yields batches of samples without end. They share no random number with :func:`fixed`, whatever its seed.

    Args:
        problem: an object with ``sample(count, generator)``, such as :class:`SparseRecovery`.
        batch: the number of samples of a batch, ≥ 1.
        seed: a whole number from −2⁶² to 2⁶² − 1.

    Raises:
        TypeError: ``problem`` has no method ``sample``.
        ValueError: ``batch`` < 1, or ``seed`` is no such number.

    Equivalent to::

        generator = torch.Generator().manual_seed(2 * seed)
        while True:
            yield problem.sample(batch, generator)
    """
    batch, seed = _checks.count("batch", batch), _checks.seed(seed)
    return _batches(_problem(problem), batch, torch.Generator().manual_seed(2 * seed))


def _batches(problem: Problem, batch: int, generator: torch.Generator) -> Iterator[Samples]:
    while True:
        yield problem.sample(batch, generator)


def _problem(problem: Problem) -> Problem:
    if not callable(getattr(problem, "sample", None)):
        raise TypeError(f"problem must have sample(count, generator), got {_checks.shown(problem)}")
    return problem


def fixed(problem: Problem, count: int, seed: int = 0) -> Samples:
    """Returns a fixed set of samples for tests. It shares no random number with :func:`stream`, whatever its seed.

    Args:
        problem: an object with ``sample(count, generator)``, such as :class:`SparseRecovery`.
        count: the number of samples, ≥ 1.
        seed: a whole number from −2⁶² to 2⁶² − 1.

    Returns:
        The samples (y, x) of the problem; x is None where the truth is unknown.

    Raises:
        TypeError: ``problem`` has no method ``sample``.
        ValueError: ``count`` < 1, or ``seed`` is no such number.

    Equivalent to ``problem.sample(count, torch.Generator().manual_seed(2 * seed + 1))``.
    """
    count, seed = _checks.count("count", count), _checks.seed(seed)
    return _problem(problem).sample(count, torch.Generator().manual_seed(2 * seed + 1))
