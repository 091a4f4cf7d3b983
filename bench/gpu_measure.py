"""One question to a GPU, answered in lines of JSON as they are found: run by gpu.py, or by hand.

    python bench/gpu_measure.py ceilings | dispatch | forward | training | solver

Times are medians in µs: of calls by the wall clock, as a loop sees them; and of replays of a CUDA graph, which leave
out what the host takes. Errors are relative, against the same network in float64.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import product
from time import perf_counter
from typing import Any

import fastunroll as fu
import torch
from fastunroll.ops.cuda import timings
from fastunroll.tune import tune
from lista_eager import eager, weights
from torch import Tensor

Run = Callable[[], Any]
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}
# Relative errors that are no mistake: 16 layers, and elements that round to the other side of their threshold.
TOLERANCES = {"float32": 1e-4, "tf32": 3e-2, "bfloat16": 0.2}
DEVICE = torch.device("cuda", 0)
LAYERS = 16


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


@contextmanager
def precision(name: str) -> Iterator[torch.dtype]:
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    yield PRECISIONS[name]
    torch.backends.cuda.matmul.allow_tf32 = False


def of_calls(run: Run, seconds: float = 0.3) -> float:
    """Returns the median time of calls that each wait for the device."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    samples: list[float] = []
    end = perf_counter() + seconds
    while perf_counter() < end or len(samples) < 5:
        began = perf_counter()
        run()
        torch.cuda.synchronize()
        samples.append(perf_counter() - began)
    return statistics.median(samples) * 1e6


def graph_of(run: Run) -> Run:
    """Captures a call in a CUDA graph and returns a function that replays it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def of_replays(run: Run, seconds: float = 0.2) -> float:
    """Returns the median time of replays of a CUDA graph, by the clock of the device."""
    replay = graph_of(run)
    samples: list[float] = []
    end = perf_counter() + seconds
    while perf_counter() < end or len(samples) < 5:
        begin, finish = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        replay()
        finish.record()
        finish.synchronize()
        samples.append(begin.elapsed_time(finish) * 1e3)
    return statistics.median(samples)


def measured(contestants: dict[str, Run], exact: Tensor, tolerance: float) -> dict[str, Any]:
    """Measures errors first and then times. It does not time a contestant with too large an error."""
    found: dict[str, Any] = {}
    for name, run in contestants.items():
        try:
            error = float((run().double() - exact).norm() / exact.norm())
            found[name] = {"error": error}
            if error > tolerance:
                found[name]["failed"] = f"error above {tolerance}"
                continue
            found[name]["call"] = of_calls(run)
            found[name]["replay"] = None if "compile" in name else of_replays(run)
        except (RuntimeError, torch.cuda.OutOfMemoryError) as problem:
            found[name] = {"failed": str(problem).splitlines()[0][:200]}
    return found


def network(m: int, n: int, tied: bool, dtype: torch.dtype) -> fu.nn.LISTA:
    """Returns LISTA with the weights of ISTA and small changes, so that all layers differ."""
    torch.manual_seed(0)
    A = torch.randn(m, n, dtype=torch.float64)
    net = fu.nn.LISTA(A / A.norm(dim=0), layers=LAYERS, tied=tied, lam=0.2)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1 + 0.02 * torch.randn_like(p))
    return net.to(DEVICE, dtype)


def compiled(run: Run) -> Run:
    fast = torch.compile(run, mode="reduce-overhead")

    def again() -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return fast()

    return again


def ceilings(quick: bool) -> None:
    size = 1 << (24 if quick else 30)
    a = torch.empty(size, device=DEVICE, dtype=torch.uint8)
    b = torch.empty_like(a)
    say(ceiling="copy", unit="TB/s", value=2 * size / of_replays(lambda: b.copy_(a)) / 1e6)
    rows = 1024 if quick else 65536
    for name in PRECISIONS:
        with precision(name) as dtype:
            x = torch.randn(rows, 768, device=DEVICE, dtype=dtype)
            w = torch.randn(768, 512, device=DEVICE, dtype=dtype)
            out = torch.empty(rows, 512, device=DEVICE, dtype=dtype)
            took = of_replays(partial(torch.mm, x, w, out=out))
        say(ceiling=f"product {name}", unit="TFLOP/s", value=2 * rows * 768 * 512 / took / 1e6)


def dispatch(quick: bool) -> None:
    """Times all kernels and stores the timings, by which the following calls choose their kernels."""
    found = tune(DEVICE, sizes=(512,), batches=(1, 64), precisions=("single",)) if quick else tune(DEVICE)
    found.write(timings.own_folder() / timings.file_name(found.device))
    say(**asdict(found))


def forward(quick: bool) -> None:
    """Measures the most important cases first."""
    sizes = [(250, 500)] if quick else [(250, 500), (64, 256)]
    batches = (64, 5) if quick else (64, 1024, 65536, 1)
    for (m, n), name, tied, batch in product(sizes, PRECISIONS, (False, True), batches):
        with precision(name) as dtype, torch.no_grad():
            net = network(m, n, tied, dtype)
            y = torch.randn(batch, m, device=DEVICE, dtype=dtype)
            w = weights(net)
            w1, w2, theta = ([t.double() for t in group] for group in w)
            exact = eager(y.double(), w1, w2, theta)
            contestants: dict[str, Run] = {"fastunroll": partial(net, y), "eager": partial(eager, y, *w)}
            if n == 500:  # it takes seconds to compile
                contestants["torch.compile with graphs"] = compiled(partial(eager, y, *w))
            found = measured(contestants, exact, TOLERANCES[name])
        say(m=m, n=n, B=batch, precision=name, matrices="tied" if tied else "untied", contestants=found)


def _eager_of(net: fu.nn.LISTA, y: Tensor) -> Tensor:
    return eager(y, *weights(net))


def _step(
    run: Callable[[Tensor], Tensor], y: Tensor, target: Tensor, parameters: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    loss = (run(y) - target).square().mean()
    return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)


def training(quick: bool) -> None:
    for name, batch in product(("float32", "tf32"), (64, 3) if quick else (65536, 1024, 64)):
        with precision(name) as dtype:
            net = network(250, 500, False, dtype)
            y = torch.randn(batch, 250, device=DEVICE, dtype=dtype)
            target = torch.randn(batch, 500, device=DEVICE, dtype=dtype)
            parameters = list(net.parameters())

            found: dict[str, Any] = {}
            steps = {
                "fastunroll": partial(_step, net, y, target, parameters),
                "eager": partial(_step, partial(_eager_of, net), y, target, parameters),
            }
            grads = {name: step()[0].double() for name, step in steps.items()}
            error = float((grads["fastunroll"] - grads["eager"]).norm() / grads["eager"].norm())
            del grads
            for rival, step in steps.items():
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
                held = torch.cuda.memory_allocated()
                step()
                peak = torch.cuda.max_memory_allocated() - held
                found[rival] = {"call": of_calls(step), "memory": peak}
        say(m=250, n=500, B=batch, precision=name, step="training", disagreement=error, contestants=found)


def solver(quick: bool) -> None:
    iterations = 20 if quick else 500
    for batch in (3,) if quick else (64, 1024):
        torch.manual_seed(0)
        A = torch.randn(250, 500, dtype=torch.float64)
        A = (A / A.norm(dim=0)).to(DEVICE)
        y = torch.randn(batch, 250, device=DEVICE, dtype=torch.float64)
        step = 1 / float(torch.linalg.matrix_norm(A, 2)) ** 2
        with torch.no_grad():
            exact = _fista(A, y, step, iterations)
            a, b = A.float(), y.float()
            contestants: dict[str, Run] = {
                "fastunroll": partial(fu.solvers.fista, a, b, 0.1, iterations=iterations, step=step),
                "eager": partial(_fista, a, b, step, iterations),
            }
            say(m=250, n=500, B=batch, iterations=iterations, contestants=measured(contestants, exact, 1e-3))


def _fista(A: Tensor, y: Tensor, step: float, iterations: int) -> Tensor:
    """FISTA as people write it."""
    x = v = y.new_zeros(y.shape[0], A.shape[1])
    t = 1.0
    for _ in range(iterations):
        z = v - step * (v @ A.mT - y) @ A
        new = torch.sign(z) * torch.relu(z.abs() - 0.1 * step)
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        x, v, t = new, new + (t - 1) / following * (new - x), following
    return x


def main() -> None:
    questions = {"ceilings": ceilings, "dispatch": dispatch, "forward": forward, "training": training, "solver": solver}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=questions)
    parser.add_argument("--quick", action="store_true", help="small cases, for trying the script out")
    options = parser.parse_args()
    questions[options.question](options.quick)


if __name__ == "__main__":
    main()
