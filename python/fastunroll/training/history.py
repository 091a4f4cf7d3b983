"""The measurements that training returns: losses over steps, as a table and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..table import Table


@dataclass(frozen=True)
class Record:
    """The measurements of one check during training.

    Attributes:
        stage: the index of the stage, counted from 0.
        depth: the layer whose output the stage trains, counted from 1.
        step: the number of steps done in the stage.
        loss: the loss of the last batch.
        held_out: the loss of the held-out samples.
        rate: the factor by which the schedule scales all learning rates.
    """

    stage: int
    depth: int
    step: int
    loss: float
    held_out: float
    rate: float


@dataclass(frozen=True)
class History:
    """The history of a training.

    Attributes:
        records: one :class:`Record` for each check, in order.
        seconds: the time that training took in this process.
        finished: whether training ran to the end of its schedule; False after Ctrl-C.
    """

    records: Sequence[Record]
    seconds: float
    finished: bool

    def table(self) -> Table:
        """Returns a table with one row for each check."""
        return Table(asdict(record) for record in self.records)

    def as_dict(self) -> dict[str, Any]:
        """Returns the history as plain data that JSON can hold."""
        return asdict(self)

    def plot(self, path: Path | str) -> None:
        """Draws the losses over steps, with a line where each stage begins, and saves the figure to ``path``.

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
