"""The kernels of a device as a backend of the operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ... import _fastunroll
from ..._precision import own_precision
from ..adaptive_spec import AdaptiveParameters, AdaptiveSpec
from ..spec import NetworkSpec, Parameters
from .device import ELEMENTS, stream_of
from .network import CudaNetwork

_OLDEST = (8, 0)  # compute capability


class CudaBackend:
    """The kernels of a native module: those of CUDA, or the same ones emulated on the host for tests."""

    dtypes = ELEMENTS
    saves_residuals = False

    def __init__(self, module: Any) -> None:
        self.module = module
        self._problems: dict[torch.device, str | None] = {}

    def problem(self, device: torch.device) -> str | None:
        """Why this device has no kernels that can be used; None if it has."""
        if torch.compiler.is_compiling():  # which cannot trace a dictionary that changes
            return _find_problem(device)
        if device not in self._problems:
            self._problems[device] = _find_problem(device)
        return self._problems[device]

    def network(self, spec: NetworkSpec | AdaptiveSpec, p: Parameters | AdaptiveParameters) -> CudaNetwork | None:
        """None for adaptive networks, which have no kernels here."""
        if isinstance(spec, NetworkSpec) and isinstance(p, Parameters):
            return CudaNetwork(self.module, spec, p)
        return None

    def product(self, x: Tensor, A: Tensor, adjoint: bool, start: Tensor | None) -> Tensor:
        with own_precision(x):
            matrix = A if adjoint else A.mT
            return torch.mm(x, matrix) if start is None else torch.addmm(start, x, matrix)

    def adjoint_product(self, A: Tensor) -> Callable[[Tensor], Tensor]:
        """The function y ↦ Aᵀy for batches of any leading shape."""

        def multiply(y: Tensor) -> Tensor:
            with own_precision(y):
                return torch.matmul(y, A)

        return multiply

    def outer(self, g: Tensor, x: Tensor) -> Tensor:
        with own_precision(x):
            return torch.mm(g.mT, x)

    def soft_threshold(self, x: Tensor, theta: Tensor, layout: tuple[int, int, int]) -> Tensor:
        out = torch.empty_like(x)
        self.module.soft_threshold(
            ELEMENTS.index(theta.dtype), stream_of(x), layout, x.is_complex(),
            x.data_ptr(), theta.data_ptr(), out.data_ptr(),
        )  # fmt: skip
        return out

    def soft_threshold_backward(
        self, grad: Tensor, out: Tensor, theta: Tensor, layout: tuple[int, int, int]
    ) -> tuple[Tensor, Tensor]:
        grad_x, grad_each = torch.empty_like(out), out.new_empty(layout, dtype=theta.dtype)
        self.module.soft_threshold_gradient(
            ELEMENTS.index(theta.dtype), stream_of(out), layout, out.is_complex(),
            out.data_ptr(), theta.data_ptr(), grad.data_ptr(), grad_x.data_ptr(), grad_each.data_ptr(),
        )  # fmt: skip
        return grad_x, grad_each.sum((0, 2)).view_as(theta)


def _find_problem(device: torch.device) -> str | None:
    if device.type != "cuda":
        return None
    if not torch.cuda.is_available():
        devices, why = _fastunroll.cuda_devices()
        return "torch sees no device" if devices else why
    capability = torch.cuda.get_device_capability(device)
    if capability >= _OLDEST:
        return None
    return f"compute capability is {capability[0]}.{capability[1]}, but kernels need 8.0 or later"
