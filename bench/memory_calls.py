"""Measures how the resident memory of a process grows over 100,000 calls, with a process for each kind of call."""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fastunroll as fu
import machine
import torch
from harness import RESULTS
from report import KINDS, NO_USAGE
from text import row
from torch import Tensor

M, N, LAYERS, BATCH = 20, 40, 4, 4
CALLS, QUICK_CALLS, WARM = 100_000, 3_000, 1_000
FLAT = 2**20  # bytes by which the memory may differ between two measurements without any growth
HEAD = "kind of call", "calls", "before, MiB", f"after {WARM}, MiB", "at the end, MiB", "growth, bytes a call", ""


def _forward(net: fu.nn.UnrolledNetwork) -> Callable[[], object]:
    y = torch.randn(BATCH, M)

    def call() -> Tensor:
        with torch.no_grad():
            return net(y)

    return call


def _backward(net: fu.nn.UnrolledNetwork) -> Callable[[], object]:
    y = torch.randn(BATCH, M)

    def call() -> None:
        net(y).square().sum().backward()
        net.zero_grad()

    return call


def _training(net: fu.nn.UnrolledNetwork) -> Callable[[], object]:
    step, forward = _backward(net), _forward(net)
    optimizer = torch.optim.SGD(net.parameters(), 1e-6)

    def call() -> None:
        step()
        optimizer.step()
        forward()  # packs the weights, which have changed

    return call


def _batches(net: fu.nn.UnrolledNetwork) -> Callable[[], object]:
    """Alternates between batches of 1 to 64 samples."""
    ys = [torch.randn(batch, M) for batch in range(1, 65)]
    turns = iter(range(10**9))

    def call() -> Tensor:
        with torch.no_grad():
            return net(ys[next(turns) % len(ys)])

    return call


def _lasso(A: Tensor) -> Callable[[], object]:
    solver, y = fu.solvers.Lasso(A), torch.randn(BATCH, M)
    return lambda: solver.solve(y, 0.1)


def _lasso_anew(A: Tensor) -> Callable[[], object]:
    y = torch.randn(BATCH, M)
    return lambda: fu.solvers.lasso(A, y, 0.1)


def _made(A: Tensor) -> Callable[[], object]:
    def call() -> Tensor:
        return _forward(fu.nn.LISTA(A, layers=LAYERS))()  # type: ignore[return-value]

    return call


def _matrix() -> Tensor:
    return torch.randn(M, N) / M**0.5


def _lista() -> fu.nn.LISTA:
    return fu.nn.LISTA(_matrix(), layers=LAYERS)


def _lista_cpss() -> fu.nn.LISTACPSS:
    return fu.nn.LISTACPSS(_matrix(), layers=LAYERS)


CALL: dict[str, Callable[[], Callable[[], object]]] = {
    "forward, LISTA": lambda: _forward(_lista()),
    "forward, LISTACPSS": lambda: _forward(_lista_cpss()),
    "forward, GLISTA": lambda: _forward(fu.nn.GLISTA(_matrix(), layers=LAYERS)),
    "forward, batches of 1 to 64": lambda: _batches(_lista()),
    "backward, LISTA": lambda: _backward(_lista()),
    "backward, LISTACPSS": lambda: _backward(_lista_cpss()),
    "training step, LISTA": lambda: _training(_lista()),
    "Lasso(A).solve, kept": lambda: _lasso(_matrix()),
    "lasso(A, y), A prepared anew": lambda: _lasso_anew(_matrix()),
    "LISTA made, called, dropped": lambda: _made(_matrix()),
}


def _resident() -> int:
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def _measure(kind: str, calls: int) -> dict[str, int]:
    """Returns the resident bytes of this process before the calls, after the first calls, and at the end."""
    torch.manual_seed(0)
    call = CALL[kind]()
    before = _resident()
    for _ in range(WARM):
        call()
    warm = _resident()
    for _ in range(calls - WARM):
        call()
    return {"calls": calls, "before": before, "warm": warm, "end": _resident()}


def _alone(kind: str, calls: int, threads: int) -> dict[str, int]:
    command = [sys.executable, __file__, "--kind", kind, "--calls", str(calls), "--threads", str(threads)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _row(kind: str, found: Mapping[str, int]) -> list[str]:
    growth = found["end"] - found["warm"]
    sizes = [f"{found[when] / 2**20:.1f}" for when in ("before", "warm", "end")]
    verdict = "flat" if growth <= FLAT else "**grows**"
    return [kind, f"{found['calls']:,}", *sizes, f"{growth / (found['calls'] - WARM):.1f}", verdict]


def markdown(result: Mapping[str, Any]) -> str:
    where, versions = result["machine"], result["versions"]
    about = [
        f"- {result['date']}, {where['cpu']}, {where['cores']} cores, {where['system']}",
        f"- {result['threads']} thread(s); {result['backend']}",
        f"- {', '.join(f'{name} {version}' for name, version in versions.items())}",
        f"- m = {M}, n = {N}, {LAYERS} layers, {BATCH} samples, float32; each kind of call in a fresh process",
    ]
    rows = [_row(kind, found) for kind, found in result["kinds"].items()]
    return "\n\n".join(
        [
            f"# memory_calls{KINDS[result['kind']]}",
            "Does a process that calls again and again keep its size?",
            "\n".join(about),
            f"Growth of resident memory is from call {WARM:,} to the last; {FLAT / 2**20:.0f} MiB in all are flat.",
            "\n".join([row(HEAD), row(["---"] + ["---:"] * 5 + ["---"]), *map(row, rows)]),
        ]
    ) + "\n"  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, usage=NO_USAGE)
    parser.add_argument("--quick", action="store_true", help="fewer calls, written as quick-memory_calls")
    parser.add_argument("--threads", type=int, default=min(2, machine.cores()), metavar="N")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: bench/results")
    parser.add_argument("--kind", choices=CALL, help="measure this kind of call in this process, and print bytes")
    parser.add_argument("--calls", type=int, default=0, metavar="N", help="of --kind")
    options = parser.parse_args()
    machine.give_threads(options.threads)
    calls = options.calls or (QUICK_CALLS if options.quick else CALLS)
    if options.kind:
        print(json.dumps(_measure(options.kind, calls)))
        return 0
    kinds = {}
    for kind in CALL:
        kinds[kind] = _alone(kind, calls, options.threads)
        print(" | ".join(_row(kind, kinds[kind])), flush=True)
    name = "quick" if options.quick else "full"
    result = {"name": "memory_calls", **machine.circumstances(()), "kind": name, "kinds": kinds}
    path = options.out / f"{'quick-' if options.quick else ''}memory_calls.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(result))
    print(path, path.with_suffix(".md"), sep="\n")
    return int(any(found["end"] - found["warm"] > FLAT for found in kinds.values()))


if __name__ == "__main__":
    sys.exit(main())
