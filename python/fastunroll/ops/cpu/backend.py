"""The CPU engine as a backend of the operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import _fastunroll
from ..adaptive_spec import AdaptiveSpec
from ..spec import NetworkSpec
from ..tensors import is_double
from .adaptive import CpuAdaptiveNetwork
from .network import CpuNetwork
from .products import AdjointProduct, outer, product

_NETWORKS: dict[type, Any] = {NetworkSpec: CpuNetwork, AdaptiveSpec: CpuAdaptiveNetwork}


class CpuBackend:
    """The kernels for tensors in the processor's memory."""

    dtypes = (torch.float32, torch.float64)
    saves_residuals = True
    network = staticmethod(lambda spec, p: _NETWORKS[type(spec)](spec, p))
    product = staticmethod(product)
    outer = staticmethod(outer)
    adjoint_product = AdjointProduct

    def problem(self, device: torch.device) -> str | None:
        """Why this device has no kernels that can be used; None, since it has."""
        return None

    def soft_threshold(self, x: Tensor, theta: Tensor, layout: tuple[int, int, int]) -> Tensor:
        out = torch.empty_like(x)
        _fastunroll.soft_threshold(
            is_double(x), layout, torch.get_num_threads(), x.is_complex(),
            x.data_ptr(), theta.data_ptr(), out.data_ptr(),
        )  # fmt: skip
        return out

    def soft_threshold_backward(
        self, grad: Tensor, out: Tensor, theta: Tensor, layout: tuple[int, int, int]
    ) -> tuple[Tensor, Tensor]:
        grad_x, grad_theta = torch.empty_like(out), torch.empty_like(theta)
        _fastunroll.soft_threshold_backward(
            is_double(out), layout, torch.get_num_threads(), out.is_complex(),
            out.data_ptr(), theta.data_ptr(), grad.data_ptr(), grad_x.data_ptr(), grad_theta.data_ptr(),
        )  # fmt: skip
        return grad_x, grad_theta
