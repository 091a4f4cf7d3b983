"""The page and the figure of a reproduction, which depend on its stored results alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..table import Table
from .published import PUBLISHED
from .settings import SETTINGS

Result = Mapping[str, Any]


def _last(result: Result, definition: str, part: str = "layers") -> float | None:
    return round(result[part][definition][-1], 2) if part in result else None


def _published(result: Result) -> str | None:
    found = PUBLISHED.get((result["name"], result["setting"]))
    return None if found is None else f"{found.value:g} ({found.source})"


def _row(result: Result, several_seeds: bool) -> dict[str, Any]:
    m, n = result["size"]
    trained = "step_ms" in result
    seed = {"seed of A": result["seed"]} if several_seeds else {}
    return {
        "network": result["name"], "m×n": f"{m}×{n}", **seed,
        "untrained, pooled": _last(result, "pooled", "untrained"), "pooled": _last(result, "pooled"),
        "per sample": _last(result, "per_sample"), "published": _published(result),
        "parameters": result.get("parameters"), "seconds": round(result["seconds"], 1),
        "ms a step": round(result["step_ms"], 1) if trained else None,
        "eager PyTorch": f"{result['eager_step_ms'] / result['step_ms']:.1f}×" if trained else None,
    }  # fmt: skip


def page(results: Sequence[Result], machine: Mapping[str, Any]) -> str:
    """Returns the page of a reproduction in Markdown."""
    seeds = sorted({r["seed"] for r in results})
    shares = sorted({r["steps"] for r in results})
    minutes = sum(r["seconds"] for r in results) / 60
    lines = [
        "# Reproduction",
        "",
        "NMSE in dB of the last of 16 layers (unless a name says otherwise) on "
        f"{results[0]['tests']} fresh samples, x with 10 % nonzeros N(0, 1). *Pooled* is 10·log₁₀(Σ‖x̂ − x‖²/Σ‖x‖²); "
        "*per sample* the mean of the samples' own dB. They differ by up to 20 dB, and not every source says which of "
        "them it publishes; setting and matrix of a published figure may differ a little too.",
        "",
        f"- {machine['processor']}, {machine['threads']} threads; Python {machine['python']}, "
        f"torch {machine['torch']}, fastunroll {machine['fastunroll']}",
        f"- seeds of A: {', '.join(map(str, seeds))}; {minutes:.0f} minutes of training and testing in all",
        "- *ms a step*: a training step of 128 samples and all layers, forward and backward; *eager PyTorch*: how many "
        "times longer plain PyTorch takes for the same",
    ]
    if shares != [1.0]:
        lines.append(f"- quick: {', '.join(f'{share:.0%}' for share in shares)} of the steps; not a record")
    for setting in dict.fromkeys(r["setting"] for r in results):
        rows = [_row(r, len(seeds) > 1) for r in results if r["setting"] == setting]
        lines += ["", f"## {SETTINGS[setting].title}", "", Table(rows).markdown()]
    return "\n".join(lines) + "\n"


def plot(results: Sequence[Result], path: Path) -> None:
    """Draws the pooled NMSE of every layer of every network for the first seed, with one panel for each setting."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    seed = results[0]["seed"]
    settings = list(dict.fromkeys(r["setting"] for r in results))
    names = list(dict.fromkeys(r["name"] for r in results if len(r["layers"]["pooled"]) > 1))
    colors = dict(zip(names, (colormaps["tab20"](i % 20) for i in range(len(names))), strict=True))
    columns = min(2, len(settings))
    rows = -(-len(settings) // columns)
    figure = Figure(figsize=(5.2 * columns + 2.2, 4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axes in panels[len(settings) :]:
        axes.set_axis_off()
    for axes, setting in zip(panels, settings, strict=False):
        lowest = 0.0
        for r in results:
            curve = r["layers"]["pooled"]
            if (r["setting"], r["seed"]) != (setting, seed) or len(curve) < 2:
                continue
            lowest = min(lowest, *curve)
            classical = "step_ms" not in r
            axes.plot(
                range(1, len(curve) + 1), curve, "--" if classical else "-", color=colors[r["name"]], label=r["name"]
            )
        axes.set(title=SETTINGS[setting].title, xlabel="layer", ylabel="NMSE, dB (pooled)", ylim=(1.04 * lowest, 2))
        axes.grid(color="0.93")
    handles = {label: h for axes in panels for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)
