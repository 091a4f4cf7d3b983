"""Runs the demo from start to end."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch

from .._backend import backend
from ..data import PictureError
from ..nn import LISTA
from ..training.loop import Budget
from . import photographs, report
from .evaluation import Evaluation, speed
from .folder import DemoError, require_writable
from .sensing import Sensing
from .training import BATCH, on_the_kkt_residual, on_the_truth, train

LAYERS = 16
BUDGETS = {"truth": Budget(3000, 50.0), "kkt": Budget(5000, 70.0)}
QUICK = {"truth": Budget(300, 10.0), "kkt": Budget(600, 10.0)}


def run(images: Path | None, quick: bool, out: Path, seed: int) -> None:
    """Trains networks, compares them with classical solvers, and prints and writes the results.

    Args:
        images: a folder of photographs for the comparison, or None for four photographs of scikit-image. Training
            always uses other photographs.
        quick: whether to train for seconds instead of two minutes. Training ends earlier on a fast machine.
        out: the folder for the results: a figure, a table, the numbers as JSON, and the weights. It is created if it
            does not exist.
        seed: the seed of the measurement matrix, of the training blocks and of their order.

    Raises:
        DemoError: the folder holds a file that is not a picture, or ``out`` cannot be written.
    """
    require_writable(out)
    try:
        held_out = photographs.held_out() if images is None else photographs.from_folder(images)
    except PictureError as error:
        raise DemoError(str(error)) from error
    budgets = QUICK if quick else BUDGETS
    converged = 1000 if quick else 3000
    print(
        "The demo reconstructs photographs from a quarter of their measurements: 64 random numbers for each block of "
        f"16×16 pixels, λ = {Sensing.lam}.\n{backend()}\nCtrl-C ends the training and continues with the results."
    )
    sensing = Sensing(seed)
    blocks = photographs.training_blocks(100_000, seed)
    networks, iterations = {}, {}
    for name, recipe in (("truth", on_the_truth()), ("kkt", on_the_kkt_residual(sensing))):
        net = LISTA(sensing.A, layers=LAYERS, lam=sensing.lam)
        networks[name] = net
        trained = train(net, recipe, sensing, blocks, budgets[name], seed)
        iterations[name] = trained.iterations
        if trained.interrupted:
            print("Training ended early. The results use the best weights so far.")
            break
    evaluation = Evaluation(held_out, sensing)
    results = evaluation.classical(converged)
    for name, net in networks.items():
        results.append(evaluation.network(f"LISTA@16, {'truth' if name == 'truth' else 'KKT'}", net))
    speeds = speed(networks["truth"], evaluation.y, BATCH, 0.5 if quick else 3.0)

    text = report.table(results, speeds)
    report.figure(held_out, results, out / "demo.png")
    (out / "demo.md").write_text(text + "\n", encoding="utf-8")
    for name, net in networks.items():
        torch.save(net.state_dict(), out / f"lista-{name}.pt")
    record = {
        "seed": seed, "quick": quick, "iterations": iterations, "images": [p.name for p in held_out],
        "results": [{k: v for k, v in asdict(r).items() if k != "pictures"} for r in results],
        "speed": [asdict(s) for s in speeds],
    }  # fmt: skip
    (out / "demo.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"\n{text}\n\nThe numbers are means over {', '.join(p.name for p in held_out)}, which no network was trained "
          f"on. The folder {out} has demo.png, demo.md, demo.json and lista-*.pt.")  # fmt: skip
