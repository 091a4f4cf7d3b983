"""Draws the ratios in the JSON file of a benchmark."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from text import label

MARKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
BEST = "best rival"


def _lines(record: Mapping[str, Any], baseline: str) -> dict[str, Mapping[str, float]]:
    lines = {BEST: record["best"]["ratio"]}
    if baseline in record["ratios"]:
        lines[baseline] = record["ratios"][baseline]
    return lines


def plot(result: Mapping[str, Any], path: Path) -> None:
    """The ratios to the best rival (solid) and to the baseline (dashed) over one field of the cases.

    A panel for each value of other fields, a colour for what remains.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    x, panel_fields, baseline = result["plot"]["x"], result["plot"]["panels"], result["baseline"]
    plotted = result["plot"].get("plotted", {})
    timed = [r for r in result["cases"] if "ratios" in r and all(r["case"][f] in plotted[f] for f in plotted)]
    hidden = [x, *panel_fields, *(f for f, values in plotted.items() if len(values) == 1)]
    ticks = sorted({r["case"][x] for r in timed})
    panels: dict[str, dict[tuple[str, str], list[tuple[int, Mapping[str, float]]]]] = {}
    for record in timed:
        case = record["case"]
        lines = panels.setdefault(label({f: case[f] for f in panel_fields}), {})
        rest = ", ".join(f"{f}={v}" if isinstance(v, int) else str(v) for f, v in case.items() if f not in hidden)
        for rival, ratio in _lines(record, baseline).items():
            lines.setdefault((rest, rival), []).append((ticks.index(case[x]), ratio))
    kinds = list(dict.fromkeys(rest for lines in panels.values() for rest, _ in lines))
    styles: dict[str, Literal["-", "--"]] = {BEST: "-", baseline: "--"}

    columns = min(max(len(panels), 1), 2)
    rows = max(math.ceil(len(panels) / columns), 1)
    figure, axes = plt.subplots(
        rows, columns, figsize=(5.5 * columns, 3.2 * rows + 1.2), sharey=True, squeeze=False, layout="constrained"
    )
    ends = [r[q] for lines in panels.values() for points in lines.values() for _, r in points for q in ("q1", "q3")]
    low, high = min([0.8, *ends]) / 1.15, max([1.25, *ends]) * 1.15
    for axis, (title, lines) in zip(axes.flat, panels.items(), strict=False):
        axis.axhspan(low, 1, color="tab:red", alpha=0.1)
        axis.axhline(1, color="tab:red", linewidth=1)
        for (kind, rival), points in lines.items():
            at, ratios = zip(*points, strict=True)
            median, q1, q3 = ([r[q] for r in ratios] for q in ("median", "q1", "q3"))
            color = f"C{kinds.index(kind)}"
            axis.fill_between(at, q1, q3, color=color, alpha=0.15, linewidth=0)
            axis.plot(at, median, styles[rival], marker="o", markersize=4, color=color)
        axis.set(title=title, xlabel=x, yscale="log", ylim=(low, high), xlim=(-0.3, len(ticks) - 0.7))
        axis.set_xticks(range(len(ticks)), [str(t) for t in ticks])
        axis.yaxis.set_major_locator(FixedLocator([t for t in MARKS if low <= t <= high]))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("rival / ours")
    where = f"{result['machine']['cpu']}, {result['threads']} thread(s)"
    figure.suptitle(f"{result['question']}\n{where}; red: ours loses")
    handles = [Line2D([], [], color=f"C{i}", marker="o", label=kind or "ours") for i, kind in enumerate(kinds)]
    handles += [Line2D([], [], color="black", linestyle=s, label=f"against {name}") for name, s in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    figure.savefig(path, dpi=110)
    plt.close(figure)
