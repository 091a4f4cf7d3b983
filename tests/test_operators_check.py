"""``check`` says what is wrong with an operator, and nothing where all is well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from refusals import check_refused
from torch import Tensor
from user_operators import CASES, OPERATORS, FourierMask, H, Haar, W, mask, shape_of

lin = fu.operators
pytestmark = pytest.mark.filterwarnings("ignore:.*beta state.*")


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_right_operators(name: str, dtype: torch.dtype) -> None:
    op = OPERATORS[name][0](dtype)
    lead = (3,) if "each sample" in name else (2,)
    found = lin.check(op, torch.zeros(*lead, *shape_of(name), dtype=dtype))
    assert found, found
    assert found.problems == ()
    assert "is a linear operator from (..., " in str(found)
    assert len(found.checks) == 7
    if op.shape_in is not None and "each sample" not in name:
        assert lin.check(op).ok


class Fourier(lin.LinearOperator):
    """A right one, of which each case spoils a piece."""

    shape_in: Any = (H, W)
    shape_out: Any = (H, W)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", mask(torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return self.mask * torch.fft.fft2(x, norm="ortho")

    def adjoint(self, y: Tensor) -> Tensor:
        return torch.fft.ifft2(self.mask * y, norm="ortho")


def forward(self: Any, x: Tensor) -> Tensor:
    return self.mask * torch.fft.fft2(x, norm="ortho")


def adjoint(self: Any, y: Tensor) -> Tensor:
    return torch.fft.ifft2(self.mask * y, norm="ortho")


def changed(**methods: Any) -> lin.LinearOperator:
    made: lin.LinearOperator = type("Mine", (Fourier,), methods)()
    return made


LINEAR = "must be linear, A(c·x + z) = c·A(x) + A(z)"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a tuple": (
        {"forward": lambda self, x: (x,)}, "Mine.forward must return a tensor, got tuple: return one of its entries",
    ),
    "nothing": (
        {"forward": lambda self, x: None}, "Mine.forward must return a tensor, got NoneType: a return is missing",
    ),
    "an array": (
        {"adjoint": lambda self, y: y.numpy()}, "Mine.adjoint must return a tensor, got ndarray: use torch.from_numpy",
    ),
    "an error": (
        {"forward": lambda self, x: x @ torch.ones(3, 3)},
        "Mine.forward must take a tensor of shape (3, 6, 10) and type torch.float32, but it raised RuntimeError: ",
    ),
    "another dtype": (
        {"forward": lambda self, x: forward(self, x).to(torch.complex128)},
        "Mine.forward must return torch.float32 or torch.complex64 for torch.float32, got torch.complex128: convert it",
    ),
    "another device": (
        {"adjoint": lambda self, y: adjoint(self, y).to("meta")},
        "Mine.adjoint must return a tensor on cpu as its argument is, got one on meta",
    ),
    "another shape of the adjoint": (
        {"adjoint": lambda self, y: adjoint(self, y)[..., :-1]},
        "Mine.adjoint must return the shape of x, (3, 6, 10), but it returns (3, 6, 9)",
    ),
    "one sample alone": (
        {"forward": lambda self, x: forward(self, x)[0]},
        "Mine.forward must return the samples of x in the first dimensions, (3,), but it returns (6, 10) for (3, 6, ",
    ),
    "a shape that is not stated right": (
        {"shape_out": (5, 5)}, "shape_out must be the shape of one sample of A x, (6, 10), but it is (5, 5)",
    ),
    "random numbers": (
        {"forward": lambda self, x: forward(self, x) + 0.1 * torch.rand(x.shape)},
        "Mine.forward must return the same for the same x, but two calls differ by ",
    ),
    "in place": (
        {"adjoint": lambda self, y: torch.fft.ifft2(y.mul_(self.mask), norm="ortho")},
        "Mine.adjoint must leave its argument as it is, but it writes to it: copy it first",
    ),
    "an absolute value": (
        {"forward": lambda self, x: forward(self, x).abs()}, f"Mine.forward {LINEAR}, but they differ by ",
    ),
    "a constant": (
        {"forward": lambda self, x: forward(self, x) + 0.5},
        "Mine.forward must be linear, but it returns numbers up to 0.5 for zero: leave out the constant",
    ),
    "a conjugate of x": (
        {"forward": lambda self, x: forward(self, x.conj())},
        f"Mine.forward {LINEAR} for complex c, but it is so for real c alone: leave out conj, real or abs",
    ),
    "samples that are mixed": (
        {"forward": lambda self, x: torch.fft.fft(forward(self, x), dim=0, norm="ortho")},
        "Mine.forward must treat the samples of a batch apart, but the result of the first one changes by ",
    ),
    "three times the adjoint": (
        {"adjoint": lambda self, y: 3 * adjoint(self, y)},
        "Mine.adjoint must be the adjoint of A, but it is 3 times that: divide it by 3.",
    ),
    "its negative": (
        {"adjoint": lambda self, y: -adjoint(self, y)},
        "Mine.adjoint must be the adjoint of A, but it is -1 times that: divide it by -1.",
    ),
    "a complex factor": (
        {"adjoint": lambda self, y: 2j * adjoint(self, y)}, "but it is 0+2j times that: divide it by 0+2j.",
    ),
    "a transform that is not orthonormal": (
        {"adjoint": lambda self, y: torch.fft.ifft2(self.mask * y)},
        'divide it by 0.129099, or use norm="ortho" in both Fourier transforms',
    ),
    "no conjugate": (
        {"adjoint": lambda self, y: torch.fft.fft2(self.mask * y, norm="ortho")},
        "Mine.adjoint must be the adjoint of A, but it is the transpose: the conjugate is missing",
    ),
    "another adjoint": (
        {"adjoint": lambda self, y: adjoint(self, y).roll(1, -1)},
        "Mine.adjoint must be the adjoint of A, but for random x and y ⟨A x, y⟩ = ",
    ),
    "batches of one dimension": (
        {"forward": lambda self, x: forward(self, x) if x.dim() == 3 else forward(self, x[0])},
        "Mine.forward must take any dimensions before shape_in, but it returns (3, 6, 10) for (1, 3, 6, 10)",
    ),
    "normal": ({"normal": lambda self, x: x}, "Mine.normal must return AᴴA x, but it differs by "),
    "gradient": (
        {"gradient": lambda self, x, y: adjoint(self, y)}, "Mine.gradient must return Aᴴ(A x − y), but it differs by ",
    ),
    "solve": (
        {"solve": lambda self, b, rho: b},
        "Mine.solve must return (AᴴA + ρI)⁻¹ b, so that (AᴴA + ρI) x is b, but it differs by ",
    ),
    "norm": ({"norm": lambda self: 0.1}, "Mine.norm must be at least ‖A‖, about 1.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_operators(name: str) -> None:
    methods, words = WRONG[name]
    found = lin.check(changed(**methods))
    assert not found
    assert len(found.problems) <= 2
    text = str(found)
    assert text.startswith(f"Mine has {len(found.problems)} thing")
    assert words in text, text
    assert all("\n" not in problem for problem in found.problems)


def test_random_numbers_are_not_touched() -> None:
    before = torch.get_rng_state()
    first, second = (lin.check(changed(adjoint=lambda self, y: adjoint(self, y).roll(1, -1))) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), before)


def wrong_gradient() -> lin.LinearOperator:
    class Learned(Fourier):
        """Of which PyTorch sees a part of x alone."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.weight * forward(self, 0.5 * x + 0.5 * x.detach())

    return Learned()


def test_gradients() -> None:
    found = lin.check(wrong_gradient())
    assert len(found.problems) == 1
    assert "the gradient of Learned.forward must be Learned.adjoint, but they differ by 50 %" in found.problems[0]


@pytest.mark.parametrize("make", [lambda t: (t, None), lambda t: (None, t)], ids=["x", "y"])
def test_samples_are_given(make: Callable[[Tensor], Any]) -> None:
    assert lin.check(Haar(), *make(torch.zeros(3, 4, 6)))
    assert lin.check((torch.positive, torch.positive), *make(torch.zeros(3, 5)))
    assert lin.check(FourierMask(mask(torch.float32, 3)), *make(torch.zeros(3, H, W, dtype=torch.complex64)))


def test_refused() -> None:
    check_refused((lambda: lin.check(Haar()), ValueError, "x must be given, a batch of samples that Haar takes, since"))
    check_refused(
        (lambda: lin.check(3), TypeError, "A must be a matrix, a fu.operators.LinearOperator, an object with")
    )


def test_an_operator_that_is_zero_is_right() -> None:
    assert lin.check(lin.Gradient(), torch.zeros(1, 1, 1)).problems == ()
