"""Iterations without gradients call an operator as its user has made it: with its hooks and methods of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import fastunroll as fu
import pytest
import torch
from torch import Tensor, nn
from user_operators import Blur

ITERATIONS = 7
lin = fu.operators


def blur() -> Blur:
    return Blur(torch.rand(6, 10, dtype=torch.float64) / 30)


class Layer(nn.Module):
    """A user's module that is no operator of fastunroll."""

    def __init__(self) -> None:
        super().__init__()
        self.op = blur()

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.op.adjoint(y)


def hooked(op: nn.Module, count: Callable[[], None]) -> None:
    op.register_forward_hook(lambda *_: count())


def hooked_before(op: nn.Module, count: Callable[[], None]) -> None:
    op.register_forward_pre_hook(lambda *_: count())


def with_a_forward_of_its_own(op: nn.Module, count: Callable[[], None]) -> None:
    usual = op.forward

    def forward(x: Tensor) -> Tensor:
        count()
        return usual(x)

    op.forward = forward  # type: ignore[method-assign]


def with_an_adjoint_of_its_own(op: Any, count: Callable[[], None]) -> None:
    usual = op.adjoint

    def adjoint(y: Tensor) -> Tensor:
        count()
        return usual(y)

    op.adjoint = adjoint


def watched(op: nn.Module, count: Callable[[], None]) -> None:
    """A hook of all modules of the process."""
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: count() if module is op else None)
    op.__dict__["remove"] = handle.remove


WAYS = [hooked, hooked_before, with_a_forward_of_its_own, with_an_adjoint_of_its_own, watched]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [blur, Layer])
def test_each_product_is_seen(make: Callable[[], nn.Module], way: Callable[..., None]) -> None:
    op, y = make(), torch.randn(3, 6, 10, dtype=torch.float64)
    expected = fu.solvers.fista(op, y, 0.01, iterations=ITERATIONS, step=0.5)
    calls = []
    way(op, lambda: calls.append(1))
    try:
        found = fu.solvers.fista(op, y, 0.01, iterations=ITERATIONS, step=0.5)
    finally:
        op.__dict__.get("remove", lambda: None)()
    assert len(calls) == ITERATIONS + 1  # and one of the test of the adjoint
    assert torch.equal(found, expected)


def doubled(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(method)
    def product(self: Any, x: Tensor) -> Tensor:
        return 2 * method(self, x)

    return product


class Twice(lin.LinearOperator):
    @doubled
    def forward(self, x: Tensor) -> Tensor:
        return x

    @doubled
    def adjoint(self, y: Tensor) -> Tensor:
        return y


def test_a_decorated_product_stays_decorated() -> None:
    y = torch.randn(2, 5, dtype=torch.float64)
    found = fu.solvers.fista(Twice(), y, 0.3, iterations=200, step=0.25)
    expected = torch.sgn(y) * torch.relu(2 * y.abs() - 0.3) / 4
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
