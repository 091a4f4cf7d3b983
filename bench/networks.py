"""Times every network, forward and in training, against eager PyTorch and torch.compile."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from time import perf_counter

import harness
import lista_compile
import machine
import networks_page
import report
import torch
from networks_cases import BATCHES, KINDS, Problem
from torch import Tensor, nn
from torch.nn import functional as F

NAME = "networks"
QUESTION = "How much faster is each network, of 250×500 and 16 layers, than eager PyTorch and torch.compile?"
# A step's gradient is a product with a residual in which y and A x nearly cancel: 2e-3 of ALISTA's is rounding.
TOLERANCE = 5e-3
BUDGET = 1.0  # seconds of timing for a case
PASSES, ITERATES = ("forward", "training"), ("sparse", "dense")
QUICK = "LISTA,LISTACP", "1,64"  # networks and batches
# A program takes 4 to 23 seconds to compile, so torch.compile takes part where it says most.
COMPILED = ("forward", 1), ("forward", 64), ("training", 64)
# What makes all contestants, or one, use fewer instructions than the processor has.
VARIABLES = "FASTUNROLL_ISA", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY"


@lru_cache(maxsize=1)
def _problem(name: str, batch: int, seed: int) -> Problem:
    """Makes a problem and resets torch.compile, which runs a function eagerly after eight compiled programs."""
    torch._dynamo.reset()
    return Problem(name, batch, seed)


@lru_cache(maxsize=1)
def _program(twin: nn.Module) -> Callable[[Tensor], Tensor]:
    return torch.compile(twin, dynamic=False)


def _forward(model: Callable[[Tensor], Tensor], y: Tensor) -> harness.Contestant:
    @torch.no_grad()
    def run() -> Tensor:
        return model(y)

    return harness.Contestant(run)


def _training(model: Callable[[Tensor], Tensor], net: nn.Module, y: Tensor, target: Tensor) -> harness.Contestant:
    """Returns a training step without the optimiser. Gradients of parameters of the same name are compared together."""
    parameters = dict(net.named_parameters())

    def run() -> list[Tensor | None]:
        for p in parameters.values():
            p.grad = None
        F.mse_loss(model(y), target).backward()
        return [p.grad for p in parameters.values()]

    def read(gradients: Sequence[Tensor | None]) -> list[Tensor]:
        """Whatever has no effect, such as the first W₂, has no gradient, or zero."""
        groups: dict[str, list[Tensor]] = {}
        for (name, p), g in zip(parameters.items(), gradients, strict=True):
            group = groups.setdefault(name.rpartition(".")[0], [])
            group.append((torch.zeros_like(p) if g is None else g).flatten())
        return [torch.cat(group) for group in groups.values()]

    return harness.Contestant(run, read)


def build(case: harness.Case, seed: int, compiled: bool) -> harness.Comparison:
    batch, iterates = int(case["B"]), str(case["iterates"])
    problem = _problem(str(case["network"]), batch, seed)
    y = problem.make(iterates)
    models: dict[str, Callable[[Tensor], Tensor]] = {"fastunroll": problem.net, "eager": problem.twin}
    if compiled and (case["pass"], batch) in COMPILED:
        models["torch.compile"] = _program(problem.twin)
    if case["pass"] == "forward":
        contestants = {name: _forward(model, y) for name, model in models.items()}
    else:
        contestants = {name: _training(model, problem.net, y, problem.target) for name, model in models.items()}
    return harness.Comparison(contestants, figures={"density": problem.density(y)})


def _cases(names: Sequence[str], batches: Sequence[int], passes: Sequence[str]) -> list[harness.Case]:
    """Returns the cases. Pass and iterates vary fastest, because they share the program of a network and shape."""
    return [
        {"network": name, "B": batch, "iterates": iterates, "pass": way}
        for name, batch, iterates, way in product(names, batches, ITERATES, passes)
        if iterates == "dense" or KINDS[name].scale is not None
    ]


def _listed(known: Sequence[str]) -> Callable[[str], list[str]]:
    def names(given: str) -> list[str]:
        if unknown := [name for name in given.split(",") if name not in known]:
            raise argparse.ArgumentTypeError(f"must be some of {','.join(known)}, got {unknown[0]!r}")
        return given.split(",")

    return names


def _seconds(given: str) -> float:
    try:
        value = float(given)
    except ValueError:
        value = 0.0
    if not 0 < value < 3600:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, got {given!r}")
    return value


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=QUESTION, usage=report.NO_USAGE)
    names, batches = list(KINDS), [str(b) for b in BATCHES]
    parser.add_argument("--networks", type=_listed(names), metavar="NAME,NAME", help=", ".join(names))
    parser.add_argument("--batches", type=_listed(batches), metavar="B,B", help=", ".join(batches))
    parser.add_argument("--forward-only", action="store_true", help="no training steps")
    parser.add_argument("--dense-only", action="store_true", help="only iterates without zeros")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile; so is --quick")
    parser.add_argument("--quick", action="store_true", help="two networks, two batches, for a short time")
    parser.add_argument(
        "--seconds-per-case",
        type=_seconds,
        metavar="S",
        help=f"default: {BUDGET:g}; if quick {harness.QUICK_BUDGET_S:g}",
    )
    threads = min(2, machine.cores())
    parser.add_argument("--threads", type=int, default=threads, choices=range(1, machine.cores() + 1), metavar="N")
    parser.add_argument("--out", type=Path, default=harness.RESULTS, metavar="DIR", help="default: bench/results")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    return parser


def main() -> int:
    parser = _options()
    options = parser.parse_args()
    some = (options.networks, options.batches, options.forward_only, options.dense_only, options.no_compile)
    kind = "quick" if options.quick else "partial" if any(some) else "full"
    names, batches = (
        given or (few.split(",") if options.quick else every)
        for given, few, every in zip(
            (options.networks, options.batches), QUICK, (list(KINDS), list(map(str, BATCHES))), strict=True
        )
    )
    cases = _cases(names, [int(b) for b in batches], PASSES[:1] if options.forward_only else PASSES)
    if options.dense_only:
        cases = [case for case in cases if case["iterates"] == "dense"]
    compiled = not (options.quick or options.no_compile or lista_compile.MISSING)
    budget = options.seconds_per_case or (harness.QUICK_BUDGET_S if options.quick else BUDGET)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"cannot write to {options.out}: {error.strerror or error}")

    machine.give_threads(options.threads)
    benchmark = harness.Benchmark(
        name=NAME,
        question=QUESTION,
        cases=cases,
        quick_cases=[],
        build=partial(build, compiled=compiled),
        baseline="eager",
        tolerance=TOLERANCE,
        left_out=[lista_compile.MISSING] if lista_compile.MISSING else [],
    )
    start = perf_counter()
    try:
        records = harness._records(benchmark, cases, options.seed, budget)
    except KeyboardInterrupt:
        print("interrupted, nothing written", file=sys.stderr)
        return 130
    result = {
        "name": NAME,
        "question": QUESTION,
        **machine.circumstances(()),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "eager_instruction_set": torch.backends.cpu.get_cpu_capability(),
        "kind": kind,
        "minutes": (perf_counter() - start) / 60,
        "seed": options.seed,
        "seconds_per_case": budget,
        "tolerance": TOLERANCE,
        "targets": networks_page.targets(records),
        "cases": records,
    }
    path = options.out / f"{'' if kind == 'full' else f'{kind}-'}{NAME}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(path, networks_page.write(path, result), sep="\n")
    return 1 if any("failure" in record for record in records) else 0


if __name__ == "__main__":
    sys.exit(main())
