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

Tensors on a CUDA device go to CUDA kernels where the package was built with nvcc 11.8 or later, on a machine
with a GPU or with `FASTUNROLL_CUDA=1`, and the device has
compute capability 8.0 or later. `fu.backend()` says whether it does, `fu.backend(verbose=True)` by which path which
networks go, and `fastunroll info` what was found. Nothing else changes: the functions and modules are the same, on the
current stream, without synchronisation, so that CUDA graphs capture them.

| path | which networks | what it does |
|---|---|---|
| one launch | n ≤ 512 (and m ≤ 512 in the coupled form), float32 or bfloat16, groups of at most 2 (so complex numbers \
too), no support selection; compute capability 9.0 or later, else n ≤ 128 | clusters of thread blocks keep the \
iterates of some samples in shared memory through all layers |
| layer by layer | all others, and float64 and float16 | products by torch, all between two products in one kernel |
| plain PyTorch | `torch.func` transforms, forward-mode differentiation, older devices | as on any device |

Gradients take the same paths, with sums over samples by torch; layer by layer where a second state is given or has a
gradient. float32 is as exact as float32: products are made of three of TF32. With
`torch.backends.cuda.matmul.allow_tf32 = True` they are one of TF32, three times less work and 1e-3 off. bfloat16 and
float16 tensors are stored as such and summed in float32.

`fastunroll info --check` compares a device's kernels with plain PyTorch on small networks, and says which disagree.

Matrices that all layers share (tied networks, the classical solvers) stay in shared memory throughout where samples are
few: 8 or 16 blocks have them between them.

Which of the kernels for one launch serves, or whether layers go one by one, is decided by timings of the device:
`fastunroll tune` takes them in a minute, of kernels that agree with the path layer by layer, and puts them into
`~/.cache/fastunroll`; `fu.backend(verbose=True)` says what they led to. Where nothing was measured a rule decides: for
n > 256, 16 blocks to 16 samples, or 8 that keep their matrices, as long as all run at once; else the fewest blocks that
have room. Results change by rounding where timings lead to another kernel.

A sample's result does not depend on the batch it came in as long as the same kernel serves both; on the CPU it never
does. Without gradients, matrices are laid out once and kept while no version counter moves: weights edited through
`.data` are not noticed on a GPU, so edit under `torch.no_grad()`. A CUDA graph lays them out at each replay, and so
sees new weights. Under autocast networks keep the precision of their weights: convert them for another.

## Verified
Every kernel also runs on the host, each thread a fiber, with fragment layouts, barriers and copies as a device has
them: `make test` compares them with the reference so, forward and backward, and `make sanitize` runs them under the
address and undefined-behaviour sanitizers. That does not show a missing memory fence, wrong PTX, or any time.
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
        yield f"What the device can do, measured by torch in the same run: {', '.join(ceilings)}.\n"
    for stage, title in (("forward", "Forward, 16 layers"), ("solver", "FISTA")):
        cases = _measured(record, stage)
        if not cases:
            continue
        names = list(cases[0]["contestants"])
        yield f"{title}: µs a call / a replay of a CUDA graph.\n"
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
        yield "A training step, m = 250, n = 500, matrices of each layer's own: µs, and MB besides weights and data.\n"
        yield "| B | | fastunroll | eager |"
        yield "|---:|---|---:|---:|"
        for c in cases:
            ours, theirs = (c["contestants"][name] for name in ("fastunroll", "eager"))
            cells = (f"{r['call']:.0f}, {r['memory'] / 1e6:.0f} MB" for r in (ours, theirs))
            yield f"| {c['B']} | {c['precision']} | {' | '.join(cells)} |"
        yield ""


def _targets(record: dict[str, Any]) -> Iterator[str]:
    yield "| n = 500, 16 layers, float32, matrices of each layer's own | against | at least | measured |"
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
        lines.append("**No GPU has run any of it yet**: whether it is right there, and how fast, is not known.\n")
    for _, record in found:
        fresh = "the present sources" if record["sources"] == gpu.sources_hash() else "earlier sources than these"
        lines.append(f"### {record['device']}, {record['date'][:10]}\nDriver {record['driver']}; of {fresh}.\n")
        lines += [f"- {name}: {stage['status']}" for name, stage in record["stages"].items()]
        lines += ["", *_tables(record), *_targets(record), ""]
    lines.append(
        "`make gpu` does all of this on your card in nine minutes, and writes the record this page is made of."
    )
    return "\n".join(lines) + "\n"


def files() -> dict[Path, str]:
    """What is made of the records, and where it lies."""
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
            print(f"{path.relative_to(gpu.ROOT)} is not that of the records: python bench/gpu_page.py")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(files()[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
