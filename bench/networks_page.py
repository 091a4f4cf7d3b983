"""The page of the benchmark of all networks, with its targets and a table of every case."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import DISTURBED, figure, machine_and_versions, troubles
from report import KINDS as RUNS
from text import digits, label, median, quartiles, ratio, table

EXPLANATION = """\
Medians [quartiles] of alternating runs. A ratio is a rival's time over ours in the same turn: above 1 ours is faster, \
▼ marks a loss. Sparse iterates: all thresholds are multiplied by the factor that leaves 12 % of the values of all \
layers nonzero. Dense iterates: thresholds are 0, the gain of LAMP and LVAMP is then 0.3, and the momentum of \
HyperLISTA small, as they diverge otherwise. With Bernoulli–Gaussian shrinkage (BG) no value is ever zero, so these \
networks have dense iterates alone. A training step is the mean squared distance from a fixed target, and its \
gradients. torch.compile runs the eager module; it takes long to compile, so it takes part for some batches only."""
Record = Mapping[str, Any]
SHOWN = ("fastunroll", "eager", "torch.compile")


def _is(**fields: Any) -> Callable[[Record], bool]:
    return lambda case: fields.items() <= case.items()


def _sparse(batch: int, admm: bool) -> Callable[[Record], bool]:
    """Returns the condition of forward cases with sparse iterates."""
    fits = _is(**{"pass": "forward", "iterates": "sparse", "B": batch})
    return lambda case: fits(case) and case["network"].startswith("ADMM") == admm


@dataclass(frozen=True)
class Target:
    """A target: in each case, eager PyTorch takes at least ``at_least`` times as long as fastunroll."""

    what: str
    at_least: float
    concerns: Callable[[Record], bool]


TARGETS = (
    Target("every network, everywhere", 1.0, lambda case: True),
    Target("dense iterates, forward, B = 1", 1.3, _is(**{"pass": "forward", "iterates": "dense", "B": 1})),
    Target("dense iterates, forward, B = 64", 1.2, _is(**{"pass": "forward", "iterates": "dense", "B": 64})),
    Target("sparse iterates, forward, B = 1, all but ADMM-Net", 3.0, _sparse(1, admm=False)),
    Target("sparse iterates, forward, B = 64, all but ADMM-Net", 2.0, _sparse(64, admm=False)),
    Target("sparse iterates, forward, B = 1, ADMM-Net", 1.3, _sparse(1, admm=True)),
    Target("sparse iterates, forward, B = 64, ADMM-Net", 1.3, _sparse(64, admm=True)),
)


def _ratio(record: Record, rival: str) -> float:
    return float(record["ratios"][rival]["median"])


def targets(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Returns for each target how many cases meet it, and which miss it. Disturbed and failed cases do not count."""
    records, answers = list(records), []
    for target in TARGETS:
        found = [r for r in records if target.concerns(r["case"])]
        timed = [r for r in found if "ratios" in r]
        calm = [r for r in timed if r["others"] <= DISTURBED]
        missed = sorted((r for r in calm if _ratio(r, "eager") < target.at_least), key=lambda r: _ratio(r, "eager"))
        answers.append(
            {
                "what": target.what,
                "at_least": target.at_least,
                "met": len(calm) - len(missed),
                "missed": len(missed),
                "disturbed": len(timed) - len(calm),
                "failed": len(found) - len(timed),
                "least": min((_ratio(r, "eager") for r in calm), default=None),
                "misses": [{**r["case"], "ratio": _ratio(r, "eager")} for r in missed],
            }
        )
    return answers


def _answers(found: Sequence[Mapping[str, Any]]) -> list[str]:
    counted = ("met", "missed", "disturbed", "failed")
    rows = [
        [
            t["what"],
            f"{t['at_least']:g}",
            *(str(t[c]) for c in counted),
            "–" if t["least"] is None else digits(t["least"]),
        ]
        for t in found
    ]
    lines = ["## Targets: eager / fastunroll", table(["cases", "at least", *counted, "least"], 1, rows)]
    misses = [
        f"- {t['what']}, at least {t['at_least']:g}: "
        + "; ".join(
            f"{m['network']} {m['pass']}, {m['iterates']}, B={m['B']}: {digits(m['ratio'])}" for m in t["misses"]
        )
        for t in found
        if t["misses"]
    ]
    return [*lines, *(["Missed:", "\n".join(misses)] if misses else [])]


def _overview(timed: Sequence[Record]) -> list[str]:
    """Returns a table of the time of eager PyTorch over that of fastunroll, with a row for each network."""
    lines, eager = [], figure("ratios", "eager", lambda found: ratio(found, median))
    for way in dict.fromkeys(r["case"]["pass"] for r in timed):
        here = [r for r in timed if r["case"]["pass"] == way]
        columns = sorted(
            {(r["case"]["iterates"], r["case"]["B"]) for r in here}, key=lambda c: (c[0] != "sparse", c[1])
        )
        rows = []
        for name in dict.fromkeys(r["case"]["network"] for r in here):
            at = {(r["case"]["iterates"], r["case"]["B"]): r for r in here if r["case"]["network"] == name}
            rows.append(
                [
                    name,
                    *(eager(at[c]) if c in at else "–" for c in columns),
                ]
            )
        head = ["network", *(f"{iterates}, B = {batch}" for iterates, batch in columns)]
        lines += [f"## {way.capitalize()}: eager / fastunroll", table(head, 1, rows)]
    return lines


def _details(timed: Sequence[Record]) -> list[str]:
    rows = []
    for r in timed:
        case = r["case"]
        times = (figure("measured", name, lambda found: quartiles(found, 1e3))(r) for name in SHOWN)
        ratios = (figure("ratios", name, ratio)(r) for name in SHOWN[1:])
        error = max(value for name, value in r["errors"].items() if name != "fastunroll")
        names = [str(case[field]) for field in ("network", "pass", "iterates", "B")]
        rows.append([*names, digits(r["figures"]["density"]), f"{error:.0e}", *times, *ratios])
    head = ["network", "pass", "iterates", "B", "density", "error", *(f"{name}, ms" for name in SHOWN)]
    return ["## Every case", table([*head, *(f"{name} / fastunroll" for name in SHOWN[1:])], 3, rows)]


def markdown(result: Mapping[str, Any]) -> str:
    (machine, versions), timed = machine_and_versions(result), [r for r in result["cases"] if "measured" in r]
    asked = label(result["environment"]) or "none of the variables that change them is set"
    lines = [
        f"# {result['name']}" + RUNS[result["kind"]],
        result["question"],
        "\n".join(
            [
                machine,
                f"- {result['threads']} thread(s) for every contestant",
                f"- instructions: {result['instruction_set']} in fastunroll, {result['eager_instruction_set']} in "
                f"PyTorch but for MKL, which does not say; {asked}",
                versions,
                f"- seed {result['seed']}, {result['minutes']:.0f} minutes, {result['seconds_per_case']:g} s a case; "
                f"relative difference of every timed result from ours: at most {result['tolerance']:.0g}",
            ]
        ),
        EXPLANATION,
        *_answers(result["targets"]),
        *(_overview(timed) + _details(timed) if timed else []),
    ]
    return "\n\n".join(lines + troubles(result["cases"])) + "\n"


def write(path: Path, result: Mapping[str, Any]) -> Path:
    """Writes the page beside its JSON file at ``path``."""
    page = path.with_suffix(".md")
    page.write_text(markdown(result))
    return page


if __name__ == "__main__":
    for given in map(Path, sys.argv[1:]):
        print(write(given, json.loads(given.read_text())))
