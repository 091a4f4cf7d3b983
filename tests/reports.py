"""Problems and networks for the tests of reports."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor, nn

M, N, LAM = 11, 17, 0.1
NETWORKS = [
    "LISTA", "StepLISTA", "LISTACP", "LISTASS", "LISTACPSS", "TiLISTA", "ALISTA", "GLISTA", "HyperLISTA", "LFISTA",
    "ADMMNet", "LAMP", "LVAMP",
]  # fmt: skip
COMPLEX = ["StepLISTA", "LISTACP", "LISTASS", "LISTACPSS", "TiLISTA", "ALISTA", "LFISTA", "ADMMNet", "LAMP"]
MEASURES = {"density", "update", "nmse_db", "mean_db", "kkt_residual", "objective"}
needs_matplotlib = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is missing")


def matrix(seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    A = torch.randn(M, N, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return A / A.norm(dim=0)


def problem(*batch: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """A, y and x_true."""
    g = torch.Generator().manual_seed(seed + 1)
    A = matrix(seed, dtype)
    x = torch.randn(*batch, N, generator=g, dtype=dtype) * (torch.rand(*batch, N, generator=g) < 0.2)
    noise = 0.01 * torch.randn(*batch, M, generator=g, dtype=dtype)
    return A, x @ A.mT + noise, x


def perturbed(net: nn.Module, size: float = 0.1) -> nn.Module:
    """A network that has gone elsewhere than it started."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(size * torch.randn_like(p) * p.abs().mean())
    return net


def ista_step(x: Tensor, y: Tensor, A: Tensor, lam: float = LAM) -> Tensor:
    t = 1 / torch.linalg.matrix_norm(A, 2) ** 2
    z = x - t * (x @ A.mT - y) @ A.conj()
    return torch.sgn(z) * torch.relu(z.abs() - lam * t)


class Plain(nn.Module):
    """Gradient steps in plain PyTorch: no unrolled network of ours, but it returns its layers."""

    def __init__(self, A: Tensor, layers: int = 3) -> None:
        super().__init__()
        self.matrix, self.count = A, layers

    def forward(self, y: Tensor, return_layers: bool = False) -> Tensor:
        x, every = y.new_zeros(*y.shape[:-1], N), []
        for _ in range(self.count):
            x = ista_step(x, y, self.matrix)
            every.append(x)
        return torch.stack(every) if return_layers else x
