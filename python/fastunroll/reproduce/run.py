"""Runs the jobs of the table one after another. Each job is trained, tested and stored before the next begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from tqdm import tqdm

from .. import nn
from .._files import write_json
from ..data import SparseRecovery, fixed
from ..training import Stage, search, train
from . import report
from .evaluation import CLASSICAL, of_algorithm, of_network
from .machine import machine
from .recipes import RECIPES, Recipe
from .settings import LAYERS, SETTINGS, SIZE, USUAL
from .speed import step_times
from .stored import ReproduceError, read_results, read_weights, write_weights

_TEST_SEED = 1000  # the seed of test sets; seeds of training are smaller
QUICK = 0.3  # the share of training steps in a quick run


@dataclass(frozen=True)
class Job:
    """A row of the table: a network or a classical algorithm in a setting.

    Attributes:
        name: the name of the network or algorithm.
        setting: the name of the setting.
        seed: the seed of the matrix A.
        size: the size (m, n) of A.
        steps: the share of the recipe's training steps.
        tests: the number of test samples.
    """

    name: str
    setting: str
    seed: int
    size: tuple[int, int]
    steps: float
    tests: int

    @property
    def key(self) -> str:
        m, n = self.size
        return f"{self.name} | {self.setting} | seed {self.seed} | {m}x{n} | steps {self.steps:g} | tests {self.tests}"

    @property
    def file(self) -> str:
        """The name of the files of the job, without extension."""
        return "".join(c if c.isalnum() or c in "-." else "_" for c in self.key.replace(" | ", "-"))

    def schedule(self) -> list[Stage]:
        stages = RECIPES[self.name].schedule(SETTINGS[self.setting].snr)
        return [replace(stage, steps=max(1, round(self.steps * stage.steps))) for stage in stages]

    def weight(self) -> int:
        """Returns the length of the job on the progress bar, in training steps. A search counts like 500 steps."""
        if self.name not in RECIPES:
            return 5
        return sum(stage.steps for stage in self.schedule()) or round(500 * self.steps)


def _jobs(
    networks: Sequence[str], settings: Sequence[str], seeds: Sequence[int], size: tuple[int, int] | None, quick: bool
) -> list[Job]:
    share, tests = (QUICK, 1024) if quick else (1.0, 4096)
    jobs = []
    for seed in seeds:
        for setting in settings:
            jobs += [Job(name, setting, seed, size or SIZE, share, tests) for name in CLASSICAL]
            for name in networks:
                recipe = RECIPES[name]
                chosen = size or recipe.size
                if recipe.after is not None:
                    jobs.append(Job(recipe.after, setting, seed, chosen, share, tests))
                jobs.append(Job(name, setting, seed, chosen, share, tests))
    return list(dict.fromkeys(jobs))


def _search(net: nn.HyperLISTA, problem: SparseRecovery, steps: float) -> None:
    samples = fixed(problem, 4096 if steps == 1 else 512)
    search(net, samples, steps=max(1, round(40 * steps)))


def _trained(job: Job, recipe: Recipe, problem: SparseRecovery, out: Path, bar: Any) -> tuple[nn.UnrolledNetwork, Any]:
    """Returns the trained network, and its errors before training. It loads the weights if they are stored."""
    before = None
    if recipe.after is not None:
        other = replace(job, name=recipe.after)
        before, _ = _trained(other, RECIPES[recipe.after], problem, out, bar)
    net = recipe.build(problem, before)
    untrained = of_network(net, fixed(problem, job.tests, _TEST_SEED))
    weights = out / "weights" / f"{job.file}.pt"
    if weights.exists():
        read_weights(net, weights)
        return net, untrained
    unfinished = weights.with_suffix(".unfinished")
    if isinstance(net, nn.HyperLISTA):
        _search(net, problem, job.steps)
    else:
        history = train(
            net, problem, job.schedule(), rates=recipe.rates, seed=job.seed, checkpoint=unfinished, progress=bar
        )
        if not history.finished:
            raise KeyboardInterrupt
    write_weights(net, weights)
    unfinished.unlink(missing_ok=True)
    return net, untrained


def _result(job: Job, out: Path, bar: Any) -> dict[str, Any]:
    problem = SETTINGS[job.setting].problem(job.size, job.seed)
    test = fixed(problem, job.tests, _TEST_SEED)
    row: dict[str, Any] = {
        "name": job.name, "setting": job.setting, "seed": job.seed, "size": list(job.size), "steps": job.steps,
        "tests": job.tests,
    }  # fmt: skip
    start = perf_counter()
    if job.name not in RECIPES:
        return row | {"layers": of_algorithm(job.name, problem, test, LAYERS), "seconds": perf_counter() - start}
    net, untrained = _trained(job, RECIPES[job.name], problem, out, bar)
    row["seconds"] = perf_counter() - start
    ours, eager = step_times(net, problem)
    return row | {
        "layers": of_network(net, test), "untrained": untrained, "parameters": sum(p.numel() for p in net.parameters()),
        "step_ms": ours, "eager_step_ms": eager,
    }  # fmt: skip


def reproduce(
    networks: Sequence[str] | None,
    settings: Sequence[str] | None,
    seeds: Sequence[int],
    out: Path,
    *,
    size: tuple[int, int] | None = None,
    quick: bool = False,
) -> str:
    """Trains and tests networks, and returns the page with their errors.

    It writes ``reproduction.json``, ``reproduction.md`` and ``reproduction.png`` into the folder ``out``. Results that
    the folder already holds are not computed again.

    Args:
        networks: names of networks, or None for all.
        settings: names of settings, or None for the usual settings.
        seeds: seeds of the matrix A.
        out: the folder of the results.
        size: the size (m, n) of A. The default is the size in the literature.
        quick: whether to train with a share of the steps.

    Raises:
        ReproduceError: a network or setting is unknown, or the folder cannot be used.
    """
    networks = list(RECIPES) if networks is None else networks
    settings = USUAL if settings is None else settings
    for kind, chosen, known in (("network", networks, RECIPES), ("setting", settings, SETTINGS)):
        for name in chosen:
            if name not in known:
                raise ReproduceError(f"{name!r} is not a {kind}: choose from {', '.join(known)}")
    try:
        (out / "weights").mkdir(parents=True, exist_ok=True)
        path = out / "reproduction.json"
        results = read_results(path)
    except OSError as error:
        raise ReproduceError(f"cannot write to {out}: {error.strerror or error}") from None
    jobs = _jobs(networks, settings, seeds, size, quick)
    with tqdm(total=sum(job.weight() for job in jobs), unit="step", dynamic_ncols=True) as bar:
        done = 0
        for job in jobs:
            bar.set_description_str(f"{job.name}, {SETTINGS[job.setting].title}")
            if job.key not in results:
                results[job.key] = _result(job, out, lambda steps, base=done: bar.update(base + steps - bar.n))
                write_json(path, {"results": results, "machine": machine()})
            done += job.weight()
            bar.update(done - bar.n)
    rows = [results[job.key] for job in jobs]
    page = report.page(rows, machine())
    (out / "reproduction.md").write_text(page, encoding="utf-8")
    report.plot(rows, out / "reproduction.png")
    return page
