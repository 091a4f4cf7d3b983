"""Runs a benchmark: errors first, then alternating timings, then a JSON file with its table and plot beside it.

A *case* is a labelled configuration. Its *contestants* compute the same result in different ways; the first is
ours, the others are rivals. A case whose results disagree is reported and not timed; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

import machine
import numpy as np
import report
import text
import torch
from numpy.typing import NDArray
from tqdm import tqdm

Case = Mapping[str, int | float | str]
Run = Callable[[], Any]

RESULTS = Path(__file__).parent / "results"
SHORTEST_SAMPLE = 1e-3  # seconds; shorter calls are repeated within a sample so that the clock does not count
LONG = 0.03  # seconds; a longer call has had its warm-up when its error was checked
OWN_WARM_UP = 0.2  # seconds; of a longer call, what wakes its threads is a small part
WARM_UP = 0.02  # seconds for each contestant, after its error was checked
WARM_TURN = 0.01  # seconds before its turn: until the system has put woken threads on processors of their own
SAMPLES = 3, 40  # fewest and most of a contestant in a case; between them the budget decides
BUDGET, QUICK_BUDGET = 1.5, 0.4  # seconds of timing for a case
TRIALS, PATIENCE = 3, 10.0  # at most, while other programs disturb; and seconds after which none is begun
REST = 0.005, 20  # seconds of one look whether threads still spin, and how many looks at most


@dataclass(frozen=True)
class Contestant:
    """One way to compute the result.

    run: does all the work each time it is called.
    read: makes of its result a tensor, an array, or a list of these, as ours returns them; not timed.
    own_threads: it has a thread pool of its own, so that its threads and those of others must come to rest between.
    note: what a reader should know of it in this case.
    problems: how many a call solves; its time is for one of them.
    ours: it is no rival, as the first is not.
    """

    run: Run
    read: Callable[[Any], Any] = field(default=lambda result: result)
    own_threads: bool = False
    note: str = ""
    problems: int = 1
    ours: bool = False


@dataclass(frozen=True)
class Contest:
    """What competes in one case.

    contestants: by name; the first is ours.
    oracle: the result in float64; without one, all results are compared with ours.
    figures: further columns of the table, such as a measured density.
    flops: operations of the dense computation, for effective GFLOP/s.
    own_flops: those that ours cannot do without, for true GFLOP/s.
    judge: of a result, how near its problems are to being solved, where results need not agree: ``median`` and
        ``largest`` error, how many ``missed`` the tolerance ``of`` how many, and whether it is ``reached`` by so many
        that the time counts. Who does not reach it is shown, but is not the best rival.
    """

    contestants: Mapping[str, Contestant]
    oracle: Run | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    flops: float | None = None
    own_flops: float | None = None
    judge: Callable[[Any], Mapping[str, float]] | None = None


@dataclass(frozen=True)
class Benchmark:
    """One question and the cases that answer it.

    build: makes the contest of a case from a seed. It runs after ``machine.give_threads``.
    tolerance: largest ‖found − expected‖ / ‖expected‖ of any tensor in a result. Without one, ``run`` returns what
        is measured, such as bytes, instead of being timed, and is called once.
    judged: what ``Contest.judge`` measures, where contests have one.
    unit: what the table shows, and how many of it one second or byte is.
    x: the field of a case along the plot; ``panels``: the fields whose values get a panel each. Without ``x`` no plot.
    baseline: the rival that everybody knows: the plot shows it beside the best of all.
    packages: what rivals need, for the list of versions.
    left_out: what does not compete here, and why, a line each.
    """

    name: str
    question: str
    cases: Sequence[Case]
    quick_cases: Sequence[Case]
    build: Callable[[Case, int], Contest]
    baseline: str
    tolerance: float | None = None
    judged: str = ""
    unit: tuple[str, float] = ("ms", 1e3)
    x: str | None = None
    panels: Sequence[str] = ()
    packages: Sequence[str] = ()
    left_out: Sequence[str] = ()


class Mismatch(Exception):
    """A contestant's result is not the expected one."""


def _arrays(result: Any) -> list[NDArray[Any]]:
    parts = result if isinstance(result, (list, tuple)) else [result]
    arrays = [np.asarray(p.detach().cpu() if isinstance(p, torch.Tensor) else p) for p in parts]
    return [a.astype(np.result_type(a.dtype, np.float64)) for a in arrays]


def relative_errors(contest: Contest, tolerance: float) -> dict[str, float]:
    """The largest relative error of each contestant. Raises Mismatch where one passes the tolerance."""
    ours = next(iter(contest.contestants.values()))
    expected = _arrays(contest.oracle() if contest.oracle else ours.read(ours.run()))
    scale = [float(np.linalg.norm(e)) or 1.0 for e in expected]
    errors = {}
    for name, contestant in contest.contestants.items():
        found = _arrays(contestant.read(contestant.run()))
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


def _rest() -> None:
    """Waits until no thread of this process spins: OpenMP's do so for 10 ms after work, ONNX Runtime's for 50."""
    step, looks = REST
    for _ in range(looks):
        before = process_time()
        sleep(step)
        if process_time() - before < step / 5:
            return


def _turns(contest: Contest, budget: float) -> tuple[NDArray[Any], list[int]]:
    """Times, (contestants, turns), and how many calls make one sample of each."""
    contestants = list(contest.contestants.values())
    first = [_sample(c.run, 1) for c in contestants]  # not quite the first: errors were checked
    once = [t if t > LONG else _sample(c.run, math.ceil(WARM_UP / t)) for c, t in zip(contestants, first, strict=True)]
    repeats = [math.ceil(SHORTEST_SAMPLE / t) for t in once]
    # The first to wake threads, or to bring weights back into the cache, must not pay for it.
    warm = [math.ceil(WARM_TURN / t) if t < OWN_WARM_UP else 0 for t in once]

    def turn() -> list[float]:
        times = []
        pool: object = None
        for index, c in enumerate(contestants):
            mine = index if c.own_threads else None
            if mine != pool or index == 0:
                _rest()
            pool = mine
            if warm[index]:
                _sample(c.run, warm[index])
            times.append(_sample(c.run, repeats[index]) / c.problems)
        return times

    start = perf_counter()
    turns = [turn()]
    count = min(max(int(budget / (perf_counter() - start)), SAMPLES[0]), SAMPLES[1])
    turns += [turn() for _ in range(count - 1)]
    return np.array(turns).T, repeats


def _undisturbed(contest: Contest, budget: float) -> tuple[NDArray[Any], list[int], float]:
    """The least disturbed of some trials, with the share of the processors that other programs took meanwhile."""
    trials: list[tuple[NDArray[Any], list[int], float]] = []
    start = perf_counter()
    while len(trials) < TRIALS and perf_counter() - start < PATIENCE:
        others = machine.Others()
        times, repeats = _turns(contest, budget)
        trials.append((times, repeats, others.share()))
        if trials[-1][-1] < report.DISTURBED:
            break
    return min(trials, key=lambda trial: trial[-1])


def _quartiles(values: NDArray[Any]) -> dict[str, float]:
    q1, median, q3 = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    return {"median": median, "q1": q1, "q3": q3}


def _measured(contest: Contest, values: NDArray[Any], solved: Collection[str] = ()) -> dict[str, Any]:
    """What each contestant took, (contestants, turns), each rival's over ours in the same turn, and the best rival's.

    The best rival is the one of smallest median, so that it is one program and not a choice after each turn. Where
    some have ``solved`` the problems, it is one of these.
    """
    names = list(contest.contestants)
    measured = {name: _quartiles(v) for name, v in zip(names, values, strict=True)}
    ratios = {name: _quartiles(v / values[0]) for name, v in zip(names[1:], values[1:], strict=True)}
    rivals = [name for name in names[1:] if not contest.contestants[name].ours]
    able = [name for name in rivals if name in solved] or rivals
    best = min(able, key=lambda name: measured[name]["median"])
    return {"measured": measured, "ratios": ratios, "best": {"rival": best, "ratio": ratios[best]}}


def _run_case(benchmark: Benchmark, case: Case, seed: int, budget: float) -> dict[str, Any]:
    gc.collect()
    contest = benchmark.build(case, seed)
    notes = {name: c.note for name, c in contest.contestants.items() if c.note}
    record: dict[str, Any] = {"case": dict(case), "figures": dict(contest.figures), "notes": notes}
    if contest.judge is not None:
        record["judged"] = {name: dict(contest.judge(c.read(c.run()))) for name, c in contest.contestants.items()}
    elif benchmark.tolerance is None:
        return {**record, **_measured(contest, np.array([[c.run()] for c in contest.contestants.values()], float))}
    else:
        record["errors"] = relative_errors(contest, benchmark.tolerance)
    times, repeats, record["others"] = _undisturbed(contest, budget)
    record["samples"] = times.shape[1]
    record["repeats"] = dict(zip(contest.contestants, repeats, strict=True))
    solved = [name for name, found in record.get("judged", {}).items() if found["reached"]]
    record.update(_measured(contest, times, solved))
    if contest.flops is not None:
        record["gflops"] = {name: contest.flops / t["median"] / 1e9 for name, t in record["measured"].items()}
    if contest.own_flops is not None:
        record["true_gflops"] = contest.own_flops / float(np.median(times[0])) / 1e9
    return record


def _whole(least: int, most: int) -> Callable[[str], int]:
    def number(given: str) -> int:
        if not given.isdecimal() or not least <= int(given) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}, got {given!r}")
        return int(given)

    return number


def _condition(cases: Sequence[Case]) -> Callable[[str], tuple[str, list[str]]]:
    fields = list(dict.fromkeys(f for case in cases for f in case))

    def condition(given: str) -> tuple[str, list[str]]:
        name, equals, values = given.partition("=")
        if name not in fields or not equals:
            raise argparse.ArgumentTypeError(
                f"must be FIELD=VALUE[,VALUE], FIELD one of {', '.join(fields)}: {given!r}"
            )
        known = list(dict.fromkeys(str(case[name]) for case in cases if name in case))
        if unknown := [v for v in values.split(",") if v not in known]:
            raise argparse.ArgumentTypeError(f"no case has {name}={unknown[0]}, only {', '.join(known)}")
        return name, values.split(",")

    return condition


@contextmanager
def _refusing(parser: argparse.ArgumentParser, out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        parser.error(f"cannot write to {out}: {error.strerror or error}")


def _records(benchmark: Benchmark, cases: Sequence[Case], seed: int, budget: float) -> list[dict[str, Any]]:
    records = []
    with tqdm(cases, desc=benchmark.name, unit="case") as bar:
        for line in benchmark.left_out:
            bar.write(line, file=sys.stderr)
        for case in bar:
            label = text.label(case)
            bar.set_postfix_str(label)
            try:
                records.append(_run_case(benchmark, case, seed, budget))
            except Exception as error:  # one case must not cost the others
                failure = " ".join(f"{type(error).__name__}: {error}".split())
                records.append({"case": dict(case), "failure": failure})
                bar.write(f"{label}: {failure}", file=sys.stderr)
    return records


def main(benchmark: Benchmark) -> int:
    """Runs the benchmark as its command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description=benchmark.question, usage=report.NO_USAGE)
    parser.add_argument("--quick", action="store_true", help="fewer, shorter cases, written as quick-NAME")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        type=_condition(benchmark.cases),
        metavar="FIELD=VALUE[,VALUE]",
        help="only these cases, written as partial-NAME; all of several filters must hold",
    )
    parser.add_argument("--threads", type=_whole(1, machine.cores()), default=min(2, machine.cores()), metavar="N")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: bench/results")
    parser.add_argument("--seed", type=_whole(0, 2**63 - 1), default=0, metavar="S")
    options = parser.parse_args()
    with _refusing(parser, options.out):  # before minutes of measuring
        options.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=options.out).close()

    cases = benchmark.quick_cases if options.quick else benchmark.cases
    cases = [case for case in cases if all(str(case.get(name)) in values for name, values in options.filter)]
    if not cases:
        parser.error("no case passes all filters")
    machine.give_threads(options.threads)
    start = perf_counter()
    try:
        records = _records(benchmark, cases, options.seed, QUICK_BUDGET if options.quick else BUDGET)
    except KeyboardInterrupt:
        print("interrupted, nothing written", file=sys.stderr)
        return 130

    result = {
        "name": benchmark.name,
        "question": benchmark.question,
        **machine.circumstances(benchmark.packages),
        "kind": "quick" if options.quick else "partial" if options.filter else "full",
        "minutes": (perf_counter() - start) / 60,
        "seed": options.seed,
        "tolerance": benchmark.tolerance,
        "judged": benchmark.judged,
        "unit": {"name": benchmark.unit[0], "scale": benchmark.unit[1]},
        "baseline": benchmark.baseline,
        "plot": {"x": benchmark.x, "panels": list(benchmark.panels)} if benchmark.x else None,
        "left_out": list(benchmark.left_out),
        "cases": records,
    }
    prefix = "" if result["kind"] == "full" else f"{result['kind']}-"
    path = options.out / f"{prefix}{benchmark.name}.json"
    with _refusing(parser, options.out):
        path.write_text(json.dumps(result, indent=1) + "\n")
        written = [path, *report.write(path, result)]
    print("\n".join(map(str, written)))
    return 1 if any("failure" in record for record in records) else 0
