"""The history of a solver's run, and the monitor that fills it and calls callbacks."""

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
from ..warn import warn_unless_converged
from .divergence import Divergence

Callback: TypeAlias = Callable[[int, Any], Any]

EVERY = 10  # iterations between two measurements of the samples


@dataclass(frozen=True)
class Samples:
    """The results of a run, one value for each sample, with the leading shape of y.

    gap: the number that was compared with ``tol``, the relative duality gap; for AMP, the relative change of the last
    iteration. iterations: the number of iterations. converged: whether the gap is at most ``tol``.
    """

    gap: Tensor
    iterations: Tensor
    converged: Tensor


@dataclass
class History:
    """The record of one call of a solver, which fills it if it is given as ``history=``.

    Each list has an entry for every 10th iteration. Entries are means over samples. Lists of quantities that a solver
    does not have stay empty.

    iteration: the iterations before the entry. objective, gap, kkt: ½‖A x − y‖² + λ‖x‖₁, the relative duality gap
    (:func:`duality_gap`) and the KKT residual (:func:`fastunroll.losses.kkt_residual`), of all solvers but AMP.
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
        """Empties the record."""
        for f in fields(self):
            setattr(self, f.name, None if f.name == "samples" else [])

    def add(self, iteration: int, values: dict[str, Tensor]) -> None:
        """Adds an entry to each list of ``values``."""
        self.iteration.append(iteration)
        for name, value in values.items():
            getattr(self, name).append(float(value.double().mean()))


class Monitor:
    """Fills the history, calls the callback and moves the progress bar between blocks of iterations.

    It is made from the arguments of a solver, and checks them.
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
        """Whether there is a history, a callback or a progress bar."""
        return self.callback is not None or self.history is not None or self.progress

    @property
    def measures(self) -> bool:
        """Whether gaps have to be measured."""
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

    def finish(self, gap: Tensor, iterations: Tensor, diverged: Tensor, lead: tuple[int, ...]) -> None:
        """Stores the results of the run, and warns of samples that have not converged."""
        gap = gap.detach()
        converged = gap <= self.tol if self.tol > 0 else torch.zeros_like(gap, dtype=torch.bool)
        if self.history is not None:
            self.history.samples = Samples(gap.reshape(lead), iterations.reshape(lead), converged.reshape(lead))
        diverged = diverged & ~converged if self.tol > 0 else diverged
        if bool(diverged.any()):
            self.divergence.warn(self.name, diverged)
        elif self.tol > 0 and not self.ended:
            warn_unless_converged(self.name, gap, converged, self.tol, self.iterations)


def run_blocks(monitor: Monitor, block: Callable[[int], bool], report: Callable[[int], bool]) -> None:
    """Runs ``block(iterations)`` until it, or ``report(iteration)``, returns True."""
    done = 0
    while done < monitor.iterations:
        size = min(EVERY if monitor.is_observed else monitor.iterations, monitor.iterations - done)
        converged = block(size)
        done += size
        if (monitor.is_observed and report(done)) or converged:
            return
