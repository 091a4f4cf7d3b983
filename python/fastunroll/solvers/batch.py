"""A batch of samples that iterate until each has converged, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from .._precision import own_precision
from ..samples import column
from .history import EVERY, Monitor, run_blocks
from .problem import Problem


class Run(Protocol):
    """Samples that iterate; see :class:`Batch`."""

    @property
    def x(self) -> Tensor: ...

    @property
    def gap(self) -> Tensor: ...

    @property
    def iterations(self) -> Tensor: ...

    def advance(self, count: int) -> bool:
        """So many iterations more; whether all samples have converged."""

    @property
    def known_residual(self) -> Tensor | None:
        """A x − y of the samples that have not converged, among those of all, if it is known."""

    def measures(self) -> dict[str, Tensor]:
        """What a history holds."""


def run_monitored(p: Problem, monitor: Monitor, begin: Callable[[], Run]) -> Tensor:
    """The iterations that ``monitor`` asks for: x, in the leading shape and the units of y."""
    with own_precision(p.y), monitor:
        run = begin()
        run_blocks(monitor, run.advance, lambda done: monitor.report(done, p.restore(run.x), run.gap, run.measures))
    x, gap = p.restore(run.x), run.gap
    if p.unit is not None:  # the gap of an x that overflows in the units of y is not the gap of what is returned
        gap = torch.where(torch.isfinite(x).reshape(run.x.shape).flatten(1).all(1), gap, torch.nan)
    monitor.finish(gap, run.iterations, monitor.divergence.of(p, run.x, run.known_residual), p.batch_shape)
    return x


class Batch:
    """The state of all samples, moved on by blocks: out of place, so that it is differentiable by unrolling.

    Samples of a matrix that have converged are left out of what follows. An operator may hold something for each sample
    and always gets all of them: there, the iterates of the converged ones are put aside.

    A subclass has ``move()``, which makes an iteration, ``measured_gap()``, what it compares with tol, and names in
    ``state`` what each sample carries along besides its iterate, where it is a tensor.

    Attributes:
        gap, made: (B,), of all samples: what is compared with tol, infinite at first and where nobody asks;
            iterations.
        active: the problem of the samples that go on.
        iterate: where they are.
    """

    state: tuple[str, ...] = ()

    def __init__(self, p: Problem, monitor: Monitor) -> None:
        self.p, self.active, self.tol, self.asked = p, p, monitor.tol, monitor.measures
        self.iterate = self.kept = p.start()
        self.gap = torch.full((p.batch,), torch.inf, dtype=p.y.abs().dtype, device=p.y.device)
        self.iterations = torch.zeros(p.batch, dtype=torch.int64, device=p.y.device)
        self.rows = torch.arange(p.batch, device=p.y.device)  # which samples go on

    def move(self) -> None:
        """One iteration of the samples that go on."""
        raise NotImplementedError

    def measured_gap(self) -> Tensor:
        """Of the samples that go on; not differentiated."""
        raise NotImplementedError

    @property
    def x(self) -> Tensor:
        """Of all samples."""
        if self.tol == 0:  # nothing rests
            return self.iterate
        if self.p.A is None:
            return torch.where(column(self.converged(), self.iterate), self.kept, self.iterate)
        return self.kept.index_copy(0, self.rows, self.iterate)

    @property
    def known_residual(self) -> Tensor | None:
        return None

    def converged(self) -> Tensor:
        """Which samples have."""
        return (self.gap <= self.tol) & (self.tol > 0)

    def advance(self, count: int) -> bool:
        """So many iterations more; whether all samples have converged."""
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
        """Measures, if anybody asks, and leaves out what has converged; whether that is all."""
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
