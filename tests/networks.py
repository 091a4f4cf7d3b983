"""Every network, with the options that it has, for the tests of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import torch
from torch import Tensor

Network = fu.nn.UnrolledNetwork
Build = Callable[[Tensor], Network]
M, N, K, B = 11, 17, 4, 6


def _kind(name: str, **options: Any) -> tuple[str, Build]:
    label = "-".join([name, *(f"{k}={v}" for k, v in options.items())])
    return label, lambda A: getattr(fu.nn, name)(A, **{"layers": K, **options})


REAL = dict(
    [
        _kind("GLISTA"),
        _kind("GLISTA", gain="inverse", tied=True, selection=None),
        _kind("GLISTA", gain="exponential", threshold="vector"),
        _kind("GLISTA", gain="sigmoid"),
        _kind("HyperLISTA", c1=0.02, c2=0.05, c3=3.0),
        _kind("LAMP", shrinkage="bernoulli-gaussian"),
        _kind("LISTA"),
        _kind("LISTA", tied=True, threshold="vector"),
        _kind("LVAMP"),
        _kind("LVAMP", shrinkage="bernoulli-gaussian"),
    ]
)
COMPLEX = dict(
    [
        _kind("ADMMNet"),
        _kind("ADMMNet", solve="factorised", rho=0.5, eta=1.2),
        _kind("ADMMNet", solve="learned"),
        _kind("ALISTA"),
        _kind("ALISTA", selection=None),
        _kind("LAMP"),
        _kind("LAMP", tied=True, start="analytic"),
        _kind("LFISTA"),
        _kind("LFISTA", tied=True, threshold="vector"),
        _kind("LISTACP"),
        _kind("LISTACP", tied=True, threshold="vector"),
        _kind("LISTACPSS", selection=(10.0, 30.0)),
        _kind("LISTASS", selection=(10.0, 30.0)),
        _kind("StepLISTA"),
        _kind("TiLISTA", selection=(10.0, 30.0)),
    ]
)
ALL = REAL | COMPLEX


def matrix(m: int = M, n: int = N, dtype: torch.dtype = torch.float64) -> Tensor:
    A = torch.randn(m, n, dtype=dtype)
    return A / A.norm(dim=0)


def moved(net: Network) -> Network:
    """The network with parameters that are nobody's start, and that differ between layers."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net
