"""The shapes of samples that users' operators state, and samples of another shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from refusals import check_refused
from torch import Tensor
from user_operators import Blur, H, N, Sums, W

lin = fu.operators
X = torch.randn(2, N, generator=torch.Generator().manual_seed(0))


WAYS: dict[str, tuple[Callable[[Any, Tensor], object], str]] = {
    "A(x)": (lambda op, x: op(x), "forward"),
    "A.adjoint": (lambda op, x: op.adjoint(x), "adjoint"),
    "A.normal": (lambda op, x: op.normal(x), "forward"),
    "A.gradient": (lambda op, x: op.gradient(x, x), "forward"),
    "A.solve": (lambda op, x: op.solve(x, 0.5), "forward"),
    "A.H": (lambda op, x: op.H(x), "adjoint"),
    "A @ A": (lambda op, x: (op @ op)(x), "forward"),
    "A + A": (lambda op, x: (op + op)(x), "forward"),
    "2 A": (lambda op, x: (2 * op)(x), "forward"),
    "Stack": (lambda op, x: lin.Stack(op, op)(x), "forward"),
    "with gradients": (lambda op, x: op(x.clone().requires_grad_()), "forward"),
}


@pytest.mark.parametrize("way", WAYS)
def test_samples_of_another_shape_than_a_users_operator_states(way: str) -> None:
    """In the words of the operator, and not of the product that its author has written."""
    op = Blur(torch.rand(H, W, dtype=torch.float64))
    use, method = WAYS[way]
    stated = "shape_out" if method == "adjoint" else "shape_in"
    for shape in ((2, H, W + 1), (H * W,), (W, H)):
        words = f"Blur.{method} takes samples of the shape (..., {H}, {W}) that {stated} states, got {shape}"
        check_refused((lambda shape=shape: use(op, torch.zeros(shape, dtype=torch.float64)), ValueError, words))


class OfClass(Sums):
    """States a list and a number as attributes of the class."""

    shape_in = [N]  # type: ignore[assignment]  # noqa: RUF012
    shape_out = N  # type: ignore[assignment]


class OfObject(Sums):
    """The same as attributes of the object."""

    def __init__(self) -> None:
        super().__init__()
        self.shape_in, self.shape_out = N, [N]  # type: ignore[assignment]


class OfProperty(Sums):
    """The same as a property."""

    @property
    def shape_in(self) -> Any:
        return [N]

    shape_out = shape_in


@pytest.mark.parametrize("kind", [OfClass, OfObject])
def test_a_list_or_a_number_is_a_shape(kind: type[Sums]) -> None:
    op = kind()
    assert (op.shape_in, op.shape_out) == ((N,), (N,))
    assert lin.check(op).ok
    for one in (op, OfProperty()):
        torch.testing.assert_close(fu.solvers.fista(one, X, 0.1), fu.solvers.fista(Sums(), X, 0.1))
    with pytest.raises(ValueError, match="shape_in must be a tuple of whole numbers ≥ 0, got"):
        op.shape_in = [2.5]  # type: ignore[list-item, assignment]


class Doubling(lin.LinearOperator):
    """Takes samples of any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x

    def adjoint(self, y: Tensor) -> Tensor:
        return 2 * y


class Stateless(Doubling):
    """A shape that a property cannot tell."""

    @property
    def shape_in(self) -> tuple[int, ...] | None:  # type: ignore[override]
        raise NotImplementedError("of the next picture")


def of_its_norm() -> Doubling:
    op = Doubling()
    op.shape_in = op.shape_out = (8, 8)
    return op


@pytest.mark.parametrize("make", [Doubling, Stateless, of_its_norm])
def test_products_of_samples_of_any_shape(make: Callable[[], Doubling]) -> None:
    """An operator may state the shape of which its norm is, and multiply others."""
    op, x = make(), torch.ones(2, 5, 7)
    for found in (op(x), op.adjoint(x), op(x.clone().requires_grad_())):
        assert torch.equal(found, 2 * x)
    assert torch.equal(op.normal(x), 4 * x)
