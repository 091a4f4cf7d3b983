"""Answers each target of the CPU engine from the JSON files of the benchmarks: what was measured, met or missed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import DISTURBED, NO_USAGE
from text import digits, label, row

BASELINE = "eager sign·relu"
BEST = "best of all rivals"
MEDIUM = {"m": 250, "n": 500}
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Target:
    """A target: in the cases that fulfil ``where``, a rival takes ``at_least`` times our time or memory."""

    benchmark: str
    where: Mapping[str, Any]
    rival: str
    at_least: float


def _pair(benchmark: str, where: Mapping[str, Any], baseline: float, best: float) -> list[Target]:
    return [Target(benchmark, where, BASELINE, baseline), Target(benchmark, where, BEST, best)]


def _targets() -> Iterator[Target]:
    trained: list[tuple[str, str, int, float, float]] = [
        ("lista_forward", "tied", 1, 22, 9),
        ("lista_forward", "tied", 64, 10, 5),
        ("lista_forward", "tied", 1024, 9, 4),
        ("lista_forward", "untied", 1, 16, 7),
        ("lista_forward", "untied", 64, 5, 2.5),
        ("lista_forward", "untied", 1024, 4.5, 2.2),
        ("lista_training", "tied", 64, 7, 3.5),
        ("lista_training", "tied", 1024, 7, 3.5),
        ("lista_training", "untied", 1, 1.5, 1.2),
        ("lista_training", "untied", 64, 3, 1.8),
        ("lista_training", "untied", 1024, 4.5, 2.3),
    ]
    for benchmark, matrices, batch, baseline, best in trained:
        yield from _pair(benchmark, {**MEDIUM, "matrices": matrices, "weights": "trained", "B": batch}, baseline, best)
    for matrices in ("tied", "untied"):
        yield Target("lista_memory", {**MEDIUM, "matrices": matrices, "weights": "trained", "B": 8192}, BASELINE, 3)
    both = [(b, m) for b in ("lista_forward", "lista_training") for m in ("tied", "untied")]
    for benchmark, matrices in both:
        yield from _pair(benchmark, {**MEDIUM, "matrices": matrices, "weights": "ista-0.1"}, 2.8, 1.2)
    for benchmark, matrices in both:
        yield from _pair(benchmark, {"matrices": matrices, "weights": "dense"}, 2.2, 1)


def _ratio(record: Mapping[str, Any], rival: str) -> float | None:
    if "ratios" not in record:
        return None
    quartiles = record["best"]["ratio"] if rival == BEST else record["ratios"].get(rival)
    return None if quartiles is None else float(quartiles["median"])


def _answer(target: Target, result: Mapping[str, Any] | None) -> list[str]:
    found = [r for r in (result or {"cases": []})["cases"] if target.where.items() <= r["case"].items()]
    ratios = [(ratio, r["case"]) for r in found if (ratio := _ratio(r, target.rival)) is not None]
    what = [target.benchmark.replace("_", " "), label(target.where), f"{target.rival} / ours"]
    if len(ratios) < len(found) or not found:
        return [*what, f"{target.at_least:g}", "–", "", "a case failed" if found else "not measured"]
    least, case = min(ratios, key=lambda pair: pair[0])
    where = label({k: v for k, v in case.items() if k not in target.where})
    verdict = "met" if least >= target.at_least else "**missed**"
    if any(r.get("others", 0) > DISTURBED for r in found):
        verdict = "disturbed"
    return [*what, f"{target.at_least:g}", digits(least), where, verdict]


def markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [_answer(t, results.get(t.benchmark)) for t in _targets()]
    counts = {
        v: sum(cells[-1] == v for cells in rows)
        for v in ("met", "**missed**", "disturbed", "a case failed", "not measured")
    }
    head = ["benchmark", "cases", "ratio of medians", "at least", "measured", "where", ""]
    return (
        "\n\n".join(
            [
                "# Targets of the CPU engine",
                "\n".join(
                    f"- {name}: {r['date']}, {r['machine']['cpu']}, {r['threads']} thread(s), {r['kind']} run"
                    for name, r in results.items()
                ),
                ", ".join(f"{count} {verdict.strip('*')}" for verdict, count in counts.items() if count)
                + ". Where a target names several cases, the smallest ratio of all and its case stand here.",
                "\n".join([row(head), row(["---"] * 3 + ["---:"] * 2 + ["---"] * 2), *map(row, rows)]),
            ]
        )
        + "\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, usage=NO_USAGE)
    parser.add_argument("--kind", choices=("full", "quick", "partial"), default="full", help="of the runs to read")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where they are: bench/results")
    options = parser.parse_args()
    prefix = "" if options.kind == "full" else f"{options.kind}-"
    results: dict[str, Mapping[str, Any]] = {}
    for name in dict.fromkeys(target.benchmark for target in _targets()):
        path = options.out / f"{prefix}{name}.json"
        if not path.exists():
            continue
        try:
            results[name] = json.loads(path.read_text())
            markdown(results)
        except (OSError, ValueError, KeyError, TypeError) as error:
            parser.error(f"{path} is not the result of a benchmark: {type(error).__name__}: {error}")
    page = options.out / f"{prefix}targets.md"
    try:
        page.write_text(markdown(results))
    except OSError as error:
        parser.error(f"cannot write {page}: {error.strerror}")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
