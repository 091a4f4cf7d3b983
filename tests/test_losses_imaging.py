"""Losses of pictures and losses without ground truth, against the same in plain PyTorch, from one table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll import training
from fastunroll.operators.restricted import Restricted, restricted
from refusals import Refused, check_refused
from torch import Tensor

DOUBLE, SIZE, SEED = torch.float64, (13, 13), 7
lin = fu.operators


def random(*shape: int, seed: int = 1, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def columns() -> Tensor:
    return (random(SIZE[1]) > -0.3).double()


OPERATORS: dict[str, Callable[[], Any]] = {
    "blur": lambda: lin.Blur(random(3, 3).abs() / 6),
    "inpainting": lambda: lin.Mask((random(*SIZE) > 0).double()),
    "scan": lambda: lin.Fourier(columns()),
    "coils": lambda: lin.MultiCoilFourier(columns(), random(3, *SIZE, dtype=torch.complex128)),
    "matrix": lambda: lin.Dense(random(9, 12) / 4),
}


def problem(name: str) -> tuple[Any, Any, Tensor, Tensor]:
    """A network, its operator, measurements with noise and the truth."""
    A = OPERATORS[name]()
    kind = torch.complex128 if name in ("scan", "coils") else DOUBLE
    x = random(4, *((12,) if name == "matrix" else SIZE), seed=2, dtype=kind)
    y = A(x)
    y = y + 0.1 * (y != 0) * random(*y.shape, seed=3, dtype=y.dtype)
    return fu.nn.Unrolled(fu.schemes.FISTA(), A, fu.prox.L1(), 3, lam=0.1, dtype=DOUBLE), A, y, x


@dataclass(frozen=True)
class Case:
    """A loss of the network and its operator, and its formula of net, A, x̂, y, x and a seeded generator."""

    make: Callable[[Any, Any], training.Loss]
    formula: Callable[[Any, Any, Tensor, Tensor, Tensor, torch.Generator], Tensor]
    operators: tuple[str, ...] = tuple(OPERATORS)


def square(error: Tensor) -> Tensor:
    return (error * error.conj()).real


def sure(net: Any, A: Any, x_hat: Tensor, y: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
    b, tau, m = torch.randn(y.shape, generator=generator, dtype=y.dtype), 0.01, y.numel()
    divergence = (b.conj() * (A(net(y + tau * b)) - A(x_hat))).sum().real / tau
    return square(A(x_hat) - y).sum() / m - 0.1**2 + 2 * 0.1**2 / m * divergence


def splitting(*together: int) -> Callable[..., Tensor]:
    def formula(net: Any, A: Any, x_hat: Tensor, y: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        shape = list(y.shape)
        for d in together:
            shape[d] = 1
        held = (torch.rand(shape, generator=generator) < 0.3).expand(y.shape)
        other = (lambda x: ~held * A(x), lambda y: A.adjoint(~held * y))
        return square(A(net(~held * y, operator=other)) - y)[held].mean()

    return formula


def equivariance(draw: Callable[[Tensor, torch.Generator], Tensor]) -> Callable[..., Tensor]:
    def formula(net: Any, A: Any, x_hat: Tensor, y: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        moved = draw(x_hat, generator)
        return square(moved - net(A(moved))).mean()

    return formula


def turned(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rot90(x, int(torch.randint(1, 4, (), generator=generator)), (-2, -1))


def flipped(x: Tensor, generator: torch.Generator) -> Tensor:
    return x.flip([(-1,), (-2,), (-2, -1)][int(torch.randint(0, 3, (), generator=generator))])


def shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    down = int(torch.randint(SIZE[0], (), generator=generator))
    return x.roll((down, int(torch.randint(SIZE[1], (), generator=generator))), (-2, -1))


IMAGING = "blur", "inpainting", "scan", "coils"
CASES: dict[str, Case] = {
    "L1": Case(lambda net, A: training.absolute_error, lambda net, A, x_hat, y, x, g: square(x_hat - x).sqrt().mean()),
    "L2": Case(lambda net, A: training.mean_square, lambda net, A, x_hat, y, x, g: square(x_hat - x).sum() / len(x)),
    "SSIM": Case(
        lambda net, A: training.structural_similarity(2.0),
        lambda net, A, x_hat, y, x, g: 1 - fu.metrics.ssim(x_hat, x, 2.0, gaussian=True).mean(),
        IMAGING,
    ),
    "measurements": Case(
        lambda net, A: training.measurement_error(A), lambda net, A, x_hat, y, x, g: square(A(x_hat) - y).mean()
    ),
    "SURE": Case(lambda net, A: training.sure(net, A, 0.1, seed=SEED), sure),
    "SURE of tensors": Case(
        lambda net, A: training.sure(net, A, torch.tensor(0.1, dtype=DOUBLE), step=0.01, seed=SEED), sure
    ),
    "splitting": Case(lambda net, A: training.splitting(net, A, share=0.3, seed=SEED), splitting()),
    "splitting of columns": Case(
        lambda net, A: training.splitting(net, A, share=0.3, together=(-2,), seed=SEED), splitting(-2), IMAGING
    ),
    "splitting of columns of all coils": Case(
        lambda net, A: training.splitting(net, A, share=0.3, together=(1, 2), seed=SEED), splitting(1, 2), ("coils",)
    ),
    "rotations": Case(lambda net, A: training.equivariance(net, A, seed=SEED), equivariance(turned), IMAGING),
    "flips": Case(lambda net, A: training.equivariance(net, A, "flip", seed=SEED), equivariance(flipped), IMAGING),
    "shifts": Case(lambda net, A: training.equivariance(net, A, "shift", seed=SEED), equivariance(shifted), IMAGING),
    "a function": Case(
        lambda net, A: training.equivariance(net, A, lambda x, g: 2 * x, seed=SEED), equivariance(lambda x, g: 2 * x)
    ),
}
PAIRS = [(name, operator) for name, case in CASES.items() for operator in case.operators]


@pytest.mark.parametrize(("name", "operator"), PAIRS)
def test_formula_and_gradients(name: str, operator: str) -> None:
    case, (net, A, y, x) = CASES[name], problem(operator)
    loss, generator = case.make(net, A), torch.Generator().manual_seed(SEED)
    leaves = [p for p in net.parameters() if p.requires_grad]
    for _ in range(2):  # the second call draws other numbers
        x_hat = net(y)
        found, wanted = loss(x_hat, y, x), case.formula(net, A, x_hat, y, x, generator)
        assert found.shape == ()
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
        of_found, of_wanted = (
            torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
            for value in (found, wanted)
        )
        for a, b in zip(of_found, of_wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(("name", "operator"), PAIRS)
def test_a_seed_gives_the_same_bits(name: str, operator: str) -> None:
    case, (net, A, y, x) = CASES[name], problem(operator)
    x_hat = net(y)
    first, second = case.make(net, A), case.make(net, A)
    for _ in range(2):
        assert torch.equal(first(x_hat, y, x), second(x_hat, y, x))


class Same(lin.LinearOperator):
    def forward(self, x: Tensor) -> Tensor:
        return x * 1

    def adjoint(self, y: Tensor) -> Tensor:
        return y * 1


def test_sure_is_the_error_in_the_mean() -> None:
    """Of a soft threshold, whose error is known, real and complex."""
    for dtype in (DOUBLE, torch.complex128):
        x = random(200_000, seed=2, dtype=dtype) * (random(200_000, seed=4) > 1)
        y, sigma = x + 0.3 * random(200_000, seed=3, dtype=dtype), 0.3
        estimate = training.sure(lambda y: fu.soft_threshold(y, 0.4), Same(), sigma)
        x_hat = fu.soft_threshold(y, 0.4)
        assert estimate(x_hat, y, None).item() == pytest.approx(float(square(x_hat - x).mean()), rel=0.02)


def test_sure_where_nothing_is_measured() -> None:
    """Noise of zero where the mask is zero: the estimate is that of the measured numbers."""
    net, A, y, _ = problem("scan")
    sigma = 0.1 * columns()
    found = training.sure(net, A, sigma, seed=SEED)(net(y), y, None)
    share = float(columns().mean())
    offset = 0.1**2 * (1 - share)
    wanted = training.sure(net, A, 0.1, seed=SEED)(net(y), y, None) + offset
    assert found.item() == pytest.approx(wanted.item(), rel=1e-9)


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_without_some_measurements(name: str) -> None:
    A, (_, _, y, x) = OPERATORS[name](), problem(name)
    for shape in (y.shape, (1,) * (y.dim() - 1) + y.shape[-1:]):
        keep = (torch.rand(shape, generator=torch.Generator().manual_seed(5)) < 0.5).double()
        op = restricted(A, keep)
        torch.testing.assert_close(op(x), keep * A(x))
        torch.testing.assert_close(op.adjoint(y), A.adjoint(keep * y))
        torch.testing.assert_close(op.normal(x), A.adjoint(keep * A(x)))
        assert isinstance(op, Restricted) == (name in ("blur", "matrix") or (name == "coils" and shape == y.shape))
        if name != "blur" or isinstance(op, Restricted):
            assert op.norm() <= A.norm() * (1 + 1e-12)


LEARNED: dict[str, Callable[[Any, Any], training.Loss]] = {
    "SURE": lambda net, A: training.sure(net, A, 0.3 * A.mask),
    "splitting": lambda net, A: training.splitting(net, A),
    "equivariant imaging": lambda net, A: training.total(
        (1, training.sure(net, A, 0.3 * A.mask)), (0.5, training.equivariance(net, A, "flip"))
    ),
}


@pytest.mark.parametrize("name", LEARNED)
def test_a_network_learns_without_truth(name: str) -> None:
    """A scan with noise: the error falls, of which the loss knows nothing."""
    torch.manual_seed(0)
    x = torch.randn(8, 16, 16).cumsum(-1).cumsum(-2) / 16
    A = lin.Fourier((torch.rand(16, 16) < 0.8).float(), real=True)
    y = A(x)
    y = y + 0.3 * (y != 0) * torch.randn_like(y)
    net = fu.nn.Unrolled(fu.schemes.FISTA(), A, fu.prox.WaveletL1("haar", 2), 5, lam=1e-3)
    loss = LEARNED[name](net, A)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    before = (net(y) - x).square().mean().item()
    for _ in range(20):
        optimizer.zero_grad()
        loss(net(y), y, None).backward()
        optimizer.step()
    assert (net(y) - x).square().mean().item() < 0.85 * before


NET, A, Y, X = problem("blur")
WIDE = torch.zeros(2, 11, 14)
REFUSED: dict[str, Refused] = {
    "no net": (lambda: training.sure(3, A, 0.1), TypeError, "net must be a function"),  # type: ignore[arg-type]
    "no noise": (lambda: training.sure(NET, A, 0.0), ValueError, "sigma must be a finite number > 0, got 0.0"),
    "no step": (lambda: training.sure(NET, A, 0.1, step=math.nan), ValueError, "step must be a finite number > 0"),
    "no operator": (lambda: training.measurement_error(3), TypeError, "A must be a matrix"),
    "share": (lambda: training.splitting(NET, A, share=1.0), ValueError, "share must be in (0, 1)"),
    "dimension": (
        lambda: training.splitting(NET, A, together=(-4,))(X, Y, None), ValueError,
        "together must be dimensions of y, which has 3, got (-4,)",
    ),
    "transform": (
        lambda: training.equivariance(NET, A, "turn"), ValueError, 'transform must be "rotate", "flip" or "shift"',
    ),
    "not square": (
        lambda: training.equivariance(NET, A)(WIDE, WIDE, None), ValueError,
        'quarter turns need square pictures, got (11, 14): use transform="flip" or "shift"',
    ),
    "seed": (lambda: training.sure(NET, A, 0.1, seed=0.5), ValueError, "seed must be a whole number"),  # type: ignore[arg-type]
    "no truth": (lambda: training.absolute_error(X, Y, None), ValueError, "needs the truth x"),
    "no truth for SSIM": (lambda: training.structural_similarity()(X, Y, None), ValueError, "needs the truth x"),
    "range": (lambda: training.structural_similarity(0), ValueError, "data_range must be a finite number > 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    check_refused(REFUSED[name])
