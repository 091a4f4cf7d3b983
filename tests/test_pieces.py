"""Networks state their pieces: :func:`fastunroll.unrolled` computes the same layers from them, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll.prox import L1, SupportSelection
from fastunroll.schemes import ADMM, AMP, FISTA, ProximalGradient
from fastunroll.steps import AffineStep, DataStep, GradientStep
from networks import ALL, COMPLEX, B, K, M, N, matrix, moved
from torch import Tensor

ADAPTIVE = ("GLISTA", "HyperLISTA", "LVAMP", "LAMP-shrinkage=bernoulli-gaussian")
STATED = {
    "ADMMNet": (ADMM, DataStep, L1),
    "ADMMNet-solve=factorised-rho=0.5-eta=1.2": (ADMM, DataStep, L1),
    "ADMMNet-solve=learned": (ADMM, GradientStep, L1),
    "ALISTA": (ProximalGradient, GradientStep, SupportSelection),
    "ALISTA-selection=None": (ProximalGradient, GradientStep, L1),
    "LAMP": (AMP, GradientStep, L1),
    "LAMP-tied=True-start=analytic": (AMP, GradientStep, L1),
    "LFISTA": (FISTA, AffineStep, L1),
    "LFISTA-tied=True-threshold=vector": (FISTA, AffineStep, L1),
    "LISTA": (ProximalGradient, AffineStep, L1),
    "LISTA-tied=True-threshold=vector": (ProximalGradient, AffineStep, L1),
    "LISTACP": (ProximalGradient, GradientStep, L1),
    "LISTACP-tied=True-threshold=vector": (ProximalGradient, GradientStep, L1),
    "LISTACPSS-selection=(10.0, 30.0)": (ProximalGradient, GradientStep, SupportSelection),
    "LISTASS-selection=(10.0, 30.0)": (ProximalGradient, AffineStep, SupportSelection),
    "StepLISTA": (ProximalGradient, GradientStep, L1),
    "TiLISTA-selection=(10.0, 30.0)": (ProximalGradient, GradientStep, SupportSelection),
}
DTYPES = {"real": torch.float64, "complex": torch.complex128}
CASES = [(name, kind) for name in STATED for kind in DTYPES if kind == "real" or name in COMPLEX]


def test_every_network_is_here() -> None:
    assert set(ALL) == set(STATED) | {name for name in ALL if name.startswith(ADAPTIVE)}


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_pieces_are_the_network(name: str, kind: str) -> None:
    """The pieces have the kinds of the literature, and give the layers, the last layer and all gradients to the bit."""
    A = matrix(dtype=DTYPES[kind])
    net: Any = moved(ALL[name](A))
    y, x0 = torch.randn(B, M, dtype=A.dtype, requires_grad=True), torch.randn(B, N, dtype=A.dtype)
    pieces = net.pieces()
    assert tuple(type(pieces[piece]) for piece in ("scheme", "linear", "prox")) == STATED[name]
    leaves = [y, *net.parameters()]
    calls: list[Callable[[], Tensor]] = [
        lambda: net(y, x0, True), lambda: fu.unrolled(y, **net.pieces(), layers=K, x0=x0, return_layers=True),
    ]  # fmt: skip
    found, wanted = (call() for call in calls)
    assert torch.equal(found, wanted)
    assert torch.equal(net(y), fu.unrolled(y, **pieces, layers=K))
    with torch.no_grad():
        assert torch.equal(net(y), fu.unrolled(y, **net.pieces(), layers=K))
    gradients = [
        torch.autograd.grad(x.abs().square().sum(), leaves, allow_unused=True, materialize_grads=True)
        for x in (found, wanted)
    ]
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", [name for name in ALL if name.startswith(ADAPTIVE)])
def test_layers_that_no_scheme_describes(name: str) -> None:
    with pytest.raises(NotImplementedError, match=r"no scheme of fu.schemes describes the layers of \w+"):
        ALL[name](matrix()).pieces()


def test_pieces_of_a_network_of_pieces() -> None:
    y = torch.randn(B, M, dtype=torch.float64)
    for prox in (fu.prox.L1(), fu.prox.Identity(), fu.prox.Firm()):
        net = fu.nn.Unrolled(fu.schemes.FISTA(), matrix(), prox, K)
        assert torch.equal(net(y), fu.unrolled(y, **net.pieces(), layers=K))
