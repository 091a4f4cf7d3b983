"""Turns the JSON file of a benchmark into a table and a plot beside it."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NO_USAGE = argparse.SUPPRESS  # so that a bad flag is answered with one line


def label(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in fields.items())


def _digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _range(quartiles: Mapping[str, float], scale: float = 1.0) -> str:
    median, q1, q3 = (_digits(scale * quartiles[q]) for q in ("median", "q1", "q3"))
    return f"{median} [{q1}–{q3}]"


def _ratio(quartiles: Mapping[str, float]) -> str:
    return ("▼ " if quartiles["median"] < 1 else "") + _range(quartiles)


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in cells) + " |"


def _contestants(timed: Sequence[Mapping[str, Any]]) -> list[str]:
    """In order of appearance, ours first; not every rival takes part in every case."""
    return list(dict.fromkeys(name for record in timed for name in record["times"]))


def _row(record: Mapping[str, Any], fields: Sequence[str], figures: Sequence[str], names: Sequence[str]) -> list[str]:
    times, ratios, gflops = record["times"], record["ratios"], record.get("gflops", {})
    row = [str(record["case"].get(f, "–")) for f in fields]
    row += [_digits(record["figures"][f]) if f in record["figures"] else "–" for f in figures]
    row += [_range(times[names[0]], 1e3)]
    row += [_digits(1e3 * times[r]["median"]) if r in times else "–" for r in names[1:]]
    row += [_ratio(ratios[r]) if r in ratios else "–" for r in names[1:]]
    return row + [_digits(gflops[n]) if n in gflops else "–" for n in names]


def table(result: Mapping[str, Any]) -> str:
    """A row a case; failed cases come after it, in full."""
    timed = [r for r in result["cases"] if "times" in r]
    if not timed:
        return ""
    names = _contestants(timed)
    fields = list(dict.fromkeys(f for r in timed for f in r["case"]))
    figures = list(dict.fromkeys(f for r in timed for f in r["figures"]))
    head = [*fields, *figures, f"{names[0]}, ms", *(f"{r}, ms" for r in names[1:])]
    head += [*(f"{r} / {names[0]}" for r in names[1:]), *(f"{n}, GFLOP/s" for n in names)]
    rows = [_row(r, fields, figures, names) for r in timed]
    # GFLOP/s only where flops are known.
    kept = [i for i in range(len(head)) if any(row[i] != "–" for row in rows)]
    lines = [head, ["---" if f < len(fields) else "---:" for f in range(len(head))], *rows]
    return "\n".join(_line([line[i] for i in kept]) for line in lines)


def _summary(result: Mapping[str, Any]) -> list[str]:
    timed = [r for r in result["cases"] if "times" in r]
    lines = []
    for rival in _contestants(timed)[1:]:
        ratios = [r["ratios"][rival]["median"] for r in timed if rival in r["ratios"]]
        wins = sum(r >= 1 for r in ratios)
        spread = f"{_digits(min(ratios))} to {_digits(max(ratios))}"
        lines.append(f"- against {rival}: faster in {wins} of {len(ratios)} cases, ratio {spread}")
    return lines


def markdown(result: Mapping[str, Any], plot_name: str) -> str:
    machine, versions = result["machine"], result["versions"]
    lines = [
        f"# {result['name']}" + (" (quick: a smoke test, not a record)" if result["quick"] else ""),
        result["question"],
        "\n".join(
            [
                f"- {result['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['system']}",
                f"- {result['threads']} thread(s) for every contestant; {result['backend']}",
                f"- {', '.join(f'{k} {v}' for k, v in versions.items())}; BLAS: {result['blas']}",
                f"- seed {result['seed']}; relative error of every timed result: at most {result['tolerance']:.0g}",
                *_summary(result),
            ]
        ),
        f"![ratio of times]({plot_name})",
        "Median [quartiles] of alternating runs. A ratio is a rival's time over ours in the same turn: above 1 ours "
        "is faster, ▼ marks a loss. GFLOP/s are effective: operations of the dense computation over time.",
        table(result),
    ]
    failures = [f"- {label(r['case'])}: {r['failure']}" for r in result["cases"] if "failure" in r]
    if failures:
        lines += ["## Failed, not timed", "\n".join(failures)]
    return "\n\n".join(line for line in lines if line) + "\n"


def plot(result: Mapping[str, Any], path: Path) -> None:
    """The ratios over one field of the cases, a panel for each value of others, a line for what remains."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    x, panel_fields = result["plot"]["x"], result["plot"]["panels"]
    timed = [r for r in result["cases"] if r.get("ratios")]
    ticks = list(dict.fromkeys(r["case"][x] for r in timed))
    panels: dict[str, dict[str, list[tuple[int, Mapping[str, float]]]]] = {}
    for record in timed:
        case = record["case"]
        lines = panels.setdefault(label({f: case[f] for f in panel_fields}), {})
        rest = label({f: v for f, v in case.items() if f != x and f not in panel_fields})
        for rival, ratio in record["ratios"].items():
            lines.setdefault(", ".join(filter(None, (rival, rest))), []).append((ticks.index(case[x]), ratio))
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))

    columns = min(max(len(panels), 1), 2)
    rows = max(math.ceil(len(panels) / columns), 1)
    figure, axes = plt.subplots(
        rows, columns, figsize=(5 * columns, 3 * rows + 1), sharey=True, squeeze=False, layout="constrained"
    )
    ends = [ratio[q] for record in timed for ratio in record["ratios"].values() for q in ("q1", "q3")]
    low, high = min([0.8, *ends]) / 1.15, max([1.25, *ends]) * 1.15
    for axis, (title, lines) in zip(axes.flat, panels.items(), strict=False):
        axis.axhspan(low, 1, color="tab:red", alpha=0.1)
        axis.axhline(1, color="tab:red", linewidth=1)
        for name, points in lines.items():
            at, ratios = zip(*points, strict=True)
            median, q1, q3 = ([r[q] for r in ratios] for q in ("median", "q1", "q3"))
            color = f"C{names.index(name)}"
            axis.fill_between(at, q1, q3, color=color, alpha=0.2)
            axis.plot(at, median, marker="o", markersize=4, color=color, label=name)
        axis.set(title=title, xlabel=x, yscale="log", ylim=(low, high), xlim=(-0.3, len(ticks) - 0.7))
        axis.set_xticks(range(len(ticks)), [str(t) for t in ticks])
        marks = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
        axis.yaxis.set_major_locator(FixedLocator([t for t in marks if low <= t <= high]))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("rival / ours")
    handles = {h.get_label(): h for axis in axes.flat for h in axis.get_legend_handles_labels()[0]}
    where = f"{result['machine']['cpu']}, {result['threads']} thread(s)"
    figure.suptitle(f"{result['question']}\n{where}; red: ours loses")
    if handles:
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def write(path: Path, result: Mapping[str, Any]) -> tuple[Path, Path]:
    """Writes the table and the plot of the JSON file at ``path`` beside it."""
    page, picture = path.with_suffix(".md"), path.with_suffix(".png")
    page.write_text(markdown(result, picture.name))
    plot(result, picture)
    return page, picture


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, usage=NO_USAGE)
    parser.add_argument("results", type=Path, nargs="+", metavar="JSON", help="files that a benchmark wrote")
    for path in parser.parse_args().results:
        try:
            written = write(path, json.loads(path.read_text()))
        except OSError as error:
            parser.error(f"{path}: {error.strerror or error}")
        except (ValueError, KeyError, TypeError) as error:
            parser.error(f"{path} is not the result of a benchmark: {type(error).__name__}: {error}")
        print("\n".join(map(str, written)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
