"""Native passes between the products of a user's operator: they look at each product, the first one and later ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from fastunroll import ops
from refusals import check_refused
from torch import Tensor, nn

B, H, W = 3, 4, 6
ITERATIONS = 8
DTYPES = torch.float32, torch.float64
SOLVERS = fu.solvers.ista, fu.solvers.fista
Change = Callable[[Tensor], Any]


def weights(dtype: torch.dtype) -> Tensor:
    return 0.2 + torch.rand(H, W, dtype=dtype, generator=torch.Generator().manual_seed(3)) / 2


def data(dtype: torch.dtype) -> Tensor:
    return torch.randn(B, H, W, dtype=dtype, generator=torch.Generator().manual_seed(4))


class Diagonal:
    """A product with weights, which answers ``change`` of it in one product, ``method``, from a call on."""

    def __init__(self, dtype: torch.dtype, method: str = "", first: int = 0, change: Change = lambda t: t) -> None:
        self.weights, self.method, self.first, self.change = weights(dtype), method, first, change
        self.calls = {"forward": 0, "adjoint": 0}

    def product(self, method: str, t: Tensor) -> Any:
        self.calls[method] += 1
        found = self.weights * t
        return self.change(found) if method == self.method and self.calls[method] > self.first else found

    def __call__(self, x: Tensor) -> Any:
        return self.product("forward", x)

    def adjoint(self, y: Tensor) -> Any:
        return self.product("adjoint", y)


class Subclass(Tensor):
    pass


def transposed(t: Tensor) -> Tensor:
    return t.transpose(0, 2).contiguous().transpose(0, 2)


def negated(t: Tensor) -> Tensor:
    """The same numbers, whose negation PyTorch has postponed."""
    found = torch.complex(t, -t).conj().imag
    assert found.is_neg()
    return found


def learned(t: Tensor) -> Tensor:
    return t * torch.ones((), dtype=t.dtype, requires_grad=True)


# Products of the right shape and type.
UNUSUAL: dict[str, Change] = {
    "transposed": transposed,
    "negated": negated,
    "of larger memory": lambda t: torch.stack([t, t], -1)[..., 0],
    "a Parameter": lambda t: nn.Parameter(t, requires_grad=False),
    "a Parameter that learns": lambda t: nn.Parameter(t),
    "a subclass": lambda t: t.as_subclass(Subclass),
    "with a gradient": learned,
    "by NumPy": lambda t: torch.from_numpy(t.detach().numpy().copy()),
}
# Products that are refused: by which error, with which words.
BAD: dict[str, tuple[Change, type[Exception], str]] = {
    "None": (lambda t: None, ValueError, "must be a tensor of the shape of {of}, (3, 4, 6), got NoneType"),
    "a tuple": (lambda t: (t,), ValueError, "must be a tensor of the shape of {of}, (3, 4, 6), got tuple"),
    "an array": (lambda t: t.numpy(), ValueError, "must be a tensor of the shape of {of}, (3, 4, 6), got ndarray"),
    "a number": (lambda t: 1.0, ValueError, "must be a tensor of the shape of {of}, (3, 4, 6), got float"),
    "a shape": (lambda t: t[..., :-1], ValueError, "must be a tensor of the shape of {of}, (3, 4, 6), got (3, 4, 5)"),
    "as many values": (
        lambda t: t.reshape(B, W, H), ValueError, "must be a tensor of the shape of {of}, (3, 4, 6), got (3, 6, 4)",
    ),
    "a shape that broadcasts": (
        lambda t: t[:1], ValueError, "must be a tensor of the shape of {of}, (3, 4, 6), got (1, 4, 6)",
    ),
    "another axis": (lambda t: t[None], ValueError, "must be a tensor of the shape of {of}, (3, 4, 6), got (1, 3, 4"),
    "half precision": (lambda t: t.half(), TypeError, "must be {dtype} where {of} is {dtype}, got torch.float16"),
    "whole numbers": (lambda t: t.long(), TypeError, "must be {dtype} where {of} is {dtype}, got torch.int64"),
    "another precision": (
        lambda t: t.to(torch.float64 if t.dtype == torch.float32 else torch.float32), TypeError,
        "must be {dtype} where {of} is {dtype}, got torch.float",
    ),
    "complex": (lambda t: t.to(t.dtype.to_complex()), TypeError, "is complex where {of} is real"),
    "elsewhere": (lambda t: t.to("meta"), ValueError, "is on meta and the data on cpu: move one with .to()"),
}  # fmt: skip
FAILS = {"forward": "A must take a tensor of shape", "adjoint": "A.adjoint must take a tensor of shape"}


def called_before(method: str) -> int:
    """Products of a call before its iterations: Aᴴy, and those of the test of the adjoint."""
    return {"forward": 1, "adjoint": 2}[method]


@pytest.mark.parametrize("later", [0, 1, 4])
@pytest.mark.parametrize("method", ["forward", "adjoint"])
@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_bad_product_is_refused_in_any_iteration(dtype: torch.dtype, name: str, method: str, later: int) -> None:
    change, error, words = BAD[name]
    of, says = ("y", "A(x) ") if method == "forward" else ("the first one", "A.adjoint(y) ")
    if "elsewhere" not in name:
        words = says + words.format(of=of, dtype=dtype)
    for solve in SOLVERS:
        op = Diagonal(dtype, method, called_before(method) + later, change)
        check_refused((lambda: solve(op, data(dtype), 0.05, step=1.0, iterations=ITERATIONS), error, words))  # noqa: B023
        assert op.calls[method] == called_before(method) + later + 1


@pytest.mark.parametrize("later", [0, 1, 4])
@pytest.mark.parametrize("method", FAILS)
def test_an_error_of_torch_is_explained_in_any_iteration(method: str, later: int) -> None:
    for solve in SOLVERS:
        op = Diagonal(torch.float32, method, called_before(method) + later, lambda t: t @ torch.ones(3, 3))
        words = FAILS[method] + " (3, 4, 6) and type torch.float32, but it raised: "
        check_refused((lambda: solve(op, data(torch.float32), 0.05, step=1.0), ValueError, words))  # noqa: B023


@pytest.mark.parametrize("later", [0, 1, 4])
@pytest.mark.parametrize("method", ["forward", "adjoint"])
@pytest.mark.parametrize("name", UNUSUAL)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_unusual_product_changes_nothing(dtype: torch.dtype, name: str, method: str, later: int) -> None:
    """Native passes read it, or PyTorch goes on from it."""
    y, tolerance = data(dtype), {"rtol": 1e-6, "atol": 1e-6}
    for solve in SOLVERS:
        for options in ({}, {"nonnegative": True}, {"tol": 1e-12}, {"x0": transposed(y) / 2}):
            given: dict[str, Any] = {"step": 1.0, "iterations": ITERATIONS, **options}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", fu.solvers.ConvergenceWarning)
                expected = solve(Diagonal(dtype), y, 0.05, **given)
                found = solve(Diagonal(dtype, method, called_before(method) + later, UNUSUAL[name]), y, 0.05, **given)
            torch.testing.assert_close(found.detach().as_subclass(Tensor), expected, **tolerance)
            assert found.requires_grad == (name in ("with a gradient", "a Parameter that learns"))


@pytest.mark.parametrize("solve", SOLVERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_same_as_plain_pytorch(dtype: torch.dtype, solve: Callable[..., Tensor]) -> None:
    """With thresholds of all kinds, from a start, and where y is infinite or no number in one sample."""
    y = data(dtype)
    y[1, 0, 0], y[2, 1, 1] = torch.inf, torch.nan
    for lam in (0.05, torch.rand(B, 1, 1, dtype=dtype), torch.rand(H, W, dtype=dtype), torch.rand(H, 1, dtype=dtype)):
        for options in ({}, {"nonnegative": True}, {"x0": data(dtype).flip(0)}):
            given: dict[str, Any] = {"step": 1.0, "iterations": ITERATIONS, **options}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", fu.solvers.ConvergenceWarning)
                found = solve(Diagonal(dtype), y, lam, **given)
                with ops.plain():
                    expected = solve(Diagonal(dtype), y, lam, **given)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, equal_nan=True)


def hidden(t: Tensor) -> Tensor:
    """A tensor that stands for one sample of a transform, which has ended."""
    kept: list[Tensor] = []

    def keep(sample: Tensor) -> Tensor:
        kept.append(sample)
        return sample

    torch.vmap(keep)(t[None])
    return kept[0]


# What no native pass may read.
UNREADABLE: dict[str, Change] = {
    "sparse": lambda t: t.to_sparse(),
    "compressed": lambda t: t[0].to_sparse_csr(),
    "nested": lambda t: torch.nested.nested_tensor([*t]),
    "quantized": lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
    "on the meta device": lambda t: t.to("meta"),
    "zeros that are not written": lambda t: torch._efficientzerotensor(t.shape, dtype=t.dtype),
    "negated": negated,
    "transposed": transposed,
    "expanded": lambda t: t[:1].expand(B, H, W),
    "a subclass": lambda t: t.as_subclass(Subclass),
    "with a gradient": learned,
    "hidden by vmap": hidden,
    "of another type": lambda t: t.half(),
    "complex": lambda t: torch.complex(t, t),
    "of another shape": lambda t: t[:2],
    "of too many dimensions": lambda t: t.reshape(B, H, W, *[1] * 9),
    "an array": lambda t: t.numpy(),
    "a list": lambda t: t.tolist(),
    "nothing": lambda t: None,
    "the class": lambda t: Tensor,
    "an array of tensors": lambda t: np.array([t, None], dtype=object),
}
NO_TENSORS = "an array", "a list", "nothing", "the class", "an array of tensors"


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_pass_leaves_alone_what_it_cannot_read(dtype: torch.dtype, name: str) -> None:
    t, x, y = UNREADABLE[name](data(dtype)), data(dtype), data(dtype) / 2
    passes = ops.operator_passes(x, y, -y, torch.full((1,), 0.1, dtype=dtype), (1, 1, B * H * W), 0.5, False)
    assert passes is not None
    before = passes.residual
    assert passes.iterate(t, 0.5, 2) is None
    assert passes.residual_at(t, 0.5, 2) is None
    assert passes.residual is before
    assert torch.equal(before, -y)
    following = passes.iterate(y, 0.0, 2)
    assert following is not None
    torch.testing.assert_close(following, fu.prox.soft_threshold(x - 0.5 * y, 0.1), rtol=1e-6, atol=1e-6)
