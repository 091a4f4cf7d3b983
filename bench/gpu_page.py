"""docs/gpu.md: what runs on a GPU, and what a GPU has verified of it, from the records of gpu.py; and the timings of
kernels in them, as the package comes with them.

python bench/gpu_page.py            writes the page and the timings
python bench/gpu_page.py --check    ends with 1 if they are not those of the records
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gpu

PAGE = gpu.ROOT / "docs" / "gpu.md"
TIMINGS = gpu.ROOT / "python" / "fastunroll" / "ops" / "measured"

_WHAT = """\
# On a GPU

<!-- Made by bench/gpu_page.py from bench/results/gpu-*.json. -->

CUDA kernels run tensors on a CUDA device if the device has compute capability 8.0 or later and the package was built
for CUDA. The build needs nvcc 11.8 or later, and a GPU or `FASTUNROLL_CUDA=1`. `fu.backend()` says whether the kernels
run, `fu.backend(verbose=True)` lists the path of each kind of network, and `fastunroll info` shows the devices. The
functions and modules are the same as on the CPU. They run on the current stream without synchronisation, so CUDA graphs
can capture them.

| path | networks | method |
|---|---|---|
| one launch | n ≤ 512 (and m ≤ 512 with gradient steps), float32 or bfloat16, groups of at most 2 (complex numbers \
are groups of 2), no support selection; compute capability 9.0 or later, else n ≤ 128 | clusters of thread blocks hold \
the iterates of some samples in shared memory through all layers |
| layer by layer | all others, and float64 and float16 | torch computes the products, and one kernel does everything \
between two products |
| plain PyTorch | `torch.func` transforms, forward-mode differentiation, older devices | as on any device |

Gradients take the same paths, and torch computes their sums over samples. Gradients of a second state go layer by
layer. Products of float32 consist of three products of TF32, so they are as exact as float32. With
`torch.backends.cuda.matmul.allow_tf32 = True` they are a single product of TF32, with a third of the work and an error
of 1e-3. bfloat16 and float16 tensors are summed in float32.

`fastunroll info --check` compares a device's kernels with plain PyTorch on small networks, and says which disagree.

Matrices that all layers share (in tied networks and classical solvers) stay in shared memory if there are few samples.
8 or 16 thread blocks then divide the matrices among them.

Timings of the device decide which of the one-launch kernels runs, or whether layers run one by one. `fastunroll tune`
measures them in a minute, for all kernels that agree with the layer-by-layer path, and stores them in
`~/.cache/fastunroll`. `fu.backend(verbose=True)` shows the resulting choices. Without timings, a rule decides. For
n > 256 it takes 16 blocks for 16 samples, or 8 blocks that hold their matrices, as long as all blocks run at once.
Otherwise it takes the fewest blocks whose shared memory suffices. Another kernel changes the rounding of results.

The result of a sample does not depend on its batch as long as the same kernel runs. On the CPU it never depends on the
batch. Without gradients, matrices are packed once and reused while their version counters do not change. On a GPU,
edits through `.data` are not noticed, so edit weights under `torch.no_grad()`. A CUDA graph packs the matrices at each
replay, so it sees new weights. Under autocast, networks compute in the dtype of their weights. Call `backward()`
outside autocast, as PyTorch recommends: inside it, PyTorch computes the gradients of plain operations in half
precision, such as those of `torch.func.grad` and second derivatives. Convert the weights for another dtype.

## Tests
Every kernel also runs in emulation on the host. Each thread is a fiber, and fragment layouts, barriers and copies are
those of a device. `make test` compares the emulated kernels with the reference, forward and backward, and
`make sanitize` runs them with the address and undefined-behaviour sanitizers. Emulation does not detect a missing
memory fence or wrong PTX, and measures no times.
"""

_TARGETS = [
    ("forward, B = 64", 64, "eager", 15.0),
    ("forward, B = 64", 64, "torch.compile with graphs", 3.0),
    ("forward, B = 1024", 1024, "eager", 5.0),
    ("forward, B = 1024", 1024, "torch.compile with graphs", 1.5),
    ("forward, B = 65536", 65536, "eager", 1.9),
]


def _measured(record: dict[str, Any], stage: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = record["stages"].get(stage, {}).get("measured", [])
    return found


def _time(contestant: dict[str, Any]) -> str:
    if "call" not in contestant:
        return str(contestant.get("failed", "–"))
    replay = contestant.get("replay")
    return f"{contestant['call']:.0f}" + (f" / {replay:.0f}" if replay else "")


def _tables(record: dict[str, Any]) -> Iterator[str]:
    ceilings = [f"{c['ceiling']} {c['value']:.1f} {c['unit']}" for c in _measured(record, "ceilings")]
    if ceilings:
        yield f"torch measured the limits of the device in the same run: {', '.join(ceilings)}.\n"
    for stage, title in (("forward", "Forward, 16 layers"), ("solver", "FISTA")):
        cases = _measured(record, stage)
        if not cases:
            continue
        names = list(cases[0]["contestants"])
        yield f"{title}: µs for a call / for a replay of a CUDA graph.\n"
        yield f"| m, n | B | | {' | '.join(names)} | error |"
        yield "|---|---:|---|" + "---:|" * (len(names) + 1)
        for c in cases:
            what = " ".join(str(c[key]) for key in ("precision", "matrices", "iterations") if key in c)
            times = " | ".join(_time(c["contestants"].get(name, {})) for name in names)
            error = c["contestants"]["fastunroll"].get("error", float("nan"))
            yield f"| {c['m']}, {c['n']} | {c['B']} | {what} | {times} | {error:.0e} |"
        yield ""
    cases = _measured(record, "training")
    if cases:
        yield "A training step, m = 250, n = 500, untied: µs, and MB besides weights and data.\n"
        yield "| B | | fastunroll | eager |"
        yield "|---:|---|---:|---:|"
        for c in cases:
            ours, theirs = (c["contestants"][name] for name in ("fastunroll", "eager"))
            cells = (f"{r['call']:.0f}, {r['memory'] / 1e6:.0f} MB" for r in (ours, theirs))
            yield f"| {c['B']} | {c['precision']} | {' | '.join(cells)} |"
        yield ""


def _targets(record: dict[str, Any]) -> Iterator[str]:
    yield "| n = 500, 16 layers, float32, untied | against | at least | measured |"
    yield "|---|---|---:|---:|"
    cases = {
        c["B"]: c["contestants"] for c in _measured(record, "forward")
        if (c["n"], c["precision"], c["matrices"]) == (500, "float32", "untied")
    }  # fmt: skip
    for what, batch, rival, least in _TARGETS:
        times = [cases.get(batch, {}).get(name, {}).get("call") for name in (rival, "fastunroll")]
        ratio = f"{times[0] / times[1]:.1f}" if all(times) else "not measured"
        yield f"| {what} | {rival} | {least} | {ratio} |"


def page() -> str:
    lines = [_WHAT]
    found = list(gpu.records())
    if not found:
        lines.append("**No GPU has run these kernels yet.** Their correctness and speed on a GPU are not known.\n")
    for _, record in found:
        sources = "the present sources" if record["sources"] == gpu.sources_hash() else "earlier sources"
        lines.append(f"### {record['device']}, {record['date'][:10]}\nDriver {record['driver']}, {sources}.\n")
        lines += [f"- {name}: {stage['status']}" for name, stage in record["stages"].items()]
        lines += ["", *_tables(record), *_targets(record), ""]
    lines.append(
        "`make gpu` runs all tests and measurements on your GPU in nine minutes, and writes the record of this page."
    )
    return "\n".join(lines) + "\n"


def files() -> dict[Path, str]:
    """Returns the files that are made from the records, as texts by their paths."""
    made = {PAGE: page()}
    for _, record in gpu.records():
        for found in _measured(record, "dispatch"):
            name = re.sub(r"[^a-z0-9]+", "-", found["device"].lower()).strip("-")
            made[TIMINGS / f"{name}.json"] = json.dumps(found, indent=1) + "\n"
    return made


def main() -> int:
    stale = [path for path, text in files().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(gpu.ROOT)} does not fit the records: run python bench/gpu_page.py")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(files()[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
