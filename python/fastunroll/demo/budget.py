"""How long a training may take, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass


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
