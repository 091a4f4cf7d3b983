"""Layers over a user's operator: products on the short way are those of the longer one, and refused by its words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from test_between_products import BAD, UNUSUAL, H, W, data, weights
from torch import Tensor, nn

lin = fu.operators
LAYERS = 5
FORWARD, ADJOINT = "forward", "adjoint"
CONVERTED = "half precision", "whole numbers", "another precision", "complex"  # A x as it is subtracted from y
Change = Callable[[Tensor], Any]


class Diagonal(lin.LinearOperator):
    """A product with weights, which answers ``change`` of it in one product, ``method``, from a call on."""

    shape_in = shape_out = (H, W)

    def __init__(self, dtype: torch.dtype, method: str = "", first: int = 0, change: Change = lambda t: t) -> None:
        super().__init__()
        self.register_buffer("weights", weights(dtype))
        self.method, self.first, self.change = method, first, change
        self.calls = {FORWARD: 0, ADJOINT: 0}

    def product(self, method: str, t: Tensor) -> Any:
        self.calls[method] += 1
        found = self.weights * t
        return self.change(found) if method == self.method and self.calls[method] > self.first else found

    def forward(self, x: Tensor) -> Any:
        return self.product(FORWARD, x)

    def adjoint(self, y: Tensor) -> Any:
        return self.product(ADJOINT, y)


class WithItsOwn(Diagonal):
    """The same with a gradient of its own, which is that of all operators: it takes the longer way."""

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = lin.LinearOperator.gradient(self, x, y)
        return found

    def forward(self, x: Tensor) -> Any:
        return self.product(FORWARD, x)


def run(op: lin.LinearOperator, y: Tensor, x0: Tensor | None) -> Tensor:
    step = fu.GradientStep(op, step=1.0)
    return fu.unrolled(y, scheme=fu.schemes.FISTA(), linear=step, prox=fu.prox.L1(), theta=0.05, layers=LAYERS, x0=x0)


STARTS: list[Callable[[torch.dtype], Tensor | None]] = [lambda dtype: None, lambda dtype: data(dtype) / 3]
given = pytest.mark.parametrize("start", STARTS, ids=["from zero", "from x0"])
later = pytest.mark.parametrize("later", [0, 1, 3])
methods = pytest.mark.parametrize("method", [FORWARD, ADJOINT])
types = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


@given
@later
@methods
@types
@pytest.mark.parametrize("name", BAD)
def test_a_bad_product_is_refused_as_by_the_longer_way(
    dtype: torch.dtype, name: str, method: str, later: int, start: Callable[[torch.dtype], Tensor | None]
) -> None:
    outcomes = []
    for kind in (Diagonal, WithItsOwn):
        try:
            outcomes.append(run(kind(dtype, method, later, BAD[name][0]), data(dtype), start(dtype)))
        except (TypeError, ValueError) as error:
            outcomes.append((type(error), str(error).replace("WithItsOwn", "Diagonal")))
    found, expected = outcomes
    if isinstance(expected, Tensor):  # of a type that PyTorch converts, or that the first product tells
        assert name in CONVERTED
        assert torch.equal(found, expected)
    else:
        assert found == expected
        assert "\n" not in found[1]


@given
@later
@methods
@types
@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_product_changes_nothing(
    dtype: torch.dtype, name: str, method: str, later: int, start: Callable[[torch.dtype], Tensor | None]
) -> None:
    y, x0 = data(dtype), start(dtype)
    expected = run(Diagonal(dtype), y, x0)
    for kind in (Diagonal, WithItsOwn):
        found = run(kind(dtype, method, later, UNUSUAL[name]), y, x0)
        torch.testing.assert_close(found.detach().as_subclass(Tensor), expected, rtol=1e-6, atol=1e-6)


@types
def test_each_product_is_made_once(dtype: torch.dtype) -> None:
    """Also where products are of a type of the user's."""
    calls = []
    for op in (
        WithItsOwn(dtype),
        Diagonal(dtype),
        Diagonal(dtype, FORWARD, 0, UNUSUAL["a subclass"]),
        Diagonal(dtype, FORWARD, 2, UNUSUAL["a subclass"]),
    ):
        run(op, data(dtype), None)
        calls.append((op.calls[FORWARD], op.calls[ADJOINT]))
    assert calls == calls[:1] * 4


class Learned(Diagonal):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__(dtype)
        self.factor = nn.Parameter(torch.full((), 0.9, dtype=dtype))

    def product(self, method: str, t: Tensor) -> Any:
        return self.factor * super().product(method, t)


class LearnedWithItsOwn(Learned):
    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        found: Tensor = lin.LinearOperator.gradient(self, x, y)
        return found

    def forward(self, x: Tensor) -> Any:
        return self.product(FORWARD, x)


@given
@types
def test_gradients_of_a_learned_operator(dtype: torch.dtype, start: Callable[[torch.dtype], Tensor | None]) -> None:
    found = []
    for kind in (Learned, LearnedWithItsOwn):
        op, y = kind(dtype), data(dtype).requires_grad_()
        run(op, y, start(dtype)).square().sum().backward()
        assert op.factor.grad is not None
        assert y.grad is not None
        found.append((op.factor.grad, y.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("worn", ["y", "weights", "x0"])
def test_checkpoints_of_tensors_of_a_users_type(worn: str) -> None:
    """The backward pass, in which PyTorch makes plain tensors, computes the same layers again."""
    op, y, x0 = Diagonal(torch.float64), data(torch.float64), data(torch.float64) / 3
    weights, given = op.weights.clone().requires_grad_(), {"y": y, "weights": op.weights, "x0": x0}
    kept = []
    for segment in (0, 1, 2):
        given["weights"] = weights
        dressed = {name: UNUSUAL["a subclass"](t) if name == worn else t for name, t in given.items()}
        op.weights = dressed["weights"]
        out = fu.unrolled(
            dressed["y"], scheme=fu.schemes.FISTA(), linear=fu.GradientStep(op, step=1.0), prox=fu.prox.L1(),
            theta=0.05, layers=LAYERS, x0=dressed["x0"] if worn == "x0" else None, keep_every=segment or None,
        )  # fmt: skip
        kept += torch.autograd.grad(out.square().sum(), [weights])
    assert torch.equal(kept[0], kept[1])
    assert torch.equal(kept[0], kept[2])
