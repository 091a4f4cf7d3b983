"""Runs a benchmark: errors first, then alternating timings, then a JSON file with its table and plot beside it.

A *case* is a labelled configuration. Its *contestants* compute the same result in different ways; the first is
ours, the others are rivals. A case whose results disagree is reported and not timed; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any

import fastunroll as fu
import numpy as np
import report
import torch
from numpy.typing import NDArray
from tqdm import tqdm

Case = Mapping[str, int | float | str]
Run = Callable[[], Any]  # returns a tensor, anything else numpy.asarray takes, or a list of these

RESULTS = Path(__file__).parent / "results"
SHORTEST_SAMPLE = 1e-3  # seconds; shorter calls are repeated within a sample so that the clock does not count
WARM_UP = 0.02  # seconds for each contestant, after its error was checked
SAMPLES = 5, 200  # fewest and most of a contestant in a case; between them the budget decides
BUDGET, QUICK_BUDGET = 5.0, 0.25  # seconds of timing for a case


@dataclass(frozen=True)
class Contest:
    """What competes in one case.

    contestants: name → callable; the first is ours.
    oracle: the result in float64; without one, all results are compared with ours.
    figures: further columns of the table, such as a measured density.
    flops: operations of the dense computation, for effective GFLOP/s.
    """

    contestants: Mapping[str, Run]
    oracle: Run | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    flops: float | None = None


@dataclass(frozen=True)
class Benchmark:
    """One question and the cases that answer it.

    build: makes the contest of a case from a seed. It runs after ``torch.set_num_threads``; contestants with a
        thread pool of their own must be given ``torch.get_num_threads()`` too.
    tolerance: largest ‖found − expected‖ / ‖expected‖ of any tensor in a result.
    x: the field of a case along the plot; ``panels``: the fields whose values get a panel each.
    """

    name: str
    question: str
    cases: Sequence[Case]
    quick_cases: Sequence[Case]
    build: Callable[[Case, int], Contest]
    tolerance: float
    x: str
    panels: Sequence[str] = ()


class Mismatch(Exception):
    """A contestant's result is not the expected one."""


def _arrays(result: Any) -> list[NDArray[Any]]:
    parts = result if isinstance(result, (list, tuple)) else [result]
    arrays = [np.asarray(p.detach().cpu() if isinstance(p, torch.Tensor) else p) for p in parts]
    return [a.astype(np.result_type(a.dtype, np.float64)) for a in arrays]


def relative_errors(contest: Contest, tolerance: float) -> dict[str, float]:
    """The largest relative error of each contestant. Raises Mismatch where one passes the tolerance."""
    ours = next(iter(contest.contestants.values()))
    expected = _arrays((contest.oracle or ours)())
    scale = [float(np.linalg.norm(e)) or 1.0 for e in expected]
    errors = {}
    for name, run in contest.contestants.items():
        found = _arrays(run())
        if [f.shape for f in found] != [e.shape for e in expected]:
            raise Mismatch(f"{name}: shapes {[f.shape for f in found]}, expected {[e.shape for e in expected]}")
        parts = [float(np.linalg.norm(f - e)) / s for f, e, s in zip(found, expected, scale, strict=True)]
        errors[name] = float(np.max(parts))
        if not errors[name] <= tolerance:  # a NaN is a mismatch too
            raise Mismatch(f"{name}: relative error {errors[name]:.2g}, tolerance {tolerance:.0g}")
    return errors


def _sample(run: Run, repeats: int) -> float:
    start = perf_counter()
    for _ in range(repeats):
        run()
    return (perf_counter() - start) / repeats


def _quartiles(values: NDArray[Any]) -> dict[str, float]:
    q1, median, q3 = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    return {"median": median, "q1": q1, "q3": q3}


def timings(contest: Contest, budget: float) -> dict[str, Any]:
    """Seconds of each contestant, run in turns, and each rival's time over ours in the same turn."""
    names, runs = list(contest.contestants), list(contest.contestants.values())
    once = [_sample(run, math.ceil(WARM_UP / _sample(run, 1))) for run in runs]
    repeats = [math.ceil(SHORTEST_SAMPLE / t) for t in once]
    turn = sum(t * r for t, r in zip(once, repeats, strict=True))
    count = min(max(int(budget / turn), SAMPLES[0]), SAMPLES[1])
    turns = [[_sample(run, r) for run, r in zip(runs, repeats, strict=True)] for _ in range(count)]
    times = np.array(turns).T
    medians = {name: _quartiles(t) for name, t in zip(names, times, strict=True)}
    figures = {
        "samples": count,
        "repeats": dict(zip(names, repeats, strict=True)),
        "times": medians,
        "ratios": {name: _quartiles(t / times[0]) for name, t in zip(names[1:], times[1:], strict=True)},
    }
    if contest.flops is not None:
        figures["gflops"] = {name: contest.flops / t["median"] / 1e9 for name, t in medians.items()}
    return figures


def _run_case(benchmark: Benchmark, case: Case, seed: int, budget: float) -> dict[str, Any]:
    contest = benchmark.build(case, seed)
    errors = relative_errors(contest, benchmark.tolerance)
    return {
        "case": dict(case),
        "figures": dict(contest.figures),
        "errors": errors,
        **timings(contest, budget),
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def _blas() -> str:
    config = torch.__config__.show()
    libraries = re.findall(r"^\s*- (.*(?:Math Kernel Library Version|MKL-DNN) \S+).*$", config, re.MULTILINE)
    return ", ".join([*re.findall(r"BLAS_INFO=(\w+)", config), *libraries])


def circumstances() -> dict[str, Any]:
    """When, where and with what it was measured."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cpu": _cpu(), "cores": _cores(), "system": f"{platform.system()} {platform.machine()}"},
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "fastunroll": fu.__version__,
            "numpy": np.__version__,
        },
        "instruction_set": fu.backend().instruction_set,
        "backend": str(fu.backend()).splitlines()[0],
        "blas": _blas(),
    }


def _whole(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, got {text!r}")
        return int(text)

    return number


@contextmanager
def _refusing(parser: argparse.ArgumentParser, out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        parser.error(f"cannot write to {out}: {error.strerror or error}")


def main(benchmark: Benchmark) -> int:
    """Runs the benchmark as its command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description=benchmark.question, usage=report.NO_USAGE)
    parser.add_argument("--quick", action="store_true", help="fewer, shorter cases, written as quick-NAME")
    parser.add_argument(
        "--threads", type=_whole(1, _cores()), default=min(torch.get_num_threads(), _cores()), metavar="N"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: bench/results")
    parser.add_argument("--seed", type=_whole(0, 2**63 - 1), default=0, metavar="S")
    options = parser.parse_args()
    with _refusing(parser, options.out):  # before minutes of measuring
        options.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=options.out).close()

    torch.set_num_threads(options.threads)
    cases = benchmark.quick_cases if options.quick else benchmark.cases
    budget = QUICK_BUDGET if options.quick else BUDGET
    records, failed = [], 0
    try:
        with tqdm(cases, desc=benchmark.name, unit="case") as bar:
            for case in bar:
                label = report.label(case)
                bar.set_postfix_str(label)
                try:
                    records.append(_run_case(benchmark, case, options.seed, budget))
                except Exception as error:  # one case must not cost the others
                    failure = " ".join(f"{type(error).__name__}: {error}".split())
                    records.append({"case": dict(case), "failure": failure})
                    failed += 1
                    bar.write(f"{label}: {failure}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted, nothing written", file=sys.stderr)
        return 130

    result = {
        "name": benchmark.name,
        "question": benchmark.question,
        **circumstances(),
        "quick": options.quick,
        "seed": options.seed,
        "tolerance": benchmark.tolerance,
        "plot": {"x": benchmark.x, "panels": list(benchmark.panels)},
        "cases": records,
    }
    path = options.out / f"{'quick-' if options.quick else ''}{benchmark.name}.json"
    with _refusing(parser, options.out):
        path.write_text(json.dumps(result, indent=1) + "\n")
        written = [path, *report.write(path, result)]
    print("\n".join(map(str, written)))
    return 1 if failed else 0
