"""The interface of solvers in the Lasso benchmark, and the contestants made from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np
import torch
from harness import Contestant
from lasso_problems import Array, Problem

TURN = 0.25  # time of a turn in seconds
FEWEST, SINGLES = 4, 32  # fewest samples of a turn, and most samples of a turn that solves single samples
SIZINGS = 5  # largest number of attempts to find the number of samples of a turn
PROBE, TUNING = (32, 128), 0.3  # fewest and most samples for the tuning of a solver, and the time for them in seconds
AIM = 0.8  # tuning aims at 0.8 times the gap, because the median of all samples differs from that of the tuned samples
STEPS, REFINEMENTS = 14, 2  # tuning tightens the tolerance by factors √10, and then bisects


@dataclass(frozen=True)
class Solver:
    """One way to solve a batch; what depends on A alone is done before.

    load: gives samples the layout and precision the solver likes; not timed.
    solve: of what ``load`` returns; timed.
    read: the solutions (B, n), of what ``solve`` returns, and the problem; not timed.
    chunk: how many samples a call gets; None: all there are.
    turn: seconds that a call may take; it gets as many samples as it solves in that.
    after: puts back what it changed for the others in this process, at the end of a turn.
    """

    load: Callable[[Problem], Any]
    solve: Callable[[Any], Any]
    read: Callable[[Any, Problem], Array]
    chunk: int | None = None
    turn: float = TURN
    note: str = ""
    after: Callable[[], None] | None = None

    def run(self, data: list[Any]) -> list[Any]:
        """Of some chunks, one after another."""
        found = [self.solve(d) for d in data]
        if self.after:
            self.after()
        return found


def unscaled(found: Any, problem: Problem) -> Array:
    """Returns the solutions of ``Problem.scaled``."""
    return np.asarray(np.asarray(found, dtype=np.float64).reshape(len(problem), -1) * problem.lam[:, None])


def _parts(problem: Problem, chunk: int | None) -> Iterator[Problem]:
    for start in range(0, len(problem), chunk or len(problem)):
        yield problem.part(start, start + (chunk or len(problem)))


def seconds(solver: Solver, problem: Problem) -> float:
    """Returns the time for a sample in the second call, because the first call may compile."""
    data = [solver.load(problem)]
    solver.run(data)
    start = perf_counter()
    solver.run(data)
    return (perf_counter() - start) / len(problem)


def contestant(solver: Solver, problem: Problem, single: bool) -> Contestant:
    """Solves the samples that fit in a turn, one by one or as a batch."""
    most = min(len(problem), SINGLES) if single else len(problem)
    chunk = 1 if single else solver.chunk and min(solver.chunk, most)
    count = min(most, FEWEST)
    for _ in range(SIZINGS):  # what a call costs besides is seen to be little only when there are many samples
        spent = seconds(solver, problem.part(0, chunk or count))
        before, count = count, min(most, max(FEWEST, int(solver.turn / spent)))
        if chunk or count < 2 * before:
            break
    if chunk:
        count = min(most, max(1, round(count / chunk)) * chunk)
    parts = list(_parts(problem.part(0, count), chunk))
    if len(parts[-1]) < len(parts[0]):  # what compiles does so for one shape
        parts.pop()
    data = [solver.load(part) for part in parts]

    def read(found: list[Any]) -> Array:
        return np.concatenate([solver.read(f, part) for f, part in zip(found, parts, strict=True)])

    return Contestant(
        lambda: solver.run(data),
        read,
        own_threads=True,
        note=solver.note,
        problems=sum(map(len, parts)),
    )


def with_threads(solver: Solver, problem: Problem, single: bool) -> Solver:
    """For solvers that have no threads: in as many Python threads as everybody has, if that is quicker here.

    It is where samples take long in native code, without Python's lock.
    """
    threads = torch.get_num_threads()
    if single or threads == 1:
        return solver
    probe = _probe(solver, problem, 2 * threads)
    ways = {"1 thread": solver, f"{threads} threads": _dealt(solver, threads)}
    spent = {name: min(seconds(way, probe) for _ in range(2)) for name, way in ways.items()}
    best = min(spent, key=lambda name: spent[name])
    return replace(ways[best], note="; ".join(filter(None, (solver.note, best))))


def _dealt(solver: Solver, threads: int) -> Solver:
    pool = ThreadPoolExecutor(threads)

    def dealt(problem: Problem) -> list[Problem]:
        ends = np.linspace(0, len(problem), threads + 1).astype(int)
        return [problem.part(s, e) for s, e in pairwise(ends) if e > s]

    def read(found: Any, problem: Problem) -> Array:
        return np.concatenate([solver.read(f, part) for f, part in zip(found, dealt(problem), strict=True)])

    return replace(
        solver,
        load=lambda problem: [solver.load(part) for part in dealt(problem)],
        solve=lambda data: list(pool.map(solver.solve, data)),
        read=read,
    )


def _probe(solver: Solver, problem: Problem, fewest: int) -> Problem:
    most = PROBE[-1]
    return problem.part(0, min(most, max(fewest, int(TUNING / seconds(solver, problem.part(0, FEWEST))))))


def loosest(solver: Callable[[float], Solver], problem: Problem, tol: float, start: float) -> float:
    """The largest tolerance of a solver, at most ``start``, whose median gap is at most ``tol``.

    Solvers measure their tolerance in ways of their own; so each is charged for what was asked and for no more. Where
    none is small enough, as in float32, it is the one from which smaller ones gain nothing.
    """
    probe = _probe(solver(tol), problem, PROBE[0])

    def reached(value: float) -> float:
        way = solver(value)
        return float(np.median(probe.gaps(way.read(way.solve(way.load(probe)), probe))))

    best, least = start, np.inf
    for step in range(STEPS):
        value = start * 10 ** (-step / 2)
        gap = reached(value)
        if gap <= AIM * tol:
            low, high = value, value * 10**0.5
            for _ in range(REFINEMENTS if step else 0):
                middle = (low * high) ** 0.5
                low, high = (middle, high) if reached(middle) <= AIM * tol else (low, middle)
            return float(low)
        if gap < 0.9 * least:
            best, least = value, gap
        elif value <= tol:  # looser ones may all do the same, because of what a solver does at least
            break
    return float(best)
