"""Times the gradient, the linear step of ADMM and FISTA with operators of imaging against what people use today.

All contestants of a gradient are given Aᴴ y, so that F⁻¹ diag(h) F v − Aᴴ y needs no product with A. "eager, A and Aᴴ"
and "DeepInverse" compute Aᴴ(A v − y). In FISTA a loop around the gradient of each rival is given Aᴴ y, and fastunroll
computes it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count, product
from typing import Any

import harness
import machine
import numpy as np
import operators_libraries
import operators_numpy
import operators_torch
import torch
from operators_problems import COILS, FISTA, GRADIENT, SOLVE, Fastunroll, Images, Rival, images, problem

SIZES = (256, 256), (320, 320), (512, 512), (640, 368)
OTHER_SIZES = (64, 64), (218, 170), (255, 341), (356, 311), (768, 512)  # fastMRI's too, and primes above 31
OPERATORS = "blur", "MRI", "MRI, columns", "MRI, 8 coils", "inpainting"
BATCHES = 1, 16
LARGEST_BATCH = 64  # at 256², where a batch exceeds every cache
COMPILED = "256×256"  # torch.compile needs 5 to 20 seconds for a program
LARGEST_OF_LIBRARIES = 16 * COILS * 256**2  # pixels of all coils; a call of larger batches takes up to 10 seconds
COLD_BYTES = 64 << 20  # of images that a contestant takes in turn, twice as many as a last-level cache holds
WARM, COLD = "warm", "cold"


def _rivals(case: harness.Case, of: Any, batch: int) -> dict[str, Rival]:
    task, pixels = str(case["task"]), batch * of.shape[0] * of.shape[1] * (COILS if of.kind == "coils" else 1)
    compiles = case["size"] == COMPILED and case["threads"] == 2 and case["images"] == WARM and task == GRADIENT
    found = operators_torch.rivals(of, batch, task, compiles and batch in BATCHES)
    numpy = operators_numpy.rivals(of, task)
    if pixels > LARGEST_OF_LIBRARIES / (8 if task == FISTA else 1):
        return found | {name: numpy[name] for name in ("scipy.fft", "ducc0") if name in numpy}
    return found | numpy | operators_libraries.rivals(of, task)


def _contestant(rival: Rival, task: str, sets: list[Images]) -> harness.Contestant:
    loaded, turn = [rival.load(one) for one in sets], count()

    @torch.no_grad()
    def run() -> Any:
        return rival.run(task, loaded[next(turn) % len(loaded)])

    return harness.Contestant(run, rival.read, rival.own_threads, rival.note)


def build(case: harness.Case, seed: int) -> harness.Comparison:
    torch.set_num_threads(min(int(case["threads"]), machine.cores()))
    random = torch.Generator().manual_seed(seed)
    batch, task = int(case["B"]), str(case["task"])
    rows, columns = map(int, str(case["size"]).split("×"))
    of = problem(str(case["operator"]), (rows, columns), random)
    one = images(of, batch, random)
    copies = 1 if case["images"] == WARM else -(-COLD_BYTES // (2 * one.x.nbytes))
    sets = [one, *(Images(*(part.clone() for part in one)) for _ in range(copies - 1))]
    rivals: dict[str, Rival] = {"fastunroll": Fastunroll(of), **_rivals(case, of, batch)}
    # The customary count of a complex transform is 5 N log₂ N, of a real one half of that.
    transform = 5 * rows * columns * np.log2(rows * columns) / (2 if of.kind == "blur" else 1)
    flops = 2 * batch * transform * (COILS if of.kind == "coils" else 1)
    return harness.Comparison(
        {name: _contestant(rival, task, sets) for name, rival in rivals.items()},
        flops=float(flops) if task == GRADIENT and of.kind != "inpainting" else None,
    )


def _cases() -> Iterator[harness.Case]:
    def case(task: str, operator: str, size: tuple[int, int], B: int, threads: int = 2, images: str = WARM) -> Any:
        shape = f"{size[0]}×{size[1]}"
        return {"task": task, "operator": operator, "size": shape, "B": B, "threads": threads, "images": images}

    small, fastmri, large = SIZES[:3]
    for operator in OPERATORS:
        for size, batch in product(SIZES, BATCHES):
            yield case(GRADIENT, operator, size, batch)
        yield case(GRADIENT, operator, small, LARGEST_BATCH)
    for operator, size in product(OPERATORS[:2], OTHER_SIZES):
        yield case(GRADIENT, operator, size, 16)
    for operator, batch in product(OPERATORS, BATCHES):
        yield case(GRADIENT, operator, fastmri, batch, threads=1)
    for operator, size in product(OPERATORS, (small, large)):
        yield case(GRADIENT, operator, size, 1, images=COLD)
    closed = "blur", "MRI", "inpainting"
    for operator, (size, batch) in product(closed, ((small, 1), (small, 16), (fastmri, 1), (large, 16))):
        yield case(SOLVE, operator, size, batch)
    for operator in closed[:2]:
        yield case(SOLVE, operator, fastmri, 1, threads=1)
    iterated = "blur", "MRI", "MRI, 8 coils", "inpainting"
    for operator, (size, batch) in product(iterated, ((small, 1), (small, 16), (large, 1))):
        yield case(FISTA, operator, size, batch)
    for operator in iterated:
        yield case(FISTA, operator, fastmri, 1, threads=1)


CASES = list(_cases())

BENCHMARK = harness.Benchmark(
    name="operators",
    question="How fast are the gradient Aᴴ(A x − y), the linear step of ADMM, and FISTA with operators of imaging?",
    cases=CASES,
    quick_cases=[case for case in CASES if case["size"] == "64×64" or (case["threads"], case["B"]) == (1, 1)],
    build=build,
    baseline="eager",
    tolerance=1e-5,
    x="size",
    panels=["operator"],
    plotted={"task": [GRADIENT], "threads": [2], "images": [WARM], "size": [f"{h}×{w}" for h, w in SIZES]},
    packages=["scipy", "ducc0", "pylops", "sigpy", "deepinv", "mrpro"],
    left_out=[
        line for line in (operators_torch.MISSING, *operators_numpy.MISSING, *operators_libraries.MISSING) if line
    ],
)

if __name__ == "__main__":
    sys.exit(harness.main(BENCHMARK))
