"""Zeros that torch has not written: a tensor without memory, as autograd passes on where a gradient is zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll import ops
from torch import Tensor

lin = fu.operators
A, B = torch.randn(4, 5), torch.randn(3, 4, 5)
LEARNED = A.clone().requires_grad_()
SINGLE, TWO = torch.rand(2), torch.rand(2, 1)

# What is called with x, and the shape of x.
CALLS: dict[str, tuple[Callable[[Tensor], Any], tuple[int, ...]]] = {
    "soft_threshold": (lambda x: fu.soft_threshold(x, 0.1), (3, 5)),
    "Dense": (lin.Dense(A), (3, 5)),
    "Dense, learned": (lin.Dense(A, learn=True), (3, 5)),
    "Dense, adjoint": (lin.Dense(A).adjoint, (3, 4)),
    "Dense of zeros": (lambda x: lin.Dense.of(x)(torch.ones(3, 5)), (4, 5)),
    "Blur": (lin.Blur(torch.ones(3, 3)), (2, 8, 8)),
    "Blur, learned": (lin.Blur(torch.ones(3, 3), learn=True), (2, 8, 8)),
    "Mask": (lin.Mask(torch.ones(8, 8)), (2, 8, 8)),
    "Wavelet": (lin.Wavelet("db2"), (2, 8, 8)),
    "gradient_step": (lambda x: fu.gradient_step(x, torch.ones(3, 4), A, 0.1), (3, 5)),
    "unrolled": (lambda y: fu.unrolled(y, fu.GradientStep(A, step=0.1), fu.prox.L1(), 0.1, layers=2), (3, 4)),
    "unrolled, learned": (
        lambda y: fu.unrolled(y, fu.GradientStep(LEARNED, step=0.1), fu.prox.L1(), 0.1, layers=2), (3, 4),
    ),
    "LISTA": (fu.nn.LISTA(A, layers=2), (3, 4)),
    "LISTA without gradients": (fu.nn.LISTA(A, layers=2).requires_grad_(False), (3, 4)),
    "sample_layers": (lambda y: ops.sample_layers(B, y, None, SINGLE, TWO, None, "soft"), (3, 4)),
    "layers over pictures": (
        fu.nn.Unrolled(fu.schemes.FISTA(), lin.Blur(torch.ones(3, 3)), fu.prox.TotalVariation(3), 2), (2, 8, 8),
    ),
    "fista": (lambda y: fu.solvers.fista(A, y, 0.1, iterations=3), (3, 4)),
    "lasso": (lambda y: fu.solvers.lasso(A, y, 0.1).x, (3, 4)),
    "lasso over zeros": (lambda x: fu.solvers.lasso(x, torch.ones(3, 4), 0.1).x, (4, 5)),
}  # fmt: skip


def zeros(*shape: int) -> Tensor:
    found = torch._efficientzerotensor(shape)
    assert found.data_ptr() == 0
    return found


@pytest.mark.parametrize("name", CALLS)
def test_values(name: str) -> None:
    call, shape = CALLS[name]
    torch.testing.assert_close(call(zeros(*shape)), call(torch.zeros(shape)))


@pytest.mark.parametrize("name", CALLS)
def test_gradients(name: str) -> None:
    """Of a gradient that is zero."""
    call, shape = CALLS[name]
    x = torch.randn(shape, requires_grad=True)
    out = call(x)
    assert not torch.autograd.grad(out, x, zeros(*out.shape))[0].any()
