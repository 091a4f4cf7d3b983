"""Answers each target of imaging operators from the JSON file of the benchmark: what was measured, met or missed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from operators_problems import FISTA, GRADIENT, SOLVE
from report import DISTURBED, write_targets
from text import digits, label, row

PLAIN = {"task": GRADIENT, "images": "warm"}
TABLE = "256×256", "320×320", "512×512", "640×368"
BEST = "best of all rivals"
IN_CACHE = {**PLAIN, "size": "256×256", "B": 1, "threads": 2}
HEAD = ["cases", "figure", "asked", "smallest", "where", "met in", ""]


@dataclass(frozen=True)
class Target:
    """A target: in the cases that fulfil ``where``, the rival takes ``at_least`` times as long as fastunroll.

    Without a rival, fastunroll computes at least so many GFLOP/s. ``every``: also in sizes that are not of the table.
    """

    where: Mapping[str, Any]
    rival: str | None
    at_least: float
    every: bool = False

    def holds(self, case: Mapping[str, Any]) -> bool:
        return self.where.items() <= case.items() and (self.every or case["size"] in TABLE)

    def figure(self, record: Mapping[str, Any]) -> float | None:
        if self.rival is None:
            return record.get("gflops", {}).get("fastunroll")
        ratio = record["best"]["ratio"] if self.rival == BEST else record["ratios"].get(self.rival)
        return None if ratio is None else float(ratio["median"])


def _targets() -> Iterator[Target]:
    deepinv = {"blur": 8, "MRI": 10, "MRI, columns": 10, "MRI, 8 coils": 10, "inpainting": 2.5}
    for operator, least in deepinv.items():
        yield Target({**PLAIN, "operator": operator}, "DeepInverse", least)
    for rival, least in (("eager", 3), ("image by image", 2)):
        for operator in deepinv:
            yield Target({**PLAIN, "operator": operator}, rival, least)
    for operator in list(deepinv)[:-1]:
        yield Target({**IN_CACHE, "operator": operator}, None, 45)
    for task in (GRADIENT, SOLVE, FISTA):
        yield Target({"task": task}, "eager", 1, every=True)
        yield Target({"task": task}, BEST, 1, every=True)


def _answer(target: Target, records: list[Mapping[str, Any]], roof: float) -> list[str]:
    found = [(value, r) for r in records if target.holds(r["case"]) and (value := target.figure(r)) is not None]
    rival = f"{target.rival} / fastunroll" if target.rival else "GFLOP/s of fastunroll"
    what = [label(target.where), rival, f"≥ {target.at_least:g}"]
    if not found:
        return [*what, "–", "", "", "not measured"]
    least, worst = min(found, key=lambda pair: pair[0])
    where = label({k: v for k, v in worst["case"].items() if k not in target.where})
    met = sum(value >= target.at_least for value, _ in found)
    verdict = "met" if met == len(found) else "**missed**"
    if any(r.get("others", 0) > DISTURBED for _, r in found):
        verdict = "disturbed"
    share = "" if target.rival else f", {least / roof:.0%} of the roof"
    return [*what, digits(least) + share, where, f"{met} of {len(found)}", verdict]


def markdown(result: Mapping[str, Any]) -> str:
    records = [r for r in result["cases"] if "ratios" in r]
    roof = max(result["roof"].values())
    rows = [_answer(target, records, roof) for target in _targets()]
    kinds = list(dict.fromkeys(cells[-1] for cells in rows))
    counts = ", ".join(f"{sum(cells[-1] == kind for cells in rows)} {kind.replace('*', '')}" for kind in kinds)
    failed = [f"- {label(r['case'])}: {r['failure']}" for r in result["cases"] if "failure" in r]
    parts = [
        "# Targets of the imaging operators",
        f"- {result['date']}, {result['machine']['cpu']}, {result['threads']} thread(s), {result['kind']} run",
        *result["left_out"],
        f"{counts}. A target is met if it is met in each of its cases. The smallest ratio and its case stand here. The "
        f"roof is {digits(roof)} GFLOP/s, of multiply-adds between registers.",
        "\n".join([row(HEAD), row(["---"] * 2 + ["---:"] * 2 + ["---"] * 3), *map(row, rows)]),
    ]
    return "\n\n".join(parts + ["## Failed", "\n".join(failed)] * bool(failed)) + "\n"


if __name__ == "__main__":
    sys.exit(write_targets(__doc__, "operators", markdown))
