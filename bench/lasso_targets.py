"""Answers each target of the Lasso from the JSON file of the benchmark: what was measured, met or missed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lasso_problems import NAMES, PATCHES
from report import DISTURBED, write_targets
from text import digits, label, row

EACH, COMMON = "0.1 λ_max of each", "one for all"
SPAMS = "SPAMS", "SPAMS float32", "SPAMS Cholesky", "SPAMS Cholesky float32"
SKLEARN = "scikit-learn Lasso", "scikit-learn Lasso float32"
OURS = "fastunroll", "fastunroll float64"
HEAD = ["cases", "figure", "asked", "measured", "where", ""]


@dataclass(frozen=True)
class Target:
    """A target: in the cases that fulfil ``where``, the fastest of ``rivals`` takes ``at_least`` times as long as ours.

    Attributes:
        where: the fields and values of the cases.
        single: whether the cases solve single samples.
        rivals: the precisions and variants of a program. A rival counts if its median gap reaches the tolerance.
        at_least: the ratio of the times.
    """

    where: Mapping[str, Any]
    single: bool
    rivals: Sequence[str]
    at_least: float

    def holds(self, case: Mapping[str, Any]) -> bool:
        return self.where.items() <= case.items() and (case["B"] == 1) == self.single


def _targets() -> Iterator[Target]:
    """Yields the targets. Their tolerance is 1e-4 by default, and both tolerances for a single sample."""
    asked = zip(NAMES, ((6, 5), (3, 3), (6, 4)), (14, 20, 20), (14, 30, 15), (6, 9, 6), (5, 5, 3), strict=True)
    for problem, spams, sklearn, encode, jax, single in asked:
        base: dict[str, Any] = {"problem": problem, "λ": EACH}
        for tol, least in zip(("1e-4", "1e-6"), spams, strict=True):
            yield Target({**base, "tol": tol}, False, SPAMS, least)
        yield Target({**base, "tol": "1e-4"}, False, SKLEARN, sklearn)
        yield Target({**base, "tol": "1e-4"}, False, ["sparse_encode lasso_cd"], encode)
        yield Target({**base, "tol": "1e-4"}, False, ["JAX FISTA"], jax)
        for rivals in (SKLEARN, SPAMS):
            yield Target(base, True, rivals, single)
    yield Target({"problem": PATCHES, "λ": COMMON}, False, SPAMS, 2)


def _ratio(record: Mapping[str, Any], rivals: Sequence[str]) -> tuple[float, str] | None:
    """Returns the ratio of the rival with the smallest median time."""
    able = [r for r in rivals if r in record.get("ratios", {}) and record["checked"][r]["reached"]]
    if not able:
        return None
    best = min(able, key=lambda r: record["measured"][r]["median"])
    return float(record["ratios"][best]["median"]), best


def _disturbed(records: Sequence[Mapping[str, Any]]) -> bool:
    return any(r.get("others", 0) > DISTURBED for r in records)


def _speed(target: Target, records: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [r for r in records if target.holds(r["case"])]
    where = {**target.where, "B": 1} if target.single else target.where
    what = [label(where), f"{target.rivals[0]} / ours", f"≥ {target.at_least:g}"]
    ratios = [(*ratio, r["case"]) for r in found if (ratio := _ratio(r, target.rivals)) is not None]
    if not found or len(ratios) < len(found):
        return [*what, "–", "", "a case failed, or no rival reached the tolerance" if found else "not measured"]
    least, rival, case = min(ratios, key=lambda entry: entry[0])
    at = label({k: v for k, v in case.items() if k not in where})
    verdict = "met" if least >= target.at_least else "**missed**"
    if any(not r["checked"][OURS[0]]["reached"] for r in found):
        verdict = "**missed**: ours has not reached the tolerance"
    return [*what, digits(least), ", ".join(filter(None, (rival, at))), "disturbed" if _disturbed(found) else verdict]


def _missed(problem: str, records: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    """Answers a target about errors. They do not depend on other programs, so disturbed cases count."""
    for name in OURS:
        found = [r for r in records if r["case"]["problem"] == problem and name in r.get("checked", {})]
        checked = [r["checked"][name] for r in found]
        missed, of = (int(sum(j[key] for j in checked)) for key in ("missed", "of"))
        what = [label({"problem": problem}), f"{name}: samples above the tolerance", "0"]
        if not checked:
            yield [*what, "–", "", "not measured"]
            continue
        worst = label(max(found, key=lambda r: r["checked"][name]["missed"])["case"]) if missed else ""
        yield [*what, f"{missed} of {of}", worst, "**missed**" if missed else "met"]


def markdown(result: Mapping[str, Any]) -> str:
    records = result["cases"]
    rows = [_speed(target, records) for target in _targets()]
    rows += [cells for problem in NAMES for cells in _missed(problem, records)]
    kinds = list(dict.fromkeys(cells[-1] for cells in rows))
    counts = ", ".join(f"{sum(cells[-1] == kind for cells in rows)} {kind.replace('*', '')}" for kind in kinds)
    about = f"{result['date']}, {result['machine']['cpu']}, {result['threads']} thread(s), {result['kind']} run"
    parts = [
        "# Targets of the Lasso",
        f"- {about}",
        f"{counts}. Of several precisions or variants of a program the quickest counts, among those whose median gap "
        "reaches the tolerance. Where a target names several cases, the smallest ratio and its case stand here.",
        "\n".join([row(HEAD), row(["---"] * 2 + ["---:"] * 2 + ["---"] * 2), *map(row, rows)]),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(write_targets(__doc__, "lasso", markdown))
