"""The backends, which have the kernels of each type of device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .. import _fastunroll
from .cpu.backend import CpuBackend
from .cuda.backend import CudaBackend
from .library import require
from .tensors import has_tangents, is_plain_wanted, is_tracing, must_be_plain, real_dtype

# By type of device, whether the backend can be used or not.
BACKENDS: dict[str, CpuBackend | CudaBackend] = {"cpu": CpuBackend()}
if _fastunroll.cuda_compiled and torch.version.cuda is not None:
    BACKENDS["cuda"] = CudaBackend(_fastunroll.cuda)


def problem(device: torch.device) -> str | None:
    """Why this device has no kernels that can be used; None if it has."""
    backend = BACKENDS.get(device.type)
    if backend is not None:
        return backend.problem(device)
    if device.type == "cuda":
        devices, why = _fastunroll.cuda_devices()
        return "this torch is built without CUDA" if devices else why
    return f"there are no kernels for {device.type} devices"


def backend_for(device: torch.device, dtype: torch.dtype) -> Any:
    """The backend with kernels for this device and real dtype; None if there is none."""
    backend = BACKENDS.get(device.type)
    return backend if backend is not None and dtype in backend.dtypes and backend.problem(device) is None else None


def require_backend(t: Tensor, operator_name: str) -> Any:
    """The backend for an operator that was called with this real tensor."""
    backend = backend_for(t.device, t.dtype)
    require(backend is not None, operator_name)
    return backend


def is_supported(x: Tensor, *, complex_too: bool = False) -> bool:
    """Whether native kernels exist for this device and dtype, and may be used now.

    They may not within ``torch.func`` transforms and forward-mode differentiation, which go through plain PyTorch.
    """
    if must_be_plain():
        return False
    dtype = real_dtype(x) if complex_too else x.dtype
    return backend_for(x.device, dtype) is not None


def is_supported_on_cpu(x: Tensor, *, complex_too: bool = False) -> bool:
    """Whether the CPU engine has kernels for this tensor; some algorithms have kernels there alone."""
    return isinstance(BACKENDS.get(x.device.type), CpuBackend) and is_supported(x, complex_too=complex_too)


def is_native() -> bool:
    """Whether calls with tensors of the CPU may be native. The native calls ask for the rest, but for torch.compile."""
    return not is_plain_wanted() and isinstance(BACKENDS["cpu"], CpuBackend)


def is_direct() -> bool:
    """Whether native calls may look at their tensors of the CPU themselves: nothing else has to see the call."""
    return not (is_tracing() or has_tangents()) and is_native()


def saves_residuals(t: Tensor) -> bool:
    """Whether networks on this tensor's device save the residuals of their layers for the gradient."""
    backend = BACKENDS.get(t.device.type)
    return backend is not None and backend.saves_residuals


@contextmanager
def emulated(module: Any) -> Iterator[None]:
    """For tests: tensors of the CPU go to ``module``, which runs the kernels of a device on the host."""
    before = BACKENDS["cpu"]
    BACKENDS["cpu"] = CudaBackend(module)
    try:
        yield
    finally:
        BACKENDS["cpu"] = before
