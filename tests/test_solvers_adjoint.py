"""A product with A and one with its adjoint, where an operator enters a solver: a wrong adjoint warns, no right one."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll.solvers.problem import problem
from problems import Blur, Opaque, Pair, sparse_problem
from torch import Tensor

S, lin = fu.solvers, fu.operators
SOLVERS: dict[str, Callable[..., Any]] = {
    "ista": lambda op, y: S.ista(op, y, 0.1, iterations=3),
    "fista": lambda op, y: S.fista(op, y, 0.1, iterations=3, tol=1e3),
    "fista with a step": lambda op, y: S.fista(op, y, 0.1, iterations=3, step=1e-3, restart=True),
    "admm": lambda op, y: S.admm(op, y, 0.1, iterations=3),
    "admm with a solve": lambda op, y: S.admm(op, y, 0.1, iterations=3, rho=1.0, solve=lambda b, rho: b),
    "primal_dual": lambda op, y: S.primal_dual(op, y, 0.1, iterations=3),
    "amp": lambda op, y: S.amp(op, y, iterations=1),
    "duality_gap": lambda op, y: S.duality_gap(op.adjoint(y), y, op, 0.1),
}
MESSAGE = re.compile(r"A.adjoint must be the adjoint of A, but .*⟨A x, y⟩ = (\S+) and ⟨x, A.adjoint\(y\)⟩ = ([^:]+): ")


def fourier(mask: Tensor) -> Pair:
    """Samples of the Fourier transform, as complex numbers."""
    return Pair(lambda x: mask * torch.fft.fft2(x, norm="ortho"), lambda y: torch.fft.ifft2(mask * y, norm="ortho"))


def coils(maps: Tensor, mask: Tensor) -> Pair:
    """Fourier transforms (B, C, H, W) of a picture (B, H, W) as each coil sees it."""
    return Pair(
        lambda x: mask * torch.fft.fft2(maps * x[:, None], norm="ortho"),
        lambda y: (maps.conj() * torch.fft.ifft2(mask * y, norm="ortho")).sum(1),
    )


def blur(n: int, dtype: torch.dtype) -> Pair:
    """A blur of pictures by a Gaussian, which leaves nothing of high frequencies."""
    r = torch.arange(n, dtype=dtype) - n // 2
    p = torch.exp(-(r[:, None].square() + r.square()) / 8)
    transfer = torch.fft.rfft2(torch.fft.ifftshift(p / p.sum()))

    def by(t: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * t, s=(n, n))

    return Pair(by(transfer), by(transfer.conj()))


@cache
def right(dtype: torch.dtype) -> dict[str, tuple[Any, Tensor]]:
    """Operators, real and complex, and what they measure."""
    torch.manual_seed(0)
    own = dtype.to_complex()
    real = {"dtype": dtype}
    mask = (torch.rand(64, 64) < 0.2).to(dtype)
    maps = torch.randn(4, 64, 64, dtype=own)
    few = torch.zeros(256, 256, **real)
    few[0, 0] = 1.0
    A = torch.randn(30, 60, **real)
    kernel = torch.randn(1, 1, 7, **real)
    inverse = torch.nn.functional.conv_transpose1d
    return {
        "matrix": (Opaque(A), torch.randn(8, 30, **real)),
        "complex matrix": (Opaque(A.to(own) * (1 + 2j)), torch.randn(8, 30, dtype=own)),
        "one number": (Opaque(A[:1, :1]), torch.randn(3, 1, **real)),
        "one measurement": (Opaque(torch.ones(1, 100_000, **real)), torch.randn(2, 1, **real)),
        "small blur": (Blur(6, 8, dtype), torch.randn(5, 6, 8, **real)),
        "blur": (blur(128, dtype), torch.randn(2, 128, 128, **real)),
        "large blur": (blur(512, dtype), torch.randn(1, 512, 512, **real)),
        "Fourier": (fourier(mask), torch.randn(3, 64, 64, dtype=own)),
        "one frequency": (fourier(few), torch.randn(2, 256, 256, dtype=own)),
        "coils": (coils(maps, mask), torch.randn(2, 4, 64, 64, dtype=own)),
        "Fourier of real pictures": (
            Pair(
                lambda x: mask * torch.fft.fft2(x, norm="ortho"),
                lambda y: torch.fft.ifft2(mask * y, norm="ortho").real,
            ),
            torch.randn(3, 64, 64, dtype=own),
        ),
        "sums": (
            Pair(lambda x: x.cumsum(-1), lambda y: y.flip(-1).cumsum(-1).flip(-1)), torch.randn(1, 1 << 17, **real),
        ),
        "differences": (
            Pair(lambda x: x.diff(dim=-1), lambda y: -torch.nn.functional.pad(y, (1, 1)).diff(dim=-1)),
            torch.randn(4, 1000, **real),
        ),
        "convolution": (
            Pair(lambda x: torch.nn.functional.conv1d(x, kernel), lambda y: inverse(y, kernel)),
            torch.randn(4, 1, 5000, **real),
        ),
        "a mask for each sample": (
            Pair(lambda x: mask[:5] * x, lambda y: mask[:5] * y), torch.randn(5, 64, **real),
        ),
        "rows apart": (Pair(lambda x: mask * x, lambda y: mask * y), torch.randn(64, 64, **real)),
        "zero": (Pair(lambda x: 0 * x, lambda y: 0 * y), torch.randn(4, 10, **real)),
        "zero for some samples": (
            Pair(lambda x: x * torch.arange(4, **real)[:, None], lambda y: y * torch.arange(4, **real)[:, None]),
            torch.randn(4, 10, **real),
        ),
        "not finite for one sample": (
            Pair(lambda x: x / torch.arange(4, **real)[:, None], lambda y: y / torch.arange(4, **real)[:, None]),
            torch.randn(4, 10, **real),
        ),
    }  # fmt: skip


NAMES = list(right(torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_right_adjoint_is_silent(name: str, dtype: torch.dtype) -> None:
    """In any units, so that products are near the least and the largest numbers too."""
    op, y = right(dtype)[name]
    limits = torch.finfo(dtype)
    for scale in (1.0, limits.tiny, limits.tiny**0.9, limits.tiny**0.5, limits.max**0.5, limits.max**0.8):
        problem(Pair(lambda x, s=scale: s * op(x), lambda r, s=scale: s * op.adjoint(r)), y, 0.1, None)


@pytest.mark.parametrize("seed", range(20))
def test_right_adjoints_of_many_matrices(seed: int) -> None:
    """Of any size and condition."""
    random = torch.Generator().manual_seed(seed)
    m, n, batch = (int(torch.randint(1, 40, (), generator=random)) for _ in range(3))
    A = torch.randn(m, n, generator=random) * torch.logspace(0, -8, n)
    for matrix in (A, A.double(), A.cfloat() * (0.3 - 1j), A.cdouble() * 1j, A.mean(0, keepdim=True).expand(m, n)):
        problem(Opaque(matrix), torch.ones(batch, m, dtype=matrix.dtype), 0.1, None)


def one_pixel_off(op: Any) -> Pair:
    return Pair(op, lambda y: op.adjoint(y).roll(1, -1))


def without_an_edge(op: Any) -> Pair:
    return Pair(op, lambda y: torch.cat([op.adjoint(y)[..., :-1], 0 * op.adjoint(y)[..., :1]], -1))


def a_little_more(op: Any) -> Pair:
    return Pair(op, lambda y: 1.01 * op.adjoint(y))


def a_constant_more(op: Any) -> Pair:
    return Pair(lambda x: op(x) + 0.1, op.adjoint)


WRONG: dict[str, Callable[[Any], Any]] = {
    "three times": lambda op: Pair(op, lambda y: 3 * op.adjoint(y)),
    "half": lambda op: Pair(op, lambda y: 0.5 * op.adjoint(y)),
    "negative": lambda op: Pair(op, lambda y: -op.adjoint(y)),
    "one pixel off": one_pixel_off,
    "without an edge": without_an_edge,
    "a little more": a_little_more,
    "not linear": a_constant_more,
    "backwards": lambda op: Pair(op, lambda y: op.adjoint(y).flip(-1)),
    "nothing": lambda op: Pair(op, lambda y: 0 * op.adjoint(y)),
}


def numbers(record: pytest.WarningsRecorder) -> tuple[float, float]:
    """Both products that the one warning of a wrong adjoint names."""
    (told,) = [w for w in record if w.category is S.AdjointWarning]
    assert "\n" not in str(told.message)
    assert told.filename == __file__
    found = MESSAGE.match(str(told.message))
    assert found
    return float(found[1]), float(found[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("of", ["matrix", "complex matrix", "small blur", "blur", "Fourier", "coils", "differences"])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_adjoint_warns(name: str, of: str, dtype: torch.dtype) -> None:
    op, y = right(dtype)[of]
    for given in (y, y[:1]):
        with pytest.warns(S.AdjointWarning) as record:
            problem(WRONG[name](op), given, 0.1, None)
        left, other = numbers(record)
        assert abs(left - other) > 1e-4 * max(abs(left), abs(other))


def test_the_numbers_that_are_named() -> None:
    A, y, _ = sparse_problem(20, 40, 3)
    for factor in (3.0, -1.0, 0.25):
        with pytest.warns(S.AdjointWarning) as record:
            problem(Pair(Opaque(A), lambda y, f=factor: f * y @ A), y, 0.1, None)
        left, other = numbers(record)
        assert other == pytest.approx(factor * left, rel=1e-4)


def test_a_transpose_that_is_not_conjugated() -> None:
    A, y, _ = sparse_problem(20, 40, 3, torch.complex64)
    with pytest.warns(S.AdjointWarning):
        problem(Pair(Opaque(A), lambda y: y @ A), y, 0.1, None)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.filterwarnings("ignore::fastunroll.solvers.ConvergenceWarning")
def test_every_solver_looks(name: str) -> None:
    """And draws no number from the generator of the user."""
    A, y, _ = sparse_problem(20, 40, 3)
    before = torch.get_rng_state()
    SOLVERS[name](Opaque(A), y)
    with pytest.warns(S.AdjointWarning) as record:
        SOLVERS[name](Pair(Opaque(A), lambda y: 3 * y @ A), y)
    numbers(record)
    assert torch.equal(torch.get_rng_state(), before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", S.AdjointWarning)
        SOLVERS[name](Pair(Opaque(A), lambda y: 3 * y @ A), y)


def test_under_autocast_and_with_gradients() -> None:
    """What is looked at is in the precision of y, and not part of the graph."""
    A, y, _ = sparse_problem(20, 40, 3, torch.float32)
    with torch.autocast("cpu"):
        S.fista(Opaque(A), y, 0.1, iterations=3)
    leaf = y.clone().requires_grad_()
    grad = torch.autograd.grad(S.fista(Opaque(A), leaf, 0.1, iterations=3).sum(), leaf)[0]
    assert torch.isfinite(grad).all()


class Shift(lin.LinearOperator):
    """A shift whose adjoint shifts the other way, if its sign is −1."""

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.sign, self.shape_in, self.shape_out = sign, (4, 6), (4, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x.roll(1, -1)

    def adjoint(self, y: Tensor) -> Tensor:
        return y.roll(self.sign, -1)


@pytest.mark.parametrize("within", [lambda A: A, lambda A: 2 * A, lambda A: lin.Mask(torch.ones(4, 6)) @ A])
def test_networks_and_norms_ask_for_the_adjoint_too(within: Any) -> None:
    def network(sign: int) -> fu.nn.Unrolled:
        return fu.nn.Unrolled(fu.schemes.FISTA(), within(Shift(sign)), fu.prox.L1(), layers=2)

    network(-1)
    within(Shift(-1)).norm()
    with pytest.warns(S.AdjointWarning, match="A.adjoint must be the adjoint of A"):
        network(1)
    with pytest.warns(S.AdjointWarning):
        within(Shift(1)).norm()
