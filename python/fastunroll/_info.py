"""The lines that ``fastunroll info`` prints. A bug report needs all of them."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from . import __version__, _fastunroll
from ._backend import backend
from .ops.self_test import self_test


def openmp_libraries() -> list[str]:
    """Returns the OpenMP runtimes that this process has loaded. Several runtimes would compete for the threads."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return []
    paths = {line.split()[-1] for line in maps.read_text().splitlines() if "/" in line}
    return sorted(p for p in paths if "gomp" in Path(p).name or "libomp" in Path(p).name or "iomp" in Path(p).name)


def processor() -> str:
    """Returns the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def self_tests() -> dict[str, str | None]:
    """For the CPU and each CUDA device with kernels, what is wrong with them; None if nothing is."""
    devices = ["cpu", *(f"cuda:{d.index}" for d in backend().devices if d.problem is None)]
    return {device: self_test(torch.device(device)) for device in devices}


def lines() -> list[str]:
    """Returns the lines that describe the installation."""
    b = backend()
    cuda = f"{b.cuda_devices} device(s) found" if b.cuda_devices else f"not available: {b.cuda_problem}"
    sets = ", ".join(_fastunroll.compiled_instruction_sets())
    return [
        f"fastunroll       {__version__}, {Path(__file__).parent}",
        f"python           {platform.python_version()}, {platform.platform()}",
        f"torch            {torch.__version__}, CUDA {torch.version.cuda or 'not in this build'}",
        f"processor        {processor()}",
        f"instruction set  {b.instruction_set}: {b.reason}; compiled: {sets}",
        f"threads          {b.threads}{'' if b.openmp else ' of the package itself, without OpenMP'}",
        f"OpenMP           {', '.join(openmp_libraries()) or 'none found'}",
        f"CUDA             {'compiled' if b.cuda_compiled else 'not compiled'}; {cuda}",
    ]
