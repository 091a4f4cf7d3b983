"""Draws a report as a figure with one panel for each measure, over the layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..table import Table
from .decomposition import Decomposition

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .result import Report


class _Panel(NamedTuple):
    title: str
    lines: Mapping[str, str | None]  # columns of the table, with their labels in the legend
    logarithmic: bool = False
    scale: float = 1.0


_MEASURES = (
    _Panel("error, NMSE in dB", {"nmse_db": "pooled", "mean_db": "mean of samples"}),
    _Panel("KKT residual", {"kkt_residual": None}, logarithmic=True),
    _Panel("Lasso objective", {"objective": None}, logarithmic=True),
    _Panel("density, %", {"density": None}, scale=100.0),
    _Panel("update, ‖x_k − x_{k−1}‖ / ‖x_k‖", {"update": None}, logarithmic=True),
)
# Ratios of the largest to the smallest value: above the first the axis is logarithmic, above the second its ticks are
# powers of ten alone.
_LOGARITHMIC_ABOVE, _ONLY_POWERS_ABOVE = 3.0, 300.0
_MAX_DRAWN = 1e280  # the margin of a logarithmic axis overflows for larger values
_NOT_DRAWN = "support_size"  # this parameter is a count, and does not fit on the axis of steps and thresholds
_DECOMPOSITION: dict[str, tuple[str, dict[str, Any]]] = {
    "error": ("network", {"color": "C0", "linewidth": 2.5, "marker": "o", "markersize": 4}),
    "ideal_error": ("ideal algorithm", {"color": "0.35", "linewidth": 1.5}),
    "bound": ("bound for the network", {"color": "C3"}),
    "own_bound": ("bound with each layer's rate", {"color": "C3", "linestyle": "--"}),
    "start": ("bound's first term, ρᵏ‖x_0 − x*‖", {"color": "C1", "linestyle": ":"}),
    "accumulated": ("bound's sum of deviations", {"color": "C2", "linestyle": ":"}),
}


def figure_class() -> type[Figure]:
    """Returns the figure class of Matplotlib, which needs no global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("figures need matplotlib, which is not installed: pip install matplotlib") from error
    return Figure


def draw(report: Report) -> Figure:
    """Draws the panels that the report has numbers for, at most three in a row, and the decomposition below them."""
    panels = [p for p in _MEASURES if set(p.lines) <= set(report.layers.columns)]
    learned = {name: name for name in report.parameters if name != _NOT_DRAWN}
    if learned:
        values = [row[name] for row in report.layers for name in learned]
        panels.append(_Panel("parameters", learned, logarithmic=min(values) > 0))
    rows = _in_rows(panels)
    below = report.decomposition is not None
    page = figure_class()(figsize=(13, 3 * len(rows) + 3.6 * below + 0.4), layout="constrained")
    grid = page.add_gridspec(len(rows) + below, 12)
    for r, row in enumerate(rows):
        width = 12 // len(row)
        for place, panel in enumerate(row):
            _panel(page.add_subplot(grid[r, place * width : (place + 1) * width]), panel, report.layers)
    if report.decomposition is not None:
        _decomposition(page.add_subplot(grid[len(rows), :9]), report.decomposition)
    page.suptitle(report.title)
    return page


def _in_rows(panels: Sequence[_Panel]) -> list[Sequence[_Panel]]:
    """Splits panels into rows of similar length with at most three panels. Four panels become 2 + 2, five 3 + 2."""
    rows = math.ceil(len(panels) / 3)
    width = math.ceil(len(panels) / rows)
    return [panels[r * width : (r + 1) * width] for r in range(rows)]


def _panel(axes: Any, panel: _Panel, layers: Table) -> None:
    places = [row["layer"] for row in layers]
    for name, label in panel.lines.items():
        values = [panel.scale * v for v in _drawable([row[name] for row in layers])]
        axes.plot(places, values, marker="o", markersize=3, label=label)
    _finish(axes, panel.title, panel.logarithmic)
    if any(panel.lines.values()):
        axes.legend(fontsize=8)


def _decomposition(axes: Any, d: Decomposition) -> None:
    """Draws the distances to the reference solution, from x_0 on, with their bounds."""
    lines = {name: _drawable([d.start_error, *(row[name] for row in d.layers)]) for name in _DECOMPOSITION}
    lines["accumulated"][0] = 0.0
    # Values far below all errors are not drawn, because they would compress the rest of the figure.
    least = min((v for name in ("error", "ideal_error") for v in lines[name] if v > 0), default=0.0)
    for name, (label, style) in _DECOMPOSITION.items():
        values = [v if v >= 0.3 * least else math.nan for v in lines[name]]
        axes.plot(range(len(values)), values, label=label, **style)
    reference = "the truth" if d.reference == "x_true" else "the Lasso solution"
    _finish(axes, f"distance of the batch to {reference}, ‖x_k − x*‖, and its bound with ρ = {d.rho:.3g}", True)
    # The legend stands in an empty part of the grid, so the layout does not need to reserve space for it.
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5)).set_in_layout(False)


def _finish(axes: Any, title: str, logarithmic: bool) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    positive = [v for line in axes.lines for v in line.get_ydata() if v > 0]
    if logarithmic and positive and max(positive) > _LOGARITHMIC_ABOVE * min(positive):
        axes.set_yscale("log", nonpositive="mask")
        if max(positive) < _ONLY_POWERS_ABOVE * min(positive):
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("layer")
    axes.grid(alpha=0.3)


def _drawable(values: Sequence[float | None]) -> list[float]:
    """Replaces undefined and very large values by NaN, which leaves a gap in the line."""
    return [math.nan if v is None or abs(v) > _MAX_DRAWN else v for v in values]
