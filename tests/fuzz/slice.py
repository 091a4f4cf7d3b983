"""Some calls of one seed, in this process: a line of JSON for each beginning and each finding."""

from __future__ import annotations

import faulthandler
import json
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable

import fastunroll as fu
import torch
from fastunroll import _fastunroll

from . import (
    certificates,
    functions,
    imaging_layers,
    imaging_losses,
    imaging_operators,
    imaging_solvers,
    layers,
    networks,
    pieces,
    solvers,
)  # fmt: skip
from .compare import Finding
from .draw import Draw
from .subject import Subject
from .transforms import check

LIMIT = 120.0  # seconds, after which a call hangs

SUBJECTS: dict[str, tuple[float, Callable[[Draw], Subject]]] = {
    "unrolled": (35, layers.unrolled),
    "network": (35, networks.network),
    "own_pieces": (10, pieces.own_pieces),
    "soft_threshold": (4, functions.soft_threshold),
    "gradient_step": (2, functions.gradient_step),
    "ista_step": (3, functions.ista_step),
    "losses": (2, functions.losses),
    "products": (2, functions.products),
    "ista_layer": (1, functions.ista_layer),
    "iterations": (4, solvers.iterations),
    "admm": (2, solvers.admm),
    "primal_dual": (2, solvers.primal_dual),
    "amp": (2, solvers.amp),
    "picture operator": (16, imaging_operators.product),
    "picture layers": (16, imaging_layers.unrolled),
    "picture network": (12, imaging_layers.network),
    "picture equilibrium": (2, imaging_layers.equilibrium),
    "picture iterations": (3, imaging_solvers.iterations),
    "picture admm": (1, imaging_solvers.admm),
    "picture primal_dual": (1, imaging_solvers.primal_dual),
    "picture measures": (2, imaging_losses.measures),
    "picture losses": (2, imaging_losses.without_truth),
}
CHECKS: dict[str, tuple[float, Callable[[Draw], None]]] = {
    "lasso": (5, certificates.lasso),
    "stopped": (2, certificates.stopped),
    "duality_gap": (1, certificates.duality_gap),
    "certified": (1, certificates.certified),
    "picture norm": (1, imaging_operators.norm),
    "picture check": (0.5, imaging_operators.checked),
    "picture gap": (0.5, imaging_solvers.stopped),
}


def one(d: Draw, only: str = "") -> None:
    """Draws a call and compares it; raises what is wrong. only: the kinds of calls whose name has this word."""
    weights = {name: weight for name, (weight, _) in {**SUBJECTS, **CHECKS}.items() if only in name}
    what = d.pick("what", list(weights), list(weights.values()))
    torch.set_num_threads(d.pick("threads", [1, 2, 3], [3, 2, 1]))
    _fastunroll.use_instruction_set(d.pick("instruction set", sets()))
    _fastunroll.set_dense_above(d.pick("dense above", [0.78, 0.0, 1.0], [4, 1, 1]))
    if what in CHECKS:
        CHECKS[what][1](d)
    else:
        subject = SUBJECTS[what][1](d)
        tell(draws=d.said)  # should the process die of what follows
        check(d, subject)


def sets() -> list[str]:
    """Those that this processor has."""
    found = []
    for name in _fastunroll.compiled_instruction_sets():
        try:
            _fastunroll.use_instruction_set(name)
        except ValueError:
            continue
        found.append(name)
    return found


def tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


def run(seed: int, calls: Iterable[int], only: str = "", *, aloud: bool = False) -> None:
    """Tells of each call that it begins, of what it finds, and at the end how often each feature was drawn."""
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", fu.solvers.ConvergenceWarning)
    warnings.filterwarnings(
        "ignore", "grad and param do not obey", UserWarning
    )  # torch's, of parameters in odd strides
    warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)  # by torch's own forward mode
    warnings.filterwarnings("ignore", ".*movedim", UserWarning)  # of batches that look like colour pictures
    counts: Counter[str] = Counter()
    for call in calls:
        tell(begins=call)
        d = Draw(seed, call)
        faulthandler.dump_traceback_later(LIMIT, exit=True, file=sys.__stderr__)
        try:
            one(d, only)
        except Finding as finding:
            tell(call=call, finding=str(finding), said=d.said)
        except Exception as e:
            frames = traceback.extract_tb(e.__traceback__)
            at = next((f for f in reversed(frames) if "/fuzz/" not in f.filename), frames[-1])
            where = f"{at.filename.rpartition('/')[2]}:{at.lineno}"
            tell(
                call=call,
                finding=f"{type(e).__name__} at {where}: {str(e).splitlines()[0][:200] if str(e) else ''}",
                said=d.said,
            )
            if aloud:
                traceback.print_exc()
        finally:
            faulthandler.cancel_dump_traceback_later()
        if aloud:
            print(*d.said, sep="\n  ", file=sys.stderr)
        counts += d.counts
    tell(counts=counts)
