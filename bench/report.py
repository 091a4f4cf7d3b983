"""Turns the JSON file of a benchmark into a page of tables and a plot beside it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from plot import plot
from text import LOAD_BOUND, digits, label, median, quartiles, ratio, table

DISTURBED = 0.05  # the page marks a case if other programs took at least this share of the processors
RESULTS = Path(__file__).parent / "results"
NO_USAGE = argparse.SUPPRESS  # a wrong option then gives an error of one line
KINDS = {"quick": " (quick: a smoke test, not a record)", "partial": " (some cases, not a record)", "full": ""}
CHECKED = (
    "Median and largest; ✗ how many samples are above the tolerance, of how many looked at, as slow contestants get "
    "only a part. ✗✗ marks who does not reach it by the median, and so cannot be the best rival."
)
Record = Mapping[str, Any]
Column = tuple[str, Callable[[Record], str]]  # head, and what stands in the row of a case


def _contestants(timed: Sequence[Record]) -> list[str]:
    """Returns the contestants of all cases in order of appearance, with fastunroll first."""
    return list(dict.fromkeys(name for record in timed for name in record["measured"]))


def figure(part: str, name: str, show: Callable[[Any], str]) -> Callable[[Record], str]:
    """Returns the function that reads a cell from the record of a case, with a dash for a missing value."""
    return lambda record: show(record[part][name]) if name in record.get(part, {}) else "–"


def _error_text(found: Mapping[str, float]) -> str:
    missed = f", ✗ {found['missed']:.0f} of {found['of']:.0f}" if found["missed"] else ""
    return ("" if found["reached"] else "✗✗ ") + f"{found['median']:.1e}, {found['largest']:.1e}" + missed


def _share(record: Record, bound: float | None) -> str:
    """Returns the share of the peak performance, which a case may set as its bound."""
    bound = record["figures"].get("bound", bound)
    return f"{record['true_gflops'] / bound:.0%}" if bound and "true_gflops" in record else "–"


def _table(timed: Sequence[Record], columns: Sequence[Column]) -> str:
    """Returns a table with a row for each case. It leaves out empty columns."""
    fields = list(dict.fromkeys(f for r in timed for f in r["case"]))
    head = [*fields, *(name for name, _ in columns)]
    rows = [[*(str(r["case"].get(f, "–")) for f in fields), *(show(r) for _, show in columns)] for r in timed]
    kept = [i for i in range(len(head)) if any(cells[i] != "–" for cells in rows)]
    head, *rows = ([cells[i] for i in kept] for cells in (head, *rows))
    return table(head, len(fields), rows)


def _tables(result: Mapping[str, Any], timed: Sequence[Record]) -> list[str]:
    names = _contestants(timed)
    ours, rivals, baseline = names[0], names[1:], result["baseline"]
    unit, scale = result["unit"]["name"], result["unit"]["scale"]
    figures = list(dict.fromkeys(f for r in timed for f in r["figures"]))
    bound = result["roof"].get(LOAD_BOUND)
    first = [(f, figure("figures", f, digits)) for f in figures]
    best: list[Column] = [
        *first,
        (f"{ours}, {unit}", figure("measured", ours, lambda q: quartiles(q, scale))),
        (f"{baseline} / {ours}", figure("ratios", baseline, lambda q: ratio(q, median))),
        ("best rival", lambda r: str(r["best"]["rival"])),
        (f"best / {ours}", lambda r: ratio(r["best"]["ratio"])),
        ("GFLOP/s, dense", figure("gflops", ours, digits)),
        ("GFLOP/s, true", lambda r: digits(r["true_gflops"]) if "true_gflops" in r else "–"),
        ("true, of the bound", lambda r: _share(r, bound)),
        ("best rival, GFLOP/s", lambda r: digits(r["gflops"][r["best"]["rival"]]) if "gflops" in r else "–"),
    ]
    lines = [f"## Against {baseline} and the best of all rivals", _table(timed, best)]
    ratios: list[Column] = [(f"{r} / {ours}", figure("ratios", r, ratio)) for r in rivals]
    lines += ["## Against each rival", _table(timed, ratios)]
    medians: list[Column] = [(n, figure("measured", n, lambda q: digits(scale * q["median"]))) for n in names]
    lines += [f"## {unit}", _table(timed, medians)]
    if any("checked" in r for r in timed):
        checked: list[Column] = [(n, figure("checked", n, _error_text)) for n in names]
        lines += [f"## {result['checked']}", CHECKED, _table(timed, checked)]
    if any("gflops" in r for r in timed):
        lines += [
            "## GFLOP/s of the dense computation",
            _table(timed, [(n, figure("gflops", n, digits)) for n in names]),
        ]
    if any(r["notes"] for r in timed):
        lines += ["## Notes", _table(timed, [(n, figure("notes", n, str)) for n in names])]
    return lines


def _wins(name: str, ratios: Sequence[float]) -> str:
    wins = sum(r >= 1 for r in ratios)
    spread = f"{digits(min(ratios))} to {digits(max(ratios))}"
    return f"- against {name}: ahead in {wins} of {len(ratios)} cases, ratio {spread}"


def _summary(timed: Sequence[Record]) -> list[str]:
    if not timed:
        return []
    lines = [_wins("the best of all rivals", [r["best"]["ratio"]["median"] for r in timed])]
    for rival in _contestants(timed)[1:]:
        lines.append(_wins(rival, [r["ratios"][rival]["median"] for r in timed if rival in r["ratios"]]))
    return lines


def troubles(cases: Sequence[Record]) -> list[str]:
    """Returns lines on disturbed and failed cases."""
    disturbed = [f"- {label(r['case'])}: {r['others']:.0%}" for r in cases if r.get("others", 0) > DISTURBED]
    failures = [f"- {label(r['case'])}: {r['failure']}" for r in cases if "failure" in r]
    lines = ["## Disturbed: the share of the processors that other programs took", "\n".join(disturbed)]
    return lines * bool(disturbed) + ["## Failed, not timed", "\n".join(failures)] * bool(failures)


def machine_and_versions(result: Mapping[str, Any]) -> tuple[str, str]:
    """Returns a line on the machine and a line on the versions."""
    machine, versions = result["machine"], ", ".join(f"{k} {v}" for k, v in result["versions"].items())
    where = f"- {result['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['system']}"
    return where, f"- {versions}; BLAS: {result['blas']}"


def markdown(result: Mapping[str, Any], plot_name: str) -> str:
    machine, versions = machine_and_versions(result)
    timed = [r for r in result["cases"] if "measured" in r]
    tolerance = result["tolerance"]
    checked = f"; relative error of every timed result: at most {tolerance:.0g}" if tolerance else ""
    lines = [
        f"# {result['name']}" + KINDS[result["kind"]],
        result["question"],
        "\n".join(
            [
                machine,
                f"- {result['threads']} thread(s) for every contestant; {result['backend']}",
                versions,
                f"- seed {result['seed']}, {result['minutes']:.0f} minutes{checked}",
                *(f"- {name}: {digits(value)}" for name, value in result["roof"].items()),
                *(f"- {reason}" for reason in result["left_out"]),
                *_summary(timed),
            ]
        ),
    ]
    if result["plot"] and timed:
        lines.append(f"![ratios]({plot_name})")
    if tolerance:
        lines.append(
            "Median [quartiles] of alternating runs. A ratio is a rival's time over ours in the same turn: above 1 "
            "ours is faster, ▼ marks a loss. The best rival is the one of smallest median. GFLOP/s count operations of "
            "the dense computation; true ones only those W₂ products that a nonzero needs, here also as a share of the "
            "bound above."
        )
    elif result.get("checked"):
        lines.append(
            "Median [quartiles] of alternating runs. A ratio is a rival's time over ours in the same turn: above 1 "
            "ours is faster, ▼ marks a loss. The best rival is the one of smallest median among those that reach the "
            f"tolerance by the median {result['checked']}."
        )
    lines += _tables(result, timed) if timed else []
    return "\n\n".join(lines + troubles(result["cases"])) + "\n"


def write(path: Path, result: Mapping[str, Any]) -> list[Path]:
    """Writes the page, and the plot if there is one, beside the JSON file at ``path``."""
    page, picture = path.with_suffix(".md"), path.with_suffix(".png")
    page.write_text(markdown(result, picture.name))
    if not result["plot"] or not any("ratios" in r for r in result["cases"]):
        return [page]
    plot(result, picture)
    return [page, picture]


def write_targets(description: str | None, benchmark: str, markdown: Callable[[Record], str]) -> int:
    """Writes the page of a benchmark's targets beside its JSON file, as the command line says."""
    parser = argparse.ArgumentParser(description=description, usage=NO_USAGE)
    parser.add_argument("--kind", choices=("full", "quick", "partial"), default="full", help="of the run to read")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where it is: bench/results")
    options = parser.parse_args()
    prefix = "" if options.kind == "full" else f"{options.kind}-"
    path, page = (options.out / f"{prefix}{benchmark}{end}" for end in (".json", "_targets.md"))
    try:
        page.write_text(markdown(json.loads(path.read_text())))
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    except (ValueError, KeyError, TypeError) as error:
        parser.error(f"{path} is not the result of the benchmark: {type(error).__name__}: {error}")
    print(page)
    return 0


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
