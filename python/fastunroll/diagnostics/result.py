"""The report of a diagnosis, which can be read as text, as a figure or as data."""

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
    """The result of :func:`fastunroll.diagnostics.report`. ``print`` shows it as text.

    Attributes:
        model: the name of the class of the network.
        samples: the number of samples in the batch.
        layers: a table with one row for each layer k = 1, …, K: first its parameters, then its measures.
        parameters: the columns of the table that are parameters.
        decomposition: the decomposition of the error; None if no reference solution or no ideal step is known.
        remarks: sentences on missing inputs and on the precision of the numbers.
    """

    model: str
    samples: int
    layers: Table
    parameters: tuple[str, ...]
    decomposition: Decomposition | None
    remarks: tuple[str, ...]

    @property
    def title(self) -> str:
        """The name of the network, its number of layers and the number of samples."""
        layers, samples = len(self.layers), self.samples
        return f"{self.model}: {layers} layer{'s' * (layers > 1)}, {samples} sample{'s' * (samples > 1)}"

    @property
    def findings(self) -> list[str]:
        """A few sentences that summarise the numbers."""
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
        """Returns the report as plain data for JSON. Undefined and infinite numbers are None."""
        data: dict[str, Any] = _plain({**asdict(self), "findings": self.findings})
        return data

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draws the report layer by layer, saves the figure to ``path`` if it is given, and returns the figure.

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
