"""What was measured during training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..table import Table


@dataclass(frozen=True)
class Record:
    """One check: stage, from 0; the depth it trains; steps done in it; the loss of the last batch and of held-out
    samples; and the factor of the rates.
    """

    stage: int
    depth: int
    step: int
    loss: float
    held_out: float
    rate: float


@dataclass(frozen=True)
class History:
    """The checks of a training in order, the seconds it took in this process, and whether it came to its end."""

    records: Sequence[Record]
    seconds: float
    finished: bool

    def table(self) -> Table:
        """A row a check."""
        return Table(asdict(record) for record in self.records)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def plot(self, path: Path | str) -> None:
        """Draws the loss of held-out samples over steps, and where stages begin, into a picture file.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError:
            raise ModuleNotFoundError("figures need matplotlib: pip install matplotlib") from None
        steps, begins, done, last = [], [], 0, 0
        for previous, record in zip([None, *self.records], self.records, strict=False):
            if previous is not None and record.stage != previous.stage:
                done += last
                begins.append(done)
            last = record.step
            steps.append(done + record.step)
        figure = Figure(figsize=(7, 3.5), layout="constrained")
        axes = figure.subplots()
        for step in begins:
            axes.axvline(step, color="0.9", linewidth=1)
        axes.plot(steps, [r.loss for r in self.records], ".", color="0.7", markersize=3, label="last batch")
        axes.plot(steps, [r.held_out for r in self.records], label="held out")
        axes.set(xlabel="steps", ylabel="loss")
        axes.legend(frameon=False)
        figure.savefig(path, dpi=150)
