"""Iterations of a batch of samples in plain PyTorch. A sample stops when it has converged."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from .._precision import own_precision
from ..ops.tensors import real_dtype
from ..samples import column
from .history import EVERY, Monitor, run_blocks
from .problem import Problem


class Run(Protocol):
    """The iterations of a batch of samples. See :class:`Batch`."""

    @property
    def x(self) -> Tensor: ...

    @property
    def gap(self) -> Tensor: ...

    @property
    def iterations(self) -> Tensor: ...

    def advance(self, count: int) -> bool:
        """Runs ``count`` more iterations. Returns whether all samples have converged."""

    @property
    def known_residual(self) -> Tensor | None:
        """A x − y of all samples, if it is known, else None."""

    def measures(self) -> dict[str, Tensor]:
        """Returns the numbers that a history stores."""


def run_monitored(p: Problem, monitor: Monitor, begin: Callable[[], Run]) -> Tensor:
    """Runs the iterations that ``monitor`` asks for. Returns x, in the leading shape and the units of y."""
    with own_precision(p.y), monitor:
        run = begin()
        run_blocks(monitor, run.advance, lambda done: monitor.report(done, p.restore(run.x), run.gap, run.measures))
    x, gap = p.restore(run.x), run.gap
    if p.unit is not None:  # the gap of an x that overflows in the units of y is not the gap of what is returned
        gap = torch.where(torch.isfinite(x).reshape(run.x.shape).flatten(1).all(1), gap, torch.nan)
    monitor.finish(gap, run.iterations, monitor.divergence.of(p, run.x, run.known_residual), p.batch_shape)
    return x


class Batch:
    """The iterates of all samples, which advance in blocks of iterations.

    All operations are out of place, so that autograd can differentiate the iterations. With a matrix, samples that have
    converged are left out of further iterations. An operator may hold data for each sample, so it always gets all
    samples, and the iterates of converged samples are stored.

    A subclass defines ``move()``, one iteration, and ``measured_gap()``, the number that is compared with tol. Its
    ``state`` names the tensors that each sample has besides its iterate.

    Attributes:
        gap: (B,), the number of each sample that is compared with tol. It is infinite if it has not been measured.
        iterations: (B,), the number of iterations of each sample.
        active: the problem of the samples that have not converged.
        iterate: (B, ...), the iterates of these samples.
    """

    state: tuple[str, ...] = ()

    def __init__(self, p: Problem, monitor: Monitor) -> None:
        self.p, self.active, self.tol, self.asked = p, p, monitor.tol, monitor.measures
        self.iterate = self.kept = p.start()
        self.gap = torch.full((p.batch,), torch.inf, dtype=real_dtype(p.y), device=p.y.device)
        self.iterations = torch.zeros(p.batch, dtype=torch.int64, device=p.y.device)
        self.proximal_steps = 0

    def move(self) -> None:
        """Makes one iteration of the active samples."""
        raise NotImplementedError

    def measured_gap(self) -> Tensor:
        """The gap of the active samples, without gradient."""
        raise NotImplementedError

    def next_proximal_step(self, z: Tensor, theta: Tensor) -> Tensor:
        """The proximal operator of this iteration, of which each has one step."""
        self.proximal_steps += 1
        return self.active.prox(z, theta, self.proximal_steps - 1)

    @cached_property
    def rows(self) -> Tensor:
        """The numbers of the active samples."""
        return torch.arange(self.p.batch, device=self.p.y.device)

    @property
    def x(self) -> Tensor:
        """The iterates of all samples."""
        if self.tol == 0:  # no sample stops
            return self.iterate
        if self.p.A is None:
            return torch.where(column(self.converged(), self.iterate), self.kept, self.iterate)
        return self.kept.index_copy(0, self.rows, self.iterate)

    @property
    def known_residual(self) -> Tensor | None:
        return None

    def converged(self) -> Tensor:
        """Which samples have converged, (B,)."""
        return (self.gap <= self.tol) & (self.tol > 0)

    def advance(self, count: int) -> bool:
        """Runs ``count`` more iterations. Returns whether all samples have converged."""
        if not self.asked:
            for _ in range(count if self.p.batch else 1):
                self.move()
            self.iterations = self.iterations + count
            return False
        for done in range(1, count + 1):
            # An empty batch makes one iteration, by which its result has a gradient like that of any other.
            if not self.rows.numel() and (self.p.batch or done > 1):
                break
            self.move()
            if done % EVERY == 0 or done == count:
                more = torch.full_like(self.rows, done % EVERY or EVERY)
                if self.p.A is None:
                    more = more * ~self.converged()
                self.iterations = self.iterations.index_add(0, self.rows, more)
                if self.drop_converged():
                    break
        return self.tol > 0 and bool(self.converged().all())

    def drop_converged(self) -> bool:
        """Measures gaps, if they are needed, and leaves out converged samples. Returns whether all have converged."""
        if not self.asked:
            return False
        with torch.no_grad():
            gap = self.measured_gap()
        if self.tol == 0:
            self.gap = gap
            return False
        if self.p.A is None:
            before, self.gap = self.converged(), torch.where(self.converged(), self.gap, gap)
            self.kept = torch.where(column(self.converged() & ~before, self.kept), self.iterate, self.kept)
            return bool(self.converged().all())
        self.gap = self.gap.index_copy(0, self.rows, gap)
        active = ~(gap <= self.tol)
        if bool(active.all()):
            return False
        self.kept = self.kept.index_copy(0, self.rows, self.iterate)
        some = active.nonzero()[:, 0]
        self.rows, self.active = self.rows[some], self.active.samples(some)
        for name in ("iterate", *self.state):
            value = getattr(self, name)
            setattr(self, name, value[some] if isinstance(value, Tensor) else value)
        return not some.numel()
