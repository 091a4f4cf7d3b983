"""What runs where: the answer to "is it really the fast path?"."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from . import _fastunroll
from .ops import backends as _backends
from .ops.cuda import kernel_choice as _choice

_PATHS = f"""\
  in one launch: float32 or bfloat16, groups of at most 2, up to {_choice.LARGEST} columns on compute capability 9.0
    or later, else up to 128, as blocks cannot share memory; products of float32 are three of TF32, as exact as
    float32, or one with torch.backends.cuda.matmul.allow_tf32
  layer by layer, products by torch: what is larger does not fit in shared memory; support selection looks at whole
    samples; float64 and float16; gradients from or to a second state
  plain PyTorch: torch.func transforms, forward-mode differentiation; on devices GLISTA, HyperLISTA, LVAMP and
    Bernoulli–Gaussian shrinkage"""


@dataclass(frozen=True)
class CudaDevice:
    """One device: its name, why kernels do not run there, if they do not, and which would run for some calls."""

    index: int
    name: str
    problem: str | None
    examples: tuple[str, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        runs = f"plain PyTorch, as {self.problem}" if self.problem else "native kernels"
        return "\n  ".join([f"cuda:{self.index}: {runs} ({self.name})", *self.examples])


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
    devices: tuple[CudaDevice, ...]
    paths: str = field(default="", repr=False)

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}" if self.openmp else "1 thread, no OpenMP"
        cpu = f"cpu: native kernels for single and double precision, {self.instruction_set} ({self.reason}), {threads}"
        cuda = [str(d) for d in self.devices] or [f"cuda: not available ({self.cuda_problem})"]
        return "\n".join([cpu, *cuda, *([self.paths] if self.paths else [])])


def backend(verbose: bool = False) -> Backend:
    """What runs on each device, and why.

    Single and double precision run in native kernels: on the CPU for the named instruction set; on CUDA devices, where
    the package was built for them, half precision too. Everything else (other devices and dtypes; complex matrices in
    single products) runs in the plain PyTorch of :mod:`fastunroll.reference`.

    Args:
        verbose: say too which kernels networks get on CUDA devices, and why, whether there is one here or not; and
            for each that is here which would serve some calls, by timings or by rule.
    """
    count, problem = _fastunroll.cuda_devices()
    devices = []
    for index in range(torch.cuda.device_count() if count else 0):
        where = torch.device("cuda", index)
        why = _backends.problem(where)
        examples = _choice.examples(_fastunroll.cuda, where) if verbose and why is None else ()
        devices.append(CudaDevice(index, torch.cuda.get_device_name(where), why, tuple(examples)))
    if count and not devices:
        problem = _backends.problem(torch.device("cuda", 0)) or ""
    return Backend(
        instruction_set=_fastunroll.instruction_set(),
        reason=_fastunroll.instruction_set_reason(),
        threads=torch.get_num_threads(),
        openmp=_fastunroll.openmp(),
        cuda_compiled=_fastunroll.cuda_compiled,
        cuda_devices=count,
        cuda_problem=problem,
        devices=tuple(devices),
        paths=_PATHS if verbose else "",
    )
