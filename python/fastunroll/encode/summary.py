"""What is said of a finished job."""

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
    """What was found, and in how long.

    Attributes:
        output: the file, or the folder of shards.
        samples: N.
        columns: n.
        nonzeros: of all codes together.
        unconverged: samples whose duality gap is above the tolerance, those without codes left out.
        largest_gap: over samples with codes.
        tol: the tolerance.
        not_finite: samples that hold NaN or infinity, or whose codes would, which have none.
        first_not_finite: the first of them, by their rows.
        solved: samples that this call has waited for, rather than found done.
        seconds: that it took for them.
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
        """Counts samples from ``start`` on."""
        bad = np.isnan(gap)
        self.nonzeros += nonzeros
        self.not_finite += int(bad.sum())
        room = SHOWN_ROWS - len(self.first_not_finite)
        self.first_not_finite += [start + int(i) for i in np.flatnonzero(bad)[:room]]
        self.unconverged += int((gap > self.tol).sum())
        if not bad.all():
            self.largest_gap = max(self.largest_gap, float(np.nanmax(gap)))

    def stored(self) -> dict[str, Any]:
        """What is kept with the codes: the same for each run of the same job."""
        return {k: v for k, v in asdict(self).items() if k not in ("output", "solved", "seconds")}

    def __str__(self) -> str:
        density = f", {self.nonzeros / self.samples:.3g} a sample" if self.samples else ""
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
                f"{self.not_finite} of {self.samples} samples hold NaN or infinity, or their codes would, and have "
                f"none: row{'s' if self.not_finite > 1 else ''} {', '.join(map(str, self.first_not_finite))}{more}"
            )
        if self.unconverged:
            lines.append(
                f"{self.unconverged} of {self.samples} samples did not converge: their duality gaps, up to "
                f"{self.largest_gap:.2g}, are above the tolerance {self.tol:g}; raise --max-iter or --tol"
            )
        elif self.samples > self.not_finite:
            which = "all others" if self.not_finite else "all"
            lines.append(f"{which} converged: duality gaps are at most {self.largest_gap:.2g} of ½‖y‖²")
        return "\n".join(lines)


def of_stored(output: Path, stored: object) -> Summary | None:
    """The summary kept with the codes; None if it is not one."""
    usual = Summary(output, 0, 0, 0.0).stored()
    if not isinstance(stored, dict) or any(type(stored.get(name)) is not type(value) for name, value in usual.items()):
        return None
    counts = [value for value in stored.values() if type(value) is int] + stored["first_not_finite"]
    if not all(map(is_size, counts)):
        return None
    return Summary(output=output, **{name: stored[name] for name in usual})
