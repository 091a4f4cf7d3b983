"""The machine, the versions and the date of a benchmark."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import fastunroll as fu
import torch
from fastunroll import _fastunroll
from text import LOAD_BOUND

ROOF_S = 0.25


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def give_threads(threads: int) -> None:
    """The same number for every contestant: torch is told, and what counts processors itself sees no more of them.

    It must come before a library starts its threads: rivals are imported when they are first built.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ["NPROC"] = str(threads)  # XLA
    torch.set_num_threads(threads)


class Others:
    """Measures the share of the processors that other programs take, which disturbs measurements."""

    def __init__(self) -> None:
        self._start = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        stat = Path("/proc/stat")
        ticks = [int(t) for t in stat.read_text().split()[1:9]] if stat.exists() else [0] * 8
        idle, waits = ticks[3:5]
        return (sum(ticks) - idle - waits) / os.sysconf("SC_CLK_TCK"), process_time(), perf_counter()

    def share(self) -> float:
        """Between 0 and 1; 0 where the system does not say."""
        busy, own, wall = (now - start for now, start in zip(self._now(), self._start, strict=True))
        return max(0.0, busy - own) / (wall * (os.cpu_count() or 1))


def roof() -> dict[str, float]:
    """What this machine can do at most in single precision, measured just now.

    The bound of the masked product is a multiply-add with every row of a block of weights in the level-1 cache.
    """
    return {"roof: multiply-adds between registers, GFLOP/s": _best_of(rows=False), LOAD_BOUND: _best_of(rows=True)}


def _best_of(rows: bool) -> float:
    """The best of some time, since threads that were asleep begin on one processor."""
    start, best = perf_counter(), 0.0
    while perf_counter() < start + ROOF_S:
        best = max(best, _fastunroll.bench.roof(False, torch.get_num_threads(), rows))
    return best


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def _blas() -> str:
    config = torch.__config__.show()
    libraries = re.findall(r"^\s*- (.*(?:Math Kernel Library Version|MKL-DNN) \S+).*$", config, re.MULTILINE)
    return ", ".join([*re.findall(r"BLAS_INFO=(\w+)", config), *libraries])


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def circumstances(packages: Iterable[str]) -> dict[str, Any]:
    """Returns the circumstances for the JSON file, with the versions of installed ``packages``."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"cpu": _cpu(), "cores": cores(), "system": f"{platform.system()} {platform.machine()}"},
        "threads": torch.get_num_threads(),
        "versions": _versions(("torch", "fastunroll", "numpy", *packages)),
        "instruction_set": fu.backend().instruction_set,
        "backend": str(fu.backend()).splitlines()[0],
        "blas": _blas(),
        "roof": roof(),
    }
