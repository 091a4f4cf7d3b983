"""Runs an imaging demo: chooses weights λ, trains a network, evaluates every method, and writes the results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..._backend import backend
from ...nn import Unrolled
from ...training.loop import Budget, Trained, grown
from . import evaluation, figure, report, rivals
from .classical import Method, choose
from .evaluation import Result
from .network import LAYERS, load_shipped, save
from .scene import Scene
from .training import Batch, Draw, Outputs, train

LONGEST = 7200.0  # seconds of the training of weights that ship with the package
RATE = 2e-3  # of learning
RIVAL_NUMBERS_RATE = 3.0  # its noise levels are no logarithms
PICTURES = 4  # training pictures on which a weight λ is chosen


@dataclass(frozen=True)
class Experiment:
    """What a demo compares.

    Attributes:
        name: the name of the command, of files and of shipped weights.
        title: the title of the figure.
        scenes: the pictures for tests.
        network: the function that makes a network, with weights drawn from a seed.
        rival: the function that makes a network of DeepInverse, from the name of its algorithm and a seed.
        draw: the function that draws training pictures.
        tune: the function that draws the training pictures on which weights λ are chosen.
        methods: the classical methods.
        naive: the name of the picture before a reconstruction.
        steps: the number of steps of the training of the shipped weights.
        batch: the number of pictures of a step of the training.
        numbers_rate: the learning rate of steps, momenta and the logarithms of noise levels, relative to that of
            filters.
        fade: the weight of the loss of a layer relative to that of the next one.
        half_until: the share of the training in which half of the layers are trained.
        gamma: the exponent of the brightness in the figure.
        ships: whether the shipped weights are for this experiment.
        zooms: the corner and the side of the detail of a scene; by default the place with the most edges.
    """

    name: str
    title: str
    scenes: Sequence[Scene]
    network: Callable[[int], Unrolled]
    rival: Callable[[str, int], nn.Module]
    draw: Draw
    tune: Draw
    methods: Sequence[Method]
    naive: str
    steps: int = 1200
    batch: int = 4
    numbers_rate: float = 3.0
    fade: float = 0.8
    half_until: float = 0.0
    gamma: float = 1.0
    ships: bool = True
    zooms: dict[str, tuple[int, int, int]] = field(default_factory=dict)


def train_weights(experiment: Experiment, path: Path, seed: int) -> None:
    """Trains a network by the recipe of the shipped weights, and writes its weights."""
    net = experiment.network(seed)
    done = _train_unrolled(experiment, net, Budget(experiment.steps, LONGEST), seed)
    save(net, path)
    early = "Training ended early. " if done.interrupted else ""
    print(f"{early}The best weights of {done.iterations} steps are in {path}.")


def layer_outputs(net: Unrolled, half_until: float) -> Outputs:
    """Returns the function that runs a network on a batch, half of its layers at first, and returns their outputs."""
    return lambda batch, spent: net(
        batch.y, return_layers=True, operator=batch.A, depth=grown(net.layers, spent, half_until)
    )


def _train_unrolled(experiment: Experiment, net: Unrolled, budget: Budget, seed: int) -> Trained:
    return train(
        net, layer_outputs(net, experiment.half_until), experiment.draw, budget, batch=experiment.batch, rate=RATE,
        numbers_rate=experiment.numbers_rate, fade=experiment.fade, seed=seed, title=experiment.name,
    )  # fmt: skip


def _trained_rivals(experiment: Experiment, budget: Budget, seed: int) -> dict[str, nn.Module]:
    """Trains the network of DeepInverse for as long as that of the demo, or says that DeepInverse is missing."""
    if not rivals.is_installed():
        print("DeepInverse is not installed, so the table has no network of it: pip install deepinv")
        return {}
    net = experiment.rival("PGD", seed)
    train(
        net, lambda batch, _: net(batch.y, batch.A)[None], experiment.draw, budget, batch=experiment.batch, rate=RATE,
        numbers_rate=RIVAL_NUMBERS_RATE, fade=1.0, seed=seed, title="DeepInverse",
    )  # fmt: skip
    return {f"DeepInverse PGD, {LAYERS} layers, trained here": net}


def run(experiment: Experiment, out: Path, *, budget: Budget | None, seed: int) -> None:
    """Runs a demo, prints its table, and writes a table, a figure, numbers as JSON, and weights.

    Args:
        experiment: what is compared.
        out: the folder of the results.
        budget: how long to train a network, or None to use the shipped weights alone.
        seed: the seed of the training.
    """
    print(backend())
    if budget is not None:
        print("Ctrl-C ends the training and continues with the best weights so far.")
    if not experiment.ships:
        print(
            "The weights of the package are for the Moffat function, so only a network that is trained here takes part."
        )
    weights = _weights(experiment, seed)
    networks: dict[str, Unrolled] = {}
    others: dict[str, nn.Module] = {}
    trained: Trained | None = None
    if budget is not None:
        net = experiment.network(seed)
        trained = _train_unrolled(experiment, net, budget, seed)
        networks[f"unrolled, {LAYERS} layers, trained here"] = net
        save(net, out / f"{experiment.name}.pt")
        if trained.interrupted:
            print("Training ended early. The results use the best weights so far.")
        else:
            others = _trained_rivals(experiment, budget, seed)
    ready = experiment.network(seed)
    if experiment.ships and load_shipped(ready, experiment.name):
        networks[f"unrolled, {LAYERS} layers"] = ready
    results = _results(experiment, weights, networks, others)
    table = report.table(results)
    (out / f"{experiment.name}.md").write_text(table + "\n", encoding="utf-8")
    figure.draw(experiment.title, experiment.scenes, results, experiment.zooms, experiment.gamma).savefig(
        out / f"{experiment.name}.png", dpi=100
    )
    record = {
        "seed": seed, "steps": None if trained is None else trained.iterations,
        "results": [report.record(result) for result in results],
    }  # fmt: skip
    (out / f"{experiment.name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"\n{table}\n\nNo method has seen these pictures before. The times are those of {experiment.scenes[0].name}, "
          f"medians of turns. The folder {out} has {experiment.name}.png, .md and "
          f".json{', and .pt with the weights' if budget else ''}.")  # fmt: skip


def _key(scene: Scene) -> tuple[str, int]:
    """The kind of a scene: scenes of a kind share their weights λ."""
    return type(scene.A).__name__, scene.y.dim()


def _weights(experiment: Experiment, seed: int) -> dict[tuple[str, tuple[str, int]], float]:
    """The weight λ of each method for each kind of scene, chosen on training pictures."""
    kinds = {_key(scene): scene for scene in experiment.scenes}
    generator = torch.Generator().manual_seed(2 * seed + 1)
    batches: dict[tuple[str, int], Batch] = {}
    while len(batches) < len(kinds):
        batch = experiment.tune(PICTURES, generator)
        batches.setdefault((type(batch.A).__name__, batch.y.dim()), batch)
    found = {}
    with tqdm(total=len(kinds) * len(experiment.methods), desc="weights λ", unit="method", dynamic_ncols=True) as bar:
        for kind, batch in batches.items():
            for method in experiment.methods:
                found[method.name, kind] = choose(method, batch.A, batch.y, batch.x, _as_judged)
                bar.update()
    return found


def _as_judged(x: Tensor) -> Tensor:
    return x.abs() if x.is_complex() else x.clamp(0, 1)


def _results(
    experiment: Experiment, weights: dict[tuple[str, tuple[str, int]], float], networks: dict[str, Unrolled],
    others: dict[str, nn.Module],
) -> list[Result]:  # fmt: skip
    results = []
    for i, scene in enumerate(tqdm(experiment.scenes, desc="methods", unit="scene", dynamic_ncols=True)):
        psnr, ssim = scene.psnr(scene.naive), scene.ssim(scene.naive)
        results.append(Result(experiment.naive, scene.name, psnr, ssim, None, None, scene.naive))
        runs = [evaluation.classical(m, scene, weights[m.name, _key(scene)]) for m in experiment.methods]
        runs += [evaluation.rival(name, net, scene) for name, net in others.items()]
        for k, (name, net) in enumerate(networks.items(), 1 - len(networks)):
            runs.append(evaluation.unrolled(name, net, scene, "tab:orange" if k else "tab:red", drawn=k == 0))
        results += evaluation.evaluate(runs, scene, timed=i == 0)
    return results
