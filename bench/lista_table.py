"""Prints the table of README's "How fast" from the records of LISTA: two ratios a cell, and the cases that are lost."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

from lista_cases import BATCHES, MEDIUM
from report import NO_USAGE
from targets import BASELINE, BEST, RESULTS, ratio_of
from text import table

PASSES = {"lista_forward": "forward", "lista_training": "training step"}
WEIGHTS = {
    "trained": "trained (iterates 9–14 % full)",
    "ista-0.1": "ISTA with λ = 0.1 (60 %)",
    "dense": "nothing to skip (100 %)",
}


def digits(value: float) -> str:
    """Two digits, as many as the runs repeat: a loss never reads 1.0."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 1 else f"{min(value, 0.99):.2f}"


def cell(found: Mapping[str, Any] | None) -> str:
    """The speedup over eager PyTorch and over the best rival."""
    if found is None:
        return "–"
    return " / ".join("–" if (r := ratio_of(found, rival)) is None else digits(r) for rival in (BASELINE, BEST))


def readme(results: Mapping[str, Mapping[str, Any]]) -> str:
    m, n = MEDIUM
    rows = []
    for weights, name, matrices in product(WEIGHTS, PASSES, ("tied", "untied")):
        cases = {"m": m, "n": n, "matrices": matrices, "weights": weights}
        found = {r["case"]["B"]: r for r in results[name]["cases"] if cases.items() <= r["case"].items()}
        rows.append([f"{PASSES[name]}, {matrices}, {WEIGHTS[weights]}", *(cell(found.get(B)) for B in BATCHES)])
    first, *others = BATCHES
    return table([f"m = {m}, n = {n}, 16 layers, float32", f"B = {first}", *map(str, others)], 1, rows)


def counts(result: Mapping[str, Any]) -> str:
    """In how many cases fastunroll is ahead, and where it is furthest behind."""
    said = []
    for rival in (BASELINE, BEST):
        ratios = [(r, record["case"]) for record in result["cases"] if (r := ratio_of(record, rival)) is not None]
        least, case = min(ratios, key=lambda pair: pair[0])
        said.append(f"{rival}: ahead in {sum(r > 1 for r, _ in ratios)} of {len(ratios)}, least {least:.2f} at {case}")
    return "\n".join(said)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, usage=NO_USAGE)
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="where they are: bench/results")
    options = parser.parse_args()
    results = {name: json.loads((options.out / f"{name}.json").read_text()) for name in PASSES}
    print(readme(results))
    for name, result in results.items():
        print(f"\n{name}, {result['date']}\n{counts(result)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
