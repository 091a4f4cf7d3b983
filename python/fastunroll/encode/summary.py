"""The summary of a finished job."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .manifest import is_size

SHOWN_ROWS = 10


@dataclass
class Summary:
    """The summary of a job. ``print`` shows it as text.

    Attributes:
        output: the output file, or the folder of shards.
        samples: the number N of samples.
        columns: the number n of columns of the codes.
        nonzeros: the number of nonzeros of all codes.
        unconverged: the number of samples with codes whose duality gap exceeds the tolerance.
        largest_gap: the largest duality gap of samples with codes.
        tol: the tolerance.
        not_finite: the number of samples without codes, because the sample or its code has NaN or infinity.
        first_not_finite: the rows of the first of these samples.
        solved: the number of samples that were solved during this call.
        seconds: the time that this took.
    """

    output: Path
    samples: int
    columns: int
    tol: float
    nonzeros: int = 0
    unconverged: int = 0
    largest_gap: float = 0.0
    not_finite: int = 0
    first_not_finite: list[int] = field(default_factory=list)
    solved: int = 0
    seconds: float = 0.0

    def add(self, start: int, nonzeros: int, gap: NDArray[Any]) -> None:
        """Adds the samples of a shard, which begins with sample ``start``."""
        bad = np.isnan(gap)
        self.nonzeros += nonzeros
        self.not_finite += int(bad.sum())
        room = SHOWN_ROWS - len(self.first_not_finite)
        self.first_not_finite += [start + int(i) for i in np.flatnonzero(bad)[:room]]
        self.unconverged += int((gap > self.tol).sum())
        if not bad.all():
            self.largest_gap = max(self.largest_gap, float(np.nanmax(gap)))

    def stored(self) -> dict[str, Any]:
        """Returns the part of the summary that the output stores. It is the same for every run of a job."""
        return {k: v for k, v in asdict(self).items() if k not in ("output", "solved", "seconds")}

    def __str__(self) -> str:
        density = f", {self.nonzeros / self.samples:.3g} per sample" if self.samples else ""
        speed = ""
        if self.solved and self.seconds > 0:
            speed = f"; {self.solved / self.seconds:.0f} problems/s over {self.seconds:.1f} s"
        lines = [
            f"{self.output}: codes of {self.samples} samples, {self.columns} columns, "
            f"{self.nonzeros} nonzeros{density}{speed}"
        ]
        if self.not_finite:
            more = ", …" if self.not_finite > len(self.first_not_finite) else ""
            lines.append(
                f"{self.not_finite} of {self.samples} samples have no codes because of NaN or infinity: "
                f"row{'s' if self.not_finite > 1 else ''} {', '.join(map(str, self.first_not_finite))}{more}"
            )
        if self.unconverged:
            lines.append(
                f"{self.unconverged} of {self.samples} samples did not converge: their duality gaps, up to "
                f"{self.largest_gap:.2g}, are above the tolerance {self.tol:g}; raise --max-iter or --tol"
            )
        elif self.samples > self.not_finite:
            which = "all other samples" if self.not_finite else "all samples"
            lines.append(f"{which} converged, with duality gaps of at most {self.largest_gap:.2g} of ½‖y‖²")
        return "\n".join(lines)


def of_stored(output: Path, stored: object) -> Summary | None:
    """Returns the summary that an output stores, or None if the stored value is not a summary."""
    usual = Summary(output, 0, 0, 0.0).stored()
    if not isinstance(stored, dict) or any(type(stored.get(name)) is not type(value) for name, value in usual.items()):
        return None
    counts = [value for value in stored.values() if type(value) is int] + stored["first_not_finite"]
    if not all(map(is_size, counts)):
        return None
    return Summary(output=output, **{name: stored[name] for name in usual})
