"""What runs where: the answer to "is it really the fast path?"."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from . import _fastunroll


@dataclass(frozen=True)
class Backend:
    """What this installation runs on; print it for a summary."""

    instruction_set: str
    reason: str
    threads: int
    openmp: bool
    cuda_compiled: bool
    cuda_devices: int
    cuda_problem: str

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}" if self.openmp else "1 thread, no OpenMP"
        cpu = f"cpu: native kernels for single and double precision, {self.instruction_set} ({self.reason}), {threads}"
        if self.cuda_devices:
            return f"{cpu}\ncuda: plain PyTorch on {self.cuda_devices} device(s), no CUDA kernels yet"
        return f"{cpu}\ncuda: not available ({self.cuda_problem})"


def backend() -> Backend:
    """What runs on each device, and why.

    On the CPU, single and double precision run in native kernels for the named instruction set. Everything else (other
    devices and dtypes; complex matrices in single products) runs in the plain PyTorch of :mod:`fastunroll.reference`.
    """
    devices, problem = _fastunroll.cuda_devices()
    return Backend(
        instruction_set=_fastunroll.instruction_set(),
        reason=_fastunroll.instruction_set_reason(),
        threads=torch.get_num_threads(),
        openmp=_fastunroll.openmp(),
        cuda_compiled=_fastunroll.cuda_compiled,
        cuda_devices=devices,
        cuda_problem=problem,
    )
