"""Answers each target of the CPU engine from the JSON files of the benchmarks: what was measured, met or missed.

The targets depend on the instruction set of fastunroll, which the files name.
"""

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
BENCHMARKS = "lista_forward", "lista_training", "lista_memory"
INSTRUCTION_SETS = "avx512", "avx2"

# Trained networks with 250×500, whose iterates are 12 % full: the least ratios to the baseline and to the best rival
# with AVX-512, and to the baseline with AVX2.
TRAINED: list[tuple[str, str, int, float, float, float]] = [
    ("lista_forward", "tied", 1, 17, 4.5, 7.5),
    ("lista_forward", "tied", 64, 9.5, 3.6, 5.6),
    ("lista_forward", "tied", 1024, 8.8, 3.8, 7),
    ("lista_forward", "untied", 1, 11, 2.7, 4.4),
    ("lista_forward", "untied", 64, 4.7, 2.1, 2.2),
    ("lista_forward", "untied", 1024, 4.5, 2.0, 3.2),
    ("lista_training", "tied", 64, 8.5, 5, 5),
    ("lista_training", "tied", 1024, 9, 6, 6.5),
    ("lista_training", "untied", 1, 1.5, 1.2, 1.4),
    ("lista_training", "untied", 64, 3, 1.4, 2.1),
    ("lista_training", "untied", 1024, 4.3, 2.6, 2.9),
]


@dataclass(frozen=True)
class Target:
    """A target: a rival takes ``at_least`` times our time or memory.

    It holds in the cases that fulfil ``where`` and have ``fewest`` samples or more.
    """

    benchmark: str
    where: Mapping[str, Any]
    rival: str
    at_least: float
    fewest: int = 1

    def holds(self, case: Mapping[str, Any]) -> bool:
        return self.where.items() <= case.items() and case["B"] >= self.fewest

    def cases(self) -> str:
        return label(self.where) + (f", B≥{self.fewest}" if self.fewest > 1 else "")


def _targets(instruction_set: str) -> Iterator[Target]:
    if instruction_set not in INSTRUCTION_SETS:
        return
    newest = instruction_set == "avx512"
    for benchmark, matrices, batch, eager, best, older in TRAINED:
        where = {**MEDIUM, "matrices": matrices, "weights": "trained", "B": batch}
        yield Target(benchmark, where, BASELINE, eager if newest else older)
        if newest:
            yield Target(benchmark, where, BEST, best)
    for matrices in ("tied", "untied"):
        yield Target("lista_memory", {**MEDIUM, "matrices": matrices, "weights": "trained", "B": 8192}, BASELINE, 3)
    fuller = {**MEDIUM, "matrices": "tied", "weights": "ista-0.1"}  # 60 % of the iterates
    for benchmark, eager, best in (("lista_forward", 2.8, 1.05), ("lista_training", 3, 1.3)):
        yield Target(benchmark, fuller, BASELINE, eager if newest else 2, fewest=64)
        if newest:
            yield Target(benchmark, fuller, BEST, best, fewest=64)
    for benchmark in ("lista_forward", "lista_training"):
        for matrices in ("tied", "untied"):
            yield Target(benchmark, {"matrices": matrices, "weights": "dense"}, BEST, 1)


def ratio_of(record: Mapping[str, Any], rival: str) -> float | None:
    if "ratios" not in record:
        return None
    quartiles = record["best"]["ratio"] if rival == BEST else record["ratios"].get(rival)
    return None if quartiles is None else float(quartiles["median"])


def _answer(target: Target, result: Mapping[str, Any] | None) -> list[str]:
    found = [r for r in (result or {"cases": []})["cases"] if target.holds(r["case"])]
    ratios = [(ratio, r["case"]) for r in found if (ratio := ratio_of(r, target.rival)) is not None]
    what = [target.benchmark.replace("_", " "), target.cases(), f"{target.rival} / ours"]
    if len(ratios) < len(found) or not found:
        return [*what, f"{target.at_least:g}", "–", "", "a case failed" if found else "not measured"]
    least, case = min(ratios, key=lambda pair: pair[0])
    where = label({k: v for k, v in case.items() if k not in target.where})
    verdict = "met" if least >= target.at_least else "**missed**"
    if any(r.get("others", 0) > DISTURBED for r in found):
        verdict = "disturbed"
    return [*what, f"{target.at_least:g}", digits(least), where, verdict]


def markdown(results: Mapping[str, Mapping[str, Any]], instruction_set: str) -> str:
    rows = [_answer(t, results.get(t.benchmark)) for t in _targets(instruction_set)]
    counts = {
        v: sum(cells[-1] == v for cells in rows)
        for v in ("met", "**missed**", "disturbed", "a case failed", "not measured")
    }
    answer = ", ".join(f"{count} {verdict.strip('*')}" for verdict, count in counts.items() if count)
    head = ["benchmark", "cases", "ratio of medians", "at least", "measured", "where", ""]
    return (
        "\n\n".join(
            [
                f"# Targets of the CPU engine with {instruction_set}",
                "\n".join(
                    f"- {name}: {r['date']}, {r['machine']['cpu']}, {r['threads']} thread(s), {r['kind']} run"
                    for name, r in results.items()
                ),
                (answer or f"No targets are set for {instruction_set}, only for {' and '.join(INSTRUCTION_SETS)}")
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
    for name in BENCHMARKS:
        path = options.out / f"{prefix}{name}.json"
        if not path.exists():
            continue
        try:
            results[name] = json.loads(path.read_text())
            markdown({name: results[name]}, str(results[name]["instruction_set"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            parser.error(f"{path} is not the result of a benchmark: {type(error).__name__}: {error}")
    found = list(dict.fromkeys(str(result["instruction_set"]) for result in results.values()))
    if len(found) != 1:
        parser.error(
            "all records must be of one instruction set, which decides the targets, but "
            f"{options.out} has {' and '.join(found) or 'no record'}: run make bench"
        )
    page = options.out / f"{prefix}targets.md"
    try:
        page.write_text(markdown(results, found[0]))
    except OSError as error:
        parser.error(f"cannot write {page}: {error.strerror}")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
