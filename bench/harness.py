"""Runs a benchmark. It checks errors first, then times contestants in turn, and writes JSON with a table and a plot.

A *case* is a labelled configuration. Its *contestants* compute the same result in different ways. The first contestant
is fastunroll, and the others are rivals. If results disagree in a case, the harness reports the case, does not time it,
and exits with status 1.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import re
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
MIN_SAMPLE_S = 1e-3  # shorter calls are repeated within a sample, so that the resolution of the clock does not matter
LONG_CALL_S = 0.03  # the error check has already warmed up longer calls
OWN_WARM_UP_S = 0.2  # waking threads is a small part of longer calls
WARM_UP_S = 0.02  # warm-up of each contestant after the error check
WARM_TURN_S = 0.01  # warm-up before a turn, in which the system moves woken threads to different processors
SAMPLES = 3, 40  # fewest and most samples of a contestant in a case; the budget decides between them
BUDGET_S, QUICK_BUDGET_S = 1.5, 0.4  # time of all measurements of a case, by default
TRIALS, PATIENCE_S = 3, 10.0  # a disturbed case is measured again, at most 3 times and not after 10 seconds
PAUSE_S, MAX_PAUSES = 0.005, 20  # the harness pauses until the threads of a contestant stop spinning


@dataclass(frozen=True)
class Contestant:
    """A way to compute the result.

    Attributes:
        run: a function that does all the work in each call.
        read: a function that converts the result to a tensor, an array or a list of these. It is not timed.
        own_threads: whether it has a separate thread pool, so that the harness must pause before and after it.
        note: a note for readers about this contestant in this case.
        problems: the number of problems that a call solves. The table shows the time for a single problem.
        ours: whether it is fastunroll and not a rival. The first contestant always is fastunroll.
        compared: whether its result must be the expected one. If its method is another one, its result is finite.
    """

    run: Run
    read: Callable[[Any], Any] = field(default=lambda result: result)
    own_threads: bool = False
    note: str = ""
    problems: int = 1
    ours: bool = False
    compared: bool = True


@dataclass(frozen=True)
class Comparison:
    """The contestants of a case.

    Attributes:
        contestants: the contestants by name. The first is fastunroll.
        oracle: computes the result in float64. Without it, all results are compared with the first.
        figures: further columns of the table, such as a measured density.
        flops: the operations of the dense computation, for effective GFLOP/s.
        own_flops: the operations that fastunroll cannot skip, for true GFLOP/s.
        check: measures the error of a result if results need not agree. It returns the ``median`` and ``largest``
            error, the number of samples that ``missed`` the tolerance and the number ``of`` all samples, and whether
            enough samples ``reached`` the tolerance. A rival that does not reach it stays in the table, but cannot be
            the best rival.
    """

    contestants: Mapping[str, Contestant]
    oracle: Run | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    flops: float | None = None
    own_flops: float | None = None
    check: Callable[[Any], Mapping[str, float]] | None = None


@dataclass(frozen=True)
class Benchmark:
    """A question and the cases that answer it.

    Attributes:
        name: the name of the record and its page.
        question: the question, as a sentence.
        cases: all cases.
        quick_cases: the cases of a quick run.
        build: makes the comparison of a case from a seed. It runs after ``machine.give_threads``.
        baseline: the best-known rival. The plot shows it beside the best rival.
        tolerance: the largest ‖found − expected‖ / ‖expected‖ of any tensor in a result. Without it, ``run`` returns
            the measured number, such as bytes, and is called once.
        checked: the quantity that ``Comparison.check`` measures.
        unit: the unit of the table, and its number in a second or byte.
        x: the field of cases on the horizontal axis of the plot. Without it there is no plot.
        panels: the fields of cases whose values get separate panels.
        plotted: for some fields of cases, the values that the plot shows. A field with one value is in no legend.
        packages: the packages of rivals, for the list of versions.
        left_out: a line for each rival that does not compete, with the reason.
        budget: the seconds in which the turns of a case should end. Rivals that are nearly as fast need many turns.
    """

    name: str
    question: str
    cases: Sequence[Case]
    quick_cases: Sequence[Case]
    build: Callable[[Case, int], Comparison]
    baseline: str
    tolerance: float | None = None
    checked: str = ""
    unit: tuple[str, float] = ("ms", 1e3)
    x: str | None = None
    panels: Sequence[str] = ()
    plotted: Mapping[str, Sequence[int | float | str]] = field(default_factory=dict)
    packages: Sequence[str] = ()
    left_out: Sequence[str] = ()
    budget: float = BUDGET_S


class Mismatch(Exception):
    """A contestant's result is not the expected one."""


def _arrays(result: Any) -> list[NDArray[Any]]:
    parts = result if isinstance(result, (list, tuple)) else [result]
    arrays = [np.asarray(p.detach().cpu() if isinstance(p, torch.Tensor) else p) for p in parts]
    return [a.astype(np.result_type(a.dtype, np.float64)) for a in arrays]


def relative_errors(comparison: Comparison, tolerance: float) -> dict[str, float]:
    """Returns the largest relative error of each contestant. Raises Mismatch if an error exceeds the tolerance."""
    ours = next(iter(comparison.contestants.values()))
    expected = _arrays(comparison.oracle() if comparison.oracle else ours.read(ours.run()))
    scale = [float(np.linalg.norm(e)) or 1.0 for e in expected]
    errors = {}
    for name, contestant in comparison.contestants.items():
        found = _arrays(contestant.read(contestant.run()))
        if not contestant.compared:
            if not all(np.isfinite(f).all() for f in found):
                raise Mismatch(f"{name}: a result that is not finite")
            continue
        if [f.shape for f in found] != [e.shape for e in expected]:
            raise Mismatch(f"{name}: shapes {[f.shape for f in found]}, expected {[e.shape for e in expected]}")
        parts = [float(np.linalg.norm(f - e)) / s for f, e, s in zip(found, expected, scale, strict=True)]
        errors[name] = float(np.max(parts))
        if not errors[name] <= tolerance:  # true for NaN too
            raise Mismatch(f"{name}: relative error {errors[name]:.2g}, tolerance {tolerance:.0g}")
    return errors


def _sample(run: Run, repeats: int) -> float:
    start = perf_counter()
    for _ in range(repeats):
        run()
    return (perf_counter() - start) / repeats


def _pause() -> None:
    """Waits until no thread of this process spins. OpenMP threads spin for 10 ms after work, ONNX Runtime's for 50."""
    for _ in range(MAX_PAUSES):
        before = process_time()
        sleep(PAUSE_S)
        if process_time() - before < PAUSE_S / 5:
            return


def _turns(comparison: Comparison, budget: float) -> tuple[NDArray[Any], list[int]]:
    """Returns the times (contestants, turns), and the number of calls in a sample of each contestant."""
    contestants = list(comparison.contestants.values())
    first = [_sample(c.run, 1) for c in contestants]  # the error check has called each contestant before
    once = [
        t if t > LONG_CALL_S else _sample(c.run, math.ceil(WARM_UP_S / t))
        for c, t in zip(contestants, first, strict=True)
    ]
    repeats = [math.ceil(MIN_SAMPLE_S / t) for t in once]
    # The time of a contestant must not include waking its threads and loading its weights into the cache.
    warm = [math.ceil(WARM_TURN_S / t) if t < OWN_WARM_UP_S else 0 for t in once]

    def turn() -> list[float]:
        times = []
        pool: object = None
        for index, c in enumerate(contestants):
            mine = index if c.own_threads else None
            if mine != pool or index == 0:
                _pause()
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


def _undisturbed(comparison: Comparison, budget: float) -> tuple[NDArray[Any], list[int], float]:
    """Returns the least disturbed of several trials, and the share of the processors that other programs took."""
    trials: list[tuple[NDArray[Any], list[int], float]] = []
    start = perf_counter()
    while len(trials) < TRIALS and perf_counter() - start < PATIENCE_S:
        others = machine.Others()
        times, repeats = _turns(comparison, budget)
        trials.append((times, repeats, others.share()))
        if trials[-1][-1] < report.DISTURBED:
            break
    return min(trials, key=lambda trial: trial[-1])


def _quartiles(values: NDArray[Any]) -> dict[str, float]:
    q1, median, q3 = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    return {"median": median, "q1": q1, "q3": q3}


def _measured(comparison: Comparison, values: NDArray[Any], solved: Collection[str] = ()) -> dict[str, Any]:
    """Returns the quartiles of the times, of the ratios of rivals to fastunroll in the same turn, and the best rival.

    The best rival has the smallest median, so it is a single program and not another program in each turn. If any
    rivals have ``solved`` the problems, the best rival is one of them.

    Args:
        comparison: the comparison.
        values: the times (contestants, turns).
        solved: the names of contestants that have solved the problems.
    """
    names = list(comparison.contestants)
    measured = {name: _quartiles(v) for name, v in zip(names, values, strict=True)}
    ratios = {name: _quartiles(v / values[0]) for name, v in zip(names[1:], values[1:], strict=True)}
    rivals = [name for name in names[1:] if not comparison.contestants[name].ours]
    able = [name for name in rivals if name in solved] or rivals
    best = min(able, key=lambda name: measured[name]["median"])
    return {"measured": measured, "ratios": ratios, "best": {"rival": best, "ratio": ratios[best]}}


def _run_case(benchmark: Benchmark, case: Case, seed: int, budget: float) -> dict[str, Any]:
    gc.collect()
    comparison = benchmark.build(case, seed)
    notes = {name: c.note for name, c in comparison.contestants.items() if c.note}
    record: dict[str, Any] = {"case": dict(case), "figures": dict(comparison.figures), "notes": notes}
    if comparison.check is not None:
        record["checked"] = {
            name: dict(comparison.check(c.read(c.run()))) for name, c in comparison.contestants.items()
        }
    elif benchmark.tolerance is None:
        return {
            **record,
            **_measured(comparison, np.array([[c.run()] for c in comparison.contestants.values()], float)),
        }
    else:
        record["errors"] = relative_errors(comparison, benchmark.tolerance)
    times, repeats, record["others"] = _undisturbed(comparison, budget)
    record["samples"] = times.shape[1]
    record["repeats"] = dict(zip(comparison.contestants, repeats, strict=True))
    solved = [name for name, found in record.get("checked", {}).items() if found["reached"]]
    record.update(_measured(comparison, times, solved))
    if comparison.flops is not None:
        record["gflops"] = {name: comparison.flops / t["median"] / 1e9 for name, t in record["measured"].items()}
    if comparison.own_flops is not None:
        record["true_gflops"] = comparison.own_flops / float(np.median(times[0])) / 1e9
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
        wanted = re.split(r",(?! )", values)  # values such as "blur, wavelet" have commas of their own
        if unknown := [v for v in wanted if v not in known]:
            raise argparse.ArgumentTypeError(f"no case has {name}={unknown[0]}, only {','.join(known)}")
        return name, wanted

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
            except Exception as error:  # a case that fails must not end the others
                failure = " ".join(f"{type(error).__name__}: {error}".split())
                records.append({"case": dict(case), "failure": failure})
                bar.write(f"{label}: {failure}", file=sys.stderr)
    return records


def main(benchmark: Benchmark) -> int:
    """Runs the benchmark with the options of the command line, and returns the exit code."""
    parser = argparse.ArgumentParser(description=benchmark.question, usage=report.NO_USAGE)
    parser.add_argument("--quick", action="store_true", help="fewer, shorter cases, written as quick-NAME")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        type=_condition(benchmark.cases),
        metavar="FIELD=VALUE[,VALUE]",
        help="run only cases that fulfil all filters, and write them as partial-NAME",
    )
    parser.add_argument("--threads", type=_whole(1, machine.cores()), default=min(2, machine.cores()), metavar="N")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: bench/results")
    parser.add_argument("--seed", type=_whole(0, 2**63 - 1), default=0, metavar="S")
    options = parser.parse_args()
    with _refusing(parser, options.out):  # fails before minutes of measurements
        options.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=options.out).close()

    cases = benchmark.quick_cases if options.quick else benchmark.cases
    cases = [case for case in cases if all(str(case.get(name)) in values for name, values in options.filter)]
    if not cases:
        parser.error("no case passes all filters")
    machine.give_threads(options.threads)
    start = perf_counter()
    try:
        records = _records(benchmark, cases, options.seed, QUICK_BUDGET_S if options.quick else benchmark.budget)
    except KeyboardInterrupt:
        print("interrupted, nothing written", file=sys.stderr)
        return 130

    torch.set_num_threads(options.threads)  # cases may have set others
    result = {
        "name": benchmark.name,
        "question": benchmark.question,
        **machine.circumstances(benchmark.packages),
        "kind": "quick" if options.quick else "partial" if options.filter else "full",
        "minutes": (perf_counter() - start) / 60,
        "seed": options.seed,
        "tolerance": benchmark.tolerance,
        "checked": benchmark.checked,
        "unit": {"name": benchmark.unit[0], "scale": benchmark.unit[1]},
        "baseline": benchmark.baseline,
        "plot": {"x": benchmark.x, "panels": list(benchmark.panels), "plotted": dict(benchmark.plotted)}
        if benchmark.x
        else None,
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
