"""Measures the peak memory of a LISTA training step, each contestant in a separate process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import harness
import lista_compile
import lista_jax
import lista_memory_step
import torch
from lista_cases import MEDIUM, SMALL, grid, problem

LEFT_OUT = {"torch.compile": lista_compile.MISSING, "JAX": lista_jax.MISSING}


def build(case: harness.Case, seed: int) -> harness.Comparison:
    given = problem(case, seed)

    def peak(name: str) -> harness.Run:
        def run() -> float:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "problem.pt"
                torch.save(given, path)
                threads = str(torch.get_num_threads())
                command = [sys.executable, lista_memory_step.__file__, name, str(path), threads]
                return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

        return run

    return harness.Comparison(
        {name: harness.Contestant(peak(name)) for name in lista_memory_step.STEPS if not LEFT_OUT.get(name)}
    )


BENCHMARK = harness.Benchmark(
    name="lista_memory",
    question="How much memory does a LISTA training step need, above what is there before it?",
    cases=grid([MEDIUM], [8192], ["trained"]),
    quick_cases=grid([SMALL], [1024], ["trained"])[:1],
    build=build,
    baseline="eager sign·relu",
    unit=("MiB", 2.0**-20),
    packages=("jax",),
    left_out=[line for line in LEFT_OUT.values() if line],
)

if __name__ == "__main__":
    sys.exit(harness.main(BENCHMARK))
