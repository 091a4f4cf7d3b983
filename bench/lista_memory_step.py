"""Runs a LISTA training step in a new process, and prints the peak memory minus the resident memory before it."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import lista_compile
import lista_jax
import machine
import torch
from fastunroll.nn import LISTA
from harness import Contestant
from lista_eager import relu_relu, sign_relu, squared_error, step, training
from torch import Tensor

STEPS: dict[str, Callable[[LISTA, Tensor, Tensor], Contestant]] = {
    "fastunroll": lambda model, y, x: step(model, lambda: squared_error(model(y), x)),
    "eager sign·relu": lambda model, y, x: training(model, y, x, sign_relu),
    "eager relu−relu": lambda model, y, x: training(model, y, x, relu_relu),
    # It compiles in a first step, so what that leaves behind does not count: in its favour.
    "torch.compile": lista_compile.training,
    "JAX": lista_jax.training,
}


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _peak_of(run: Callable[[], object]) -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else what was freed is still resident, and used again for free
    before = _status("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far, such as of imports, is forgotten
    except OSError:
        run()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    run()
    return _status("VmHWM") - before


def main() -> None:
    name, path, threads = sys.argv[1:]
    machine.give_threads(int(threads))
    model, x, y = torch.load(path, weights_only=False)
    small = torch.nn.Linear(2, 2)
    small(torch.ones(2)).sum().backward()  # the autograd engine starts its threads
    contestant = STEPS[name](model, y, x)
    model.zero_grad(set_to_none=True)
    print(_peak_of(contestant.run))


if __name__ == "__main__":
    main()
