"""Pictures and weights, in one pass: to the bit what PyTorch computes in several."""

from __future__ import annotations

from collections.abc import Callable

import fastunroll as fu
import pytest
import torch
from fastunroll import ops
from fastunroll.ops import Weighting
from test_between_products import NO_TENSORS, UNREADABLE, data
from torch import Tensor

SHAPES = [  # of weights, and of pictures
    ((5, 7), (5, 7)), ((5, 7), (3, 5, 7)), ((1, 7), (3, 5, 7)), ((5, 1), (2, 3, 5, 7)), ((1, 1), (2, 5, 7)),
    ((3, 5, 7), (3, 5, 7)), ((3, 1, 1), (2, 3, 5, 7)), ((1, 3, 5, 1), (2, 3, 5, 7)), ((90, 100), (9, 90, 100)),
]  # fmt: skip
DTYPES = torch.float32, torch.float64
types = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def with_extremes(t: Tensor) -> Tensor:
    t.view(-1)[::11] = torch.inf
    t.view(-1)[1::13] = torch.nan
    t.view(-1)[2::7] = 0.0
    return t


WAYS: dict[Weighting, Callable[..., Tensor]] = {
    Weighting.PRODUCT: lambda w, x: w * x,
    Weighting.QUOTIENT: lambda w, x: x / w,
    Weighting.DIFFERENCE: lambda w, x, z: w * x - z,
    Weighting.TWICE: lambda w, x, z: w * (w * x - z),
}
ways = pytest.mark.parametrize("way", WAYS)


def given(way: Weighting, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The weights and the pictures that it takes."""
    return tensors if way >= Weighting.DIFFERENCE else tensors[:2]


@types
@pytest.mark.usefixtures("instruction_set")
@ways
@pytest.mark.parametrize(("of_weights", "shape"), SHAPES, ids=str)
def test_as_pytorch(of_weights: tuple[int, ...], shape: tuple[int, ...], way: Weighting, dtype: torch.dtype) -> None:
    tensors = given(way, *(with_extremes(torch.randn(s, dtype=dtype)) for s in (of_weights, shape, shape)))
    wanted = WAYS[way](*tensors)
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        found = ops.weigh(way, *tensors)
        torch.set_num_threads(before)
        assert found is not None
        assert found.isnan().equal(wanted.isnan())
        assert found.nan_to_num(0.0).equal(wanted.nan_to_num(0.0))


@types
@ways
@pytest.mark.parametrize(("of_weights", "shape"), [((3, 1, 7), (3, 5, 7)), ((4, 7), (5, 7)), ((2, 5, 7), (5, 7))])
def test_weights_that_are_left_to_pytorch(
    of_weights: tuple[int, ...], shape: tuple[int, ...], way: Weighting, dtype: torch.dtype
) -> None:
    """They broadcast in another way, or not at all."""
    tensors = [torch.randn(s, dtype=dtype) for s in (of_weights, shape, shape)]
    assert ops.weigh(way, *given(way, *tensors)) is None
    fitting = [torch.randn(shape, dtype=dtype) for _ in range(3)]
    assert ops.weigh(way, *fitting[: 5 - len(given(way, *fitting))]) is None  # z too many, or missing


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("name", [name for name in UNREADABLE if name not in NO_TENSORS])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_tensors_that_are_left_to_pytorch(place: int, name: str) -> None:
    tensors = [data(torch.float32) for _ in range(3)]
    tensors[place] = UNREADABLE[name](tensors[place])
    assert ops.weigh(Weighting.TWICE, *tensors) is None
    if name == "with a gradient":
        with torch.no_grad():
            assert ops.weigh(Weighting.TWICE, *tensors) is not None


PRODUCTS: dict[str, Callable[[fu.operators.Mask, Tensor, Tensor], Tensor]] = {
    "gradient": lambda A, x, y: A.gradient(x, y),
    "collapsed gradient": lambda A, x, y: A.collapsed_gradient(x, A.adjoint(y)),
}


@types
@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("kind", ["of pixels", "of columns", "of each sample", "complex", "learned", "half precision"])
def test_gradients_of_masks(kind: str, name: str, dtype: torch.dtype) -> None:
    """The same by PyTorch, in all its ways."""
    shape = {"of columns": (1, 7), "of each sample": (3, 5, 7)}.get(kind, (5, 7))
    own = dtype.to_complex() if kind == "complex" else torch.float16 if kind == "half precision" else dtype
    of_x = own if kind == "complex" else torch.float32 if kind == "half precision" else dtype
    A = fu.operators.Mask(torch.randn(shape).to(own), learn=kind == "learned")
    x, y = (torch.randn(3, 5, 7, dtype=of_x) for _ in range(2))
    with ops.plain():
        expected = PRODUCTS[name](A, x, y)
    for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with context():
            found = PRODUCTS[name](A, x, y)
            assert found.requires_grad == (kind == "learned" and context is torch.enable_grad)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    moved = torch.func.jvp(lambda v: PRODUCTS[name](A, v, y), (x,), (torch.ones_like(x),))[1]
    torch.testing.assert_close(moved, A.normal(torch.ones_like(x)), rtol=1e-5, atol=1e-5)
    each = torch.vmap(lambda v: PRODUCTS[name](A, v, y))(torch.stack([x, x]))
    torch.testing.assert_close(each, torch.stack([expected, expected]), rtol=1e-5, atol=1e-5)


@types
def test_a_number_in_the_place_of_a_solve_is_kept_and_checked(dtype: torch.dtype) -> None:
    """Each ρ for itself, another one after it, and after the mask has changed."""
    A, b = fu.operators.Mask(torch.rand(5, 7, dtype=dtype)), torch.randn(3, 5, 7, dtype=dtype)
    for _ in range(2):
        for rho in (0.5, 2.0, torch.tensor(0.5, dtype=dtype), 1):
            assert torch.equal(A.solve(b, rho), b / (A.mask.square() + rho))
            for wrong in (0.0, -1.0, torch.inf, torch.nan):
                with pytest.raises(ValueError, match="rho must be a finite number > 0"):
                    A.solve(b, wrong)
        A.mask.mul_(2)
