"""Reports which kernels run on each device, and why."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from . import _fastunroll
from .ops import backends as _backends
from .ops.cuda import kernel_choice as _choice

_PATHS = f"""\
  in one launch: float32 and bfloat16 networks with groups of at most 2 and up to {_choice.LARGEST} columns on compute
    capability 9.0 or later. On older devices, blocks cannot share memory and the limit is 128 columns. A product of
    float32 is three products of TF32, which are as exact as float32, or one product if
    torch.backends.cuda.matmul.allow_tf32 is set.
  layer by layer, with products of torch: larger networks, which do not fit in shared memory; support selection, which
    needs whole samples; float64 and float16; gradients of the second state.
  plain PyTorch: torch.func transforms and forward-mode differentiation, blurs, scans and layers of volumes (dims=3),
    and on devices also GLISTA, HyperLISTA, LVAMP and Bernoulli–Gaussian shrinkage."""


@dataclass(frozen=True)
class CudaDevice:
    """A CUDA device.

    Attributes:
        index: the index of the device.
        name: the name of the device.
        problem: the reason why native kernels do not run on it, or None if they run.
        examples: lines that say which kernel runs for some typical calls.
    """

    index: int
    name: str
    problem: str | None
    examples: tuple[str, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        runs = f"plain PyTorch, because {self.problem}" if self.problem else "native kernels"
        return "\n  ".join([f"cuda:{self.index}: {runs} ({self.name})", *self.examples])


@dataclass(frozen=True)
class Backend:
    """The kernels and devices of this installation. ``print`` shows a summary."""

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
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}{'' if self.openmp else ', without OpenMP'}"
        cpu = f"cpu: native kernels for single and double precision, {self.instruction_set} ({self.reason}), {threads}"
        cuda = [str(d) for d in self.devices] or [f"cuda: not available ({self.cuda_problem})"]
        return "\n".join([cpu, *cuda, *([self.paths] if self.paths else [])])


def backend(verbose: bool = False) -> Backend:
    """Returns which kernels run on each device, and why.

    float32 and float64 run in native kernels, on the CPU for the instruction set that the result names. On CUDA
    devices, native kernels run float32, float64 and half precision if the package was built for CUDA. All other
    devices and dtypes, and single products with complex matrices, run in the plain PyTorch of
    :mod:`fastunroll.reference`. Blurs and scans of volumes (``dims=3``) run by ``torch.fft``.

    Args:
        verbose: whether to also explain which kernels run networks on CUDA devices, and to list for each device the
            kernels of some typical calls.
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
