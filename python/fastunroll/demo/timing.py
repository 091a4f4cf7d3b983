"""Times calls in turn, so that a busy moment of the machine slows all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter


def milliseconds(
    calls: Sequence[Callable[[], object]], seconds: float, *, turns: int = 3, warm_up: bool = True
) -> list[float]:
    """Returns the median time of each call in milliseconds.

    Args:
        calls: the calls, which take turns.
        seconds: how long to take turns, about.
        turns: the smallest number of turns.
        warm_up: whether a first turn does not count.
    """
    times: list[list[float]] = [[] for _ in calls]
    for call in calls if warm_up else ():
        call()
    end = perf_counter() + seconds
    while len(times[0]) < turns or perf_counter() < end:
        for call, call_times in zip(calls, times, strict=True):
            start = perf_counter()
            call()
            call_times.append(1e3 * (perf_counter() - start))
    return [median(call_times) for call_times in times]
