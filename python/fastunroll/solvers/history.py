"""What a run of a solver leaves behind, and what it shows on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .. import _checks
from ..warn import ConvergenceWarning, warn
from .divergence import Divergence

Callback: TypeAlias = Callable[[int, Any], Any]

EVERY = 10  # iterations between two looks at the samples


@dataclass(frozen=True)
class Samples:
    """The end of a run, with the leading shape of y: one value a sample.

    gap: what was compared with ``tol``: the relative duality gap; of AMP, the relative change of the last iteration.
    iterations: how many were made. converged: whether the gap is at most ``tol``.
    """

    gap: Tensor
    iterations: Tensor
    converged: Tensor


@dataclass
class History:
    """A record of one call: give it to a solver as ``history=``, which fills it anew.

    Lists have an entry for each look at the samples, every 10 iterations; numbers are means over samples. A solver
    leaves lists that it has nothing for empty.

    iteration: after how many iterations. objective, gap, kkt: ½‖A x − y‖² + λ‖x‖₁, the relative duality gap
    (:func:`duality_gap`) and the KKT residual (:func:`fastunroll.losses.kkt_residual`), of ISTA, FISTA and ADMM.
    rho, primal, dual: ADMM's ρ, ‖x − z‖ and ρ‖z − z_before‖. residual, threshold: AMP's ‖v‖ and θ.
    samples: :class:`Samples`, or None before the end.
    """

    iteration: list[int] = field(default_factory=list)
    objective: list[float] = field(default_factory=list)
    gap: list[float] = field(default_factory=list)
    kkt: list[float] = field(default_factory=list)
    rho: list[float] = field(default_factory=list)
    primal: list[float] = field(default_factory=list)
    dual: list[float] = field(default_factory=list)
    residual: list[float] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    samples: Samples | None = None

    def clear(self) -> None:
        """As new."""
        for f in fields(self):
            setattr(self, f.name, None if f.name == "samples" else [])

    def add(self, iteration: int, values: dict[str, Tensor]) -> None:
        """One look at the samples."""
        self.iteration.append(iteration)
        for name, value in values.items():
            getattr(self, name).append(float(value.double().mean()))


class Monitor:
    """Runs blocks of iterations and, between them, keeps the user informed: history, callback, progress bar.

    One is made from the arguments of a solver, which it checks.
    """

    def __init__(
        self,
        name: str,
        divergence: Divergence,
        iterations: int,
        tol: float,
        callback: Callback | None,
        progress: bool,
        history: History | None,
    ) -> None:
        self.name, self.divergence = name, divergence
        self.iterations = _checks.count("iterations", iterations)
        self.tol = _checks.not_negative("tol", tol)
        if callback is not None and not callable(callback):
            raise TypeError(
                f"callback must be a function of the iteration and x, or None, got {type(callback).__name__}"
            )
        if history is not None and not isinstance(history, History):
            raise TypeError(f"history must be a fu.solvers.History() or None, got {type(history).__name__}")
        self.callback, self.history, self.progress = callback, history, _checks.flag("progress", progress)
        self.ended = False  # by the callback

    @property
    def is_observed(self) -> bool:
        """Whether anybody wants to look between iterations."""
        return self.callback is not None or self.history is not None or self.progress

    @property
    def measures(self) -> bool:
        """Whether anybody asks for what is compared with tol."""
        return self.tol > 0 or self.history is not None

    def __enter__(self) -> Monitor:
        if self.history is not None:
            self.history.clear()
        if self.progress:
            self.bar = tqdm(total=self.iterations, desc=self.name, unit="it")
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        if self.progress:
            self.bar.close()

    def report(self, iteration: int, x: Tensor, gap: Tensor, measure: Callable[[], dict[str, Tensor]]) -> bool:
        """Reports the state after ``iteration`` iterations, and returns whether to stop. tol bounds ``gap``, (B,)."""
        if self.history is not None:
            self.history.add(iteration, {name: value.detach() for name, value in measure().items()})
        if self.progress:
            self.bar.update(iteration - self.bar.n)
            if self.tol > 0 and gap.numel():
                self.bar.set_postfix(converged=f"{int((gap <= self.tol).sum())}/{gap.numel()}", refresh=False)
        answer = None if self.callback is None else self.callback(iteration, x.detach().clone())
        # Anything but a truth value is no answer.
        if isinstance(answer, (bool, np.bool_)) or (isinstance(answer, Tensor) and answer.numel() == 1):
            self.ended = bool(answer)
        return self.ended

    def finish(self, gap: Tensor, made: Tensor, diverged: Tensor, lead: tuple[int, ...]) -> None:
        """At the end: never hides that a sample has not converged."""
        gap = gap.detach()
        converged = (gap <= self.tol) & (self.tol > 0)
        if self.history is not None:
            self.history.samples = Samples(gap.reshape(lead), made.reshape(lead), converged.reshape(lead))
        diverged = diverged & ~converged
        if bool(diverged.any()):
            self.divergence.warn(self.name, diverged)
        elif self.tol > 0 and not self.ended and not bool(converged.all()):
            numbers = gap[~converged & torch.isfinite(gap)]
            if numbers.numel():
                advice = f"(the largest is at {float(numbers.max()):.1e}): allow more iterations or a larger tol"
            else:
                advice = "since they hold NaN or infinity: check y, and how large x is"
            warn(
                f"{self.name}: {int((~converged).sum())} of {converged.numel()} samples did not reach tol = "
                f"{self.tol:g} within {self.iterations} iterations {advice}",
                ConvergenceWarning,
            )


def run_blocks(monitor: Monitor, block: Callable[[int], bool], look: Callable[[int], bool]) -> None:
    """Runs ``block(iterations)`` until it returns True, all have converged, or ``look(iteration)`` says so."""
    done = 0
    while done < monitor.iterations:
        size = min(EVERY if monitor.is_observed else monitor.iterations, monitor.iterations - done)
        converged = block(size)
        done += size
        if (monitor.is_observed and look(done)) or converged:
            return
