"""The kernels of devices: what serves a tensor that is not the CPU engine's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .. import _fastunroll

# In the order of the native code.
ELEMENTS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_OLDEST = (8, 0)

_modules: dict[str, Any] = {}
if _fastunroll.cuda_compiled and torch.version.cuda is not None:
    _modules["cuda"] = _fastunroll.cuda


_problems: dict[tuple[torch.device, Any], str | None] = {}  # by device, and the module that serves it


def problem(device: torch.device) -> str | None:
    """Why this device has no kernels that can be used, if so. The first time they are tried out."""
    if torch.compiler.is_compiling():  # the operators ask again when they run
        return _find_problem(device)
    key = device, _modules.get(device.type)
    if key not in _problems:
        found = _find_problem(device)
        if found is not None or is_capturing(device):
            return found
        _problems[key] = None  # for the trial
        from .trial import disagreement  # which needs the operators, and they this

        try:
            _problems[key] = disagreement(device)
        except torch.cuda.OutOfMemoryError:
            del _problems[key]  # to be tried again
            raise
    return _problems[key]


def is_capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is being captured."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _find_problem(device: torch.device) -> str | None:
    if device.type == "cuda" and device.type in _modules and torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability(device)
        too_old = (major, minor) < _OLDEST
        return f"compute capability is {major}.{minor}, but kernels need 8.0 or later" if too_old else None
    if device.type == "cuda":
        devices, why = _fastunroll.cuda_devices()
        if devices:
            return "torch sees no device" if device.type in _modules else "this torch is built without CUDA"
        return why
    return None if device.type in _modules else f"there are no kernels for {device.type} devices"


def kernels(t: Tensor) -> Any | None:
    """The native module whose kernels run where this tensor is; None for the CPU engine, or if there are none."""
    module = _modules.get(t.device.type)
    return module if module is not None and problem(t.device) is None else None


_described: dict[torch.device, tuple[int, bool]] = {}


def describe(module: Any, device: torch.device) -> tuple[int, bool]:
    """How many processors, and whether blocks can share their memory."""
    if device not in _described:
        _described[device] = module.describe(device.index or 0)
    return _described[device]


def on_host() -> bool:
    """Whether tensors of the CPU go to emulated kernels."""
    return "cpu" in _modules


def is_host(t: Tensor) -> bool:
    """Whether a tensor is the CPU engine's."""
    return t.device.type == "cpu" and not on_host()


def where(t: Tensor) -> tuple[int, int]:
    """The device and stream that kernels over this tensor run on."""
    if t.device.type != "cuda":
        return 0, 0
    return t.device.index, torch.cuda.current_stream(t.device).cuda_stream


@contextmanager
def emulated(module: Any) -> Iterator[None]:
    """For tests: tensors of the CPU go to ``module``, which runs a device's kernels on the host."""
    _modules["cpu"] = module
    try:
        yield
    finally:
        del _modules["cpu"]
