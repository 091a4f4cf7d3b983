"""What a GPU says of the CUDA kernels: built, tested, sanitized and measured on it in one run of under nine minutes.

    python bench/gpu.py            all stages, each a process of its own with a time of its own
    python bench/gpu.py --check    whether the records in bench/results are of the present sources

The record, bench/results/gpu-<name>.json, is written after each stage, so that a run cut short leaves what it found.
docs/gpu.md is made of it by gpu_page.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
WORK = ROOT / "build" / "gpu"


@dataclass(frozen=True)
class Stage:
    """commands: run one after another in the root; the stage fails with the first that does."""

    name: str
    seconds: int
    commands: tuple[tuple[str, ...], ...]


def stages(quick: bool) -> list[Stage]:
    python, measure = sys.executable, str(ROOT / "bench" / "gpu_measure.py")
    there = "import fastunroll as fu; b = fu.backend(); print(b); assert b.devices and not b.devices[0].problem"
    self_test = (python, "-m", "fastunroll", "info", "--check")
    tests = ("-m", "pytest", "-q", "-x", "-k", "cuda", "-p", "no:cacheprovider", "-W", "default")
    device_tests = str(WORK / "device_tests")
    options = ("--quick",) if quick else ()
    return [
        Stage("build", 125, (
            (python, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps",
             "--config-settings=cmake.define.FASTUNROLL_CUDA_ARCHITECTURES=native", "."),
            ("cmake", "-S", ".", "-B", str(WORK), "-G", "Ninja", "-DFASTUNROLL_MODULE=OFF", "-DFASTUNROLL_TESTS=ON",
             "-DFASTUNROLL_CUDA_ARCHITECTURES=native"),
            ("cmake", "--build", str(WORK), "--target", "device_tests"),
        )),
        Stage("tests", 80, (
            (python, "-c", there),
            self_test,
            (python, *tests, "tests/test_devices.py", "tests/test_fused.py"),
            (device_tests,),
        )),
        Stage("sanitizer", 70, tuple(
            ("compute-sanitizer", "--tool", tool, "--error-exitcode", "9", device_tests, "fused")
            for tool in ("memcheck", "racecheck")
        )),
        Stage("ceilings", 30, ((python, measure, "ceilings", *options),)),
        Stage("dispatch", 70, ((python, measure, "dispatch", *options),)),
        Stage("forward", 90, ((python, measure, "forward", *options),)),
        Stage("training", 50, ((python, measure, "training", *options),)),
        Stage("solver", 20, ((python, measure, "solver", *options),)),
    ]  # fmt: skip


def sources_hash() -> str:
    """Returns a hash of all files that define the CUDA kernels."""
    digest = hashlib.sha256()
    files = [ROOT / "csrc" / "fastunroll.h", ROOT / "csrc" / "fastunroll_cuda.h", *(ROOT / "csrc" / "cuda").iterdir()]
    for path in sorted(files):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def run_stage(stage: Stage) -> dict[str, Any]:
    """Runs a stage, and returns its status, its time, the end of its output, and the JSON that it prints."""
    began, output, status = perf_counter(), "", "passed"
    for command in stage.commands:
        left = stage.seconds - (perf_counter() - began)
        try:
            if left <= 0:
                raise subprocess.TimeoutExpired(command, stage.seconds)
            done = subprocess.run(
                command, cwd=ROOT, timeout=left, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        except subprocess.TimeoutExpired as error:
            part = error.stdout or ""
            output += part.decode(errors="replace") if isinstance(part, bytes) else part
            status = f"not finished after {stage.seconds} s"
            break
        except FileNotFoundError as error:
            status = f"not run: {error.filename} was not found"
            break
        output += done.stdout
        if done.returncode != 0:
            status = f"failed: {' '.join(map(str, command))} ended with {done.returncode}"
            break
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    text = "\n".join(line for line in output.splitlines() if not line.startswith("{"))
    return {"status": status, "seconds": round(perf_counter() - began, 1), "measured": found, "output": text[-3000:]}


def device_name() -> str | None:
    """Returns the driver's name of the first device, or None if there is no driver."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else None


def records() -> Iterable[tuple[Path, dict[str, Any]]]:
    for path in sorted(RESULTS.glob("gpu-*.json")):
        yield path, json.loads(path.read_text(encoding="utf-8"))


def check() -> None:
    """Prints whether a GPU has verified the present sources. A missing record is not an error."""
    found = list(records())
    if not found:
        print("CUDA kernels: verified on no GPU yet")
    for _, record in found:
        state = "verified" if record["sources"] == sources_hash() else "STALE, of other sources,"
        print(f"CUDA kernels: {state} on {record['device']} on {record['date'][:10]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="say whether the records are of the present sources")
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="run these stages alone; the record is not written")
    parser.add_argument("--quick", action="store_true", help="small cases, for trying the script out")
    parser.add_argument("--out", type=Path, metavar="DIR", help="put a copy of the record there")
    options = parser.parse_args()
    if options.check:
        check()
        return 0
    name = device_name()
    if name is None:
        print("no NVIDIA driver found: this needs a GPU; without one, `make test` runs the kernels emulated")
        return 1
    all_stages = stages(options.quick)
    unknown = set(options.only or ()) - {s.name for s in all_stages}
    if unknown:
        parser.error(f"no such stage: {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in all_stages)}")
    record: dict[str, Any] = {
        "device": name.split(",")[0], "driver": name.split(",")[-1].strip(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "sources": sources_hash(), "stages": {},
    }  # fmt: skip
    slug = re.sub(r"[^a-z0-9]+", "-", record["device"].lower()).strip("-")
    places = [] if options.only or options.quick else [RESULTS / f"gpu-{slug}.json"]
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        places.append(options.out / f"gpu-{slug}.json")
    for stage in all_stages:
        if options.only and stage.name not in options.only:
            continue
        result = record["stages"][stage.name] = run_stage(stage)
        print(f"{stage.name:10} {result['seconds']:6.1f} s  {result['status']}", flush=True)
        if result["status"] != "passed":
            print(result["output"][-2000:], flush=True)
        for place in places:
            place.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        if stage.name == "build" and result["status"] != "passed":
            break
    return 0 if all(r["status"] == "passed" for r in record["stages"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
