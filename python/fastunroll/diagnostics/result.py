"""What a diagnosis found, to be read as text, as a figure, or as data."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..table import Table
from .decomposition import Decomposition
from .figure import draw
from .findings import findings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Report:
    """The layers of an unrolled network, as :func:`fastunroll.diagnostics.report` found them. ``print`` it.

    Attributes:
        model: the name of its class.
        samples: how many were looked at.
        layers: a table of a row for each layer k = 1, …, K: its parameters, then what was measured.
        parameters: which of its columns are parameters.
        decomposition: how the error comes about; None where no reference solution or no ideal step was known.
        remarks: what was left out, and what is to be known about the numbers.
    """

    model: str
    samples: int
    layers: Table
    parameters: tuple[str, ...]
    decomposition: Decomposition | None
    remarks: tuple[str, ...]

    @property
    def title(self) -> str:
        """The network and the number of samples."""
        layers, samples = len(self.layers), self.samples
        return f"{self.model}: {layers} layer{'s' * (layers > 1)}, {samples} sample{'s' * (samples > 1)}"

    @property
    def findings(self) -> list[str]:
        """What a person should see first: a few sentences."""
        return findings(self.layers, self.parameters, self.decomposition)

    def __str__(self) -> str:
        parts = [self.title, str(self.layers)]
        if self.decomposition is not None:
            d = self.decomposition
            solution = "x_true" if d.reference == "x_true" else "the Lasso solution"
            parts += [
                f"‖x_k − x*‖ ≤ ρᵏ‖x_0 − x*‖ + Σ_j ρᵏ⁻ʲ ε_j against the ideal step, with x* {solution}, "
                f"‖x_0 − x*‖ = {d.start_error:.4g}, ρ = {d.rho:.4g}:",
                str(d.layers),
            ]
        return "\n\n".join([*parts, "\n".join((*self.findings, *self.remarks))])

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data for JSON; None where a number is undefined or infinite."""
        data: dict[str, Any] = _plain({**asdict(self), "findings": self.findings})
        return data

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """A figure of it all, layer by layer, written to ``path`` if there is one.

        Raises:
            ImportError: matplotlib is not installed.
        """
        figure = draw(self)
        if path is not None:
            figure.savefig(path, dpi=110)
        return figure


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
