"""``python -m fuzz``: slices of calls in processes of their own, so that one that dies is a finding like another."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

SLICE = 200  # calls in one process
SHOWN = 3  # findings of one kind that are printed in full


@dataclass
class Total:
    """What all slices have found."""

    seed: int
    only: str = ""
    calls: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    deaths: int = 0
    lock: Lock = field(default_factory=Lock)  # slices run side by side, and are counted one after another

    def count(self, told: list[dict[str, Any]], begun: int) -> None:
        """What a slice told of its calls."""
        with self.lock:
            for line in told:
                if "finding" in line:
                    self.add(line["call"], line["finding"], line["said"])
                self.counts.update(line.get("counts", {}))
            self.calls += begun

    def add(self, call: int, what: str, said: list[str]) -> None:
        subject = next((w for w in said if w.startswith(("network=", "what="))), "")
        subject = next((w for w in said if w.startswith("network=")), subject)
        kind = f"{subject} {what.split(':')[0].split(' of ')[0][:80]}"
        self.kinds[kind] += 1
        if self.kinds[kind] <= SHOWN:
            print(f"call {call}: {what}\n    {', '.join(said)}", flush=True)
            only = f" --only {self.only!r}" if self.only else ""
            print(f"    again: cd tests && python -m fuzz --seed {self.seed} --call {call}{only}", flush=True)


def _slice(seed: int, first: int, count: int, only: str) -> tuple[list[dict[str, Any]], int, str]:
    """The lines that a process told, its exit status, and what it said at the end."""
    command = [sys.executable, "-X", "faulthandler", "-m", "fuzz", "--seed", str(seed), "--first", str(first)]
    command += ["--only", only]
    done = subprocess.run(
        [*command, "--calls", str(count), "--here"], capture_output=True, text=True, cwd=Path(__file__).parent.parent,
        env={"OMP_WAIT_POLICY": "passive", **os.environ},
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"], done.returncode, done.stderr


def run_slice(total: Total, first: int, count: int) -> None:
    """One slice; where its process died, the rest in another."""
    last = first + count
    while first < last:
        told, status, said = _slice(total.seed, first, last - first, total.only)
        begun = [line["begins"] for line in told if "begins" in line]
        total.count(told, len(begun))
        if status == 0:
            return
        how = f"the process died with {status}" if status < 0 else f"the process ended with {status}"
        at = said[said.find("Current thread") :] if "Current thread" in said else said
        lines = [line.strip() for line in at.strip().splitlines()[:6]]
        with total.lock:
            total.deaths += 1
            total.add(
                begun[-1] if begun else first, f"{how}: {' | '.join(lines)}", told[-1].get("draws", []) if told else []
            )
        if not begun:
            return
        first = begun[-1] + 1


def _table(counts: Counter[str]) -> str:
    """How often each choice of each feature was drawn."""
    features: dict[str, list[str]] = {}
    for what, count in sorted(counts.items()):
        name, _, value = what.partition("=")
        features.setdefault(name, []).append(f"{value} {count}".strip())
    return "\n".join(f"{name:>20}: {', '.join(values)}" for name, values in sorted(features.items()))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, help="of all calls; a fresh one by default, which is printed")
    parser.add_argument("--call", type=int, help="run this call alone, in this process, and say what it draws")
    parser.add_argument("--only", default="", metavar="WORD", help="draw only calls of this kind, such as picture")
    parser.add_argument("--first", type=int, default=0, help="the first call")
    parser.add_argument("--calls", type=int, default=10**9, help="how many")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no slice after this time")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes at a time")
    parser.add_argument("--deaths", action="store_true", help="fail only where a process died; print the rest")
    parser.add_argument("--here", action="store_true", help="run the calls in this process, and print JSON")
    given = parser.parse_args()
    if given.only:
        from .slice import CHECKS, SUBJECTS

        if not any(given.only in name for name in {**SUBJECTS, **CHECKS}):
            parser.error(f"--only must be a part of one of these names: {', '.join({**SUBJECTS, **CHECKS})}")
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    if given.call is not None or given.here:
        from . import slice

        calls = [given.call] if given.call is not None else range(given.first, given.first + given.calls)
        slice.run(seed, calls, given.only, aloud=not given.here)
        return 0
    if given.calls == 10**9 and given.seconds == float("inf"):
        parser.error("say how many: --calls or --seconds")
    print(f"seed {seed}", flush=True)
    total, end = Total(seed, given.only), monotonic() + given.seconds
    firsts = iter(range(given.first, given.first + given.calls, SLICE))

    def work(_: int) -> None:
        for first in firsts:
            if monotonic() > end:
                return
            run_slice(total, first, min(SLICE, given.first + given.calls - first))

    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(work, range(given.jobs)))
    print(_table(total.counts))
    for kind, count in total.kinds.most_common():
        print(f"{count:6} × {kind}")
    print(f"seed {seed}: {total.calls} calls, {sum(total.kinds.values())} findings")
    return bool(total.deaths if given.deaths else total.kinds)


if __name__ == "__main__":
    sys.exit(main())
