"""Which dimensions of y are the batch of an operator: the first, or all before ``shape_out`` where it is stated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from problems import Blur, Opaque, sparse_problem
from refusals import Refused, check_refused
from torch import Tensor

S = fu.solvers


class Stated(Blur):
    """A blur that says what one picture is."""

    def __init__(self, h: int, w: int, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(h, w, dtype)
        self.shape_in = self.shape_out = (h, w)


class Coils:
    """Pictures (B, h, w) as each of c masks sees them: (B, c, h, w)."""

    def __init__(self, masks: Tensor) -> None:
        self.masks = masks
        self.shape_in, self.shape_out = masks.shape[1:], masks.shape

    def __call__(self, x: Tensor) -> Tensor:
        return self.masks * x[:, None]

    def adjoint(self, y: Tensor) -> Tensor:
        return (self.masks * y).sum(1)


SOLVERS: dict[str, Callable[..., Tensor]] = {
    "ista": S.ista,
    "fista": S.fista,
    "restart": lambda *a, **o: S.fista(*a, **o, restart=True),
    "monotone": lambda *a, **o: S.fista(*a, **o, monotone=True),
    "admm": lambda *a, **o: S.admm(*a, **o, adaptive=False),
    "primal_dual": S.primal_dual,
    "amp": lambda A, y, lam, **o: S.amp(A, y, alpha=3.0, damping=0.3, **o),
}
op, bare, volume = Stated(6, 8), Blur(6, 6), Blur(5, 5)
images = torch.randn(2, 3, 6, 8, dtype=torch.float64)


def run(name: str, A: Any, y: Tensor, lam: Any, **options: Any) -> tuple[Tensor, S.History, list[Tensor]]:
    history, seen = S.History(), []  # type: ignore[var-annotated]
    x = SOLVERS[name](A, y, lam, iterations=30, history=history, callback=lambda i, z: seen.append(z), **options)
    return x, history, seen


@pytest.mark.parametrize("tol", [0.0, 0.05])
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.filterwarnings("ignore::fastunroll.solvers.ConvergenceWarning")
def test_any_batch_is_its_samples(name: str, tol: float) -> None:
    """Restarts, tolerances, histories, callbacks and results: by picture, whatever stands before it."""
    lam = 0.02 + 0.05 * torch.rand(2, 3, 1, 1, dtype=torch.float64)
    start = 0.1 * torch.randn_like(images)
    options = {"admm": {"rho": 0.5}, "primal_dual": {"tau": 0.9, "sigma": 0.9}, "amp": {}}.get(
        name, {"step": 0.8}
    )  # else the same for all of a batch
    rows = images.reshape(6, 6, 8)
    wanted, history, seen = run(
        name, Blur(6, 8), rows, lam.reshape(6, 1, 1), x0=start.reshape(6, 6, 8), tol=tol, **options
    )
    found, other, looks = run(name, op, images, lam, x0=start, tol=tol, **options)
    assert found.shape == images.shape
    assert torch.equal(found.reshape(6, 6, 8), wanted)
    assert all(torch.equal(a.reshape(6, 6, 8), b) for a, b in zip(looks, seen, strict=True))
    assert (other.gap, other.kkt, other.residual) == (history.gap, history.kkt, history.residual)
    assert other.samples is not None
    assert history.samples is not None
    for part in ("gap", "iterations", "converged"):
        assert torch.equal(getattr(other.samples, part), getattr(history.samples, part).reshape(2, 3))
    alone, one, looks = run(name, op, images[1, 2], lam[1, 2], x0=start[1, 2], tol=tol, **options)
    assert alone.shape == (6, 8)
    assert relative_error(alone, found[1, 2]) <= 1e-9
    assert looks[-1].shape == (6, 8)
    assert one.samples is not None
    assert one.samples.gap.shape == ()
    assert one.samples.iterations == other.samples.iterations[1, 2]


@pytest.mark.parametrize("shape", [(), (1,), (3, 1), (6, 8), (1, 8), (2, 1, 1, 1), (2, 3, 6, 8)])
def test_lambda_beside_pictures(shape: tuple[int, ...]) -> None:
    lam = 0.05 + 0.1 * torch.rand(shape if shape != (3, 1) else (3, 1, 1), dtype=torch.float64)
    found = S.fista(op, images, lam, iterations=20)
    every = lam.expand(2, 3, 6, 8)
    for i, j in ((0, 0), (1, 2)):
        assert relative_error(found[i, j], S.fista(op, images[i, j], every[i, j], iterations=20)) <= 1e-9
    gap = S.duality_gap(found, images, op, lam)
    assert gap.shape == (2, 3)
    assert torch.allclose(gap[1, 2], S.duality_gap(found[1, 2], images[1, 2], op, every[1, 2]))


def test_pictures_of_another_shape_than_what_is_measured() -> None:
    masks = torch.rand(4, 5, 5, dtype=torch.float64)
    coils, y = Coils(masks), torch.randn(2, 4, 5, 5, dtype=torch.float64)
    wanted = S.fista(coils, y, 0.1, tol=1e-6, iterations=500)
    assert wanted.shape == (2, 5, 5)
    alone = S.fista(coils, y[1], 0.1, tol=1e-6, iterations=500)
    assert relative_error(alone, wanted[1]) <= 1e-6
    assert S.fista(coils, y[:, None], 0.1, iterations=3).shape == (2, 1, 5, 5)
    assert S.duality_gap(wanted, y, coils, 0.1).max() <= 1e-6


def test_the_step_size_is_that_of_a_picture() -> None:
    from fastunroll.solvers import lipschitz
    from fastunroll.solvers.problem import problem

    exact = float(torch.linalg.matrix_norm(op.matrix(), 2)) ** 2
    for y in (images, images[0], images[0, 0]):
        bound = lipschitz.of_operator(problem(op, y, 0.1, None))
        assert exact * (1 - 1e-9) <= bound <= 1.6 * exact


@pytest.mark.parametrize("batch", [(0,), (2, 0), (0, 3)])
def test_no_samples(batch: tuple[int, ...]) -> None:
    A = Opaque(torch.randn(5, 9))
    A.shape_in, A.shape_out = (9,), torch.Size([5])  # type: ignore[attr-defined]
    for name in ("ista", "fista", "admm", "primal_dual", "amp"):
        assert SOLVERS[name](A, torch.zeros(*batch, 5), 0.1, iterations=3).shape == (*batch, 9)


def test_vectors_and_rows_need_no_statement() -> None:
    """An operator that treats rows apart is one of rows, whatever its user calls them."""
    A, y, lam = sparse_problem(20, 40, 3)
    assert S.fista(Opaque(A), y, lam, iterations=5).shape == (3, 40)
    mask = torch.rand(6, 6, dtype=torch.float64)

    class Mask:
        def __call__(self, x: Tensor) -> Tensor:
            return mask * x

        adjoint = __call__

    rows = torch.randn(6, 6, dtype=torch.float64)
    x = S.fista(Mask(), rows, 0.05, tol=1e-8, iterations=5000, restart=True)
    assert S.duality_gap(x[None], rows[None], Mask(), 0.05).max() <= 1e-8


def says(value: object) -> Any:
    stating = Blur(6, 6)
    stating.shape_out = value  # type: ignore[attr-defined]
    return stating


def says_in(value: object) -> Any:
    stating = Blur(6, 6)
    stating.shape_in = value  # type: ignore[attr-defined]
    return stating


square = torch.randn(6, 6, dtype=torch.float64)
MIXES = (
    "A must treat the samples of a batch apart, but it mixes them: y of shape (6, 6) counts as 6 samples of shape "
    "(6,), so give y[None] if it is one signal, or state the shape of one in A.shape_out"
)
BAD: dict[str, Refused] = {
    **{
        f"a bare picture, {name}": (lambda solve=solve: solve(bare, square, 0.1), ValueError, MIXES)
        for name, solve in SOLVERS.items()
    },
    "a bare picture, gap": (lambda: S.duality_gap(square, square, bare, 0.1), ValueError, MIXES),
    "a bare picture, its step given": (lambda: S.fista(bare, square, 0.1, step=0.1, tol=0.1), ValueError, MIXES),
    "a bare volume": (
        lambda: S.admm(Blur3(), torch.randn(5, 5, 5), 0.1), ValueError,
        "y of shape (5, 5, 5) counts as 5 samples of shape (5, 5), so give y[None]",
    ),
    "another shape than is stated": (
        lambda: S.fista(op, images[..., :7], 0.1), ValueError,
        "y must have the shape (..., 6, 8) of A.shape_out, got (2, 3, 6, 7)",
    ),
    "fewer dimensions than are stated": (
        lambda: S.fista(op, images[0, 0, 0], 0.1), ValueError,
        "y must have the shape (..., 6, 8) of A.shape_out, got (8,)",
    ),
    "x of another shape than is stated": (
        lambda: S.amp(says_in((36,)), square[None]), ValueError,
        "A.adjoint(y) must have the shape (1, 36), the samples of y and A.shape_in, got (1, 6, 6)",
    ),
    "a bare picture of a stated shape of x": (
        lambda: S.amp(says_in((6, 6)), square), ValueError,
        "A.adjoint(y) must have the shape (6, 6, 6), the samples of y and A.shape_in, got (6, 6)",
    ),
    "a shape that is none": (
        lambda: S.fista(says("6x6"), square, 0.1), ValueError,
        "A.shape_out must be a tuple of whole numbers ≥ 0, got '6x6'",
    ),
    "a shape that is a function": (
        lambda: S.fista(says(len), square, 0.1), ValueError,
        "A.shape_out must be a tuple of whole numbers ≥ 0, got <built-in function len>",
    ),
    "a shape of nothing": (
        lambda: S.fista(says(()), square, 0.1), ValueError,
        "A.shape_out must have at least one dimension, got (): a number is of shape (1,)",
    ),
    "lambda of another batch": (
        lambda: S.fista(op, images, torch.rand(3, 2, 1, 1)), ValueError,
        "lam must broadcast with x, but lam is (3, 2, 1, 1) and x is (2, 3, 6, 8)",
    ),
    "lambda of each picture": (
        lambda: S.fista(op, images[0], torch.rand(3)), ValueError,
        "lam must broadcast with x, but lam is (3,) and x is (3, 6, 8): one for each sample is (3, 1, 1)",
    ),
    "lambda of a batch beside one picture": (
        lambda: S.fista(op, images[0, 0], torch.rand(1, 6, 8)), ValueError,
        "lam must broadcast with x, but lam is (1, 6, 8) and x is (6, 8)",
    ),
    "x0 of a batch beside one picture": (
        lambda: S.fista(op, images[0, 0], 0.1, x0=images[0, :1]), ValueError,
        "x0 must have the shape of A.adjoint(y), (6, 8), got (1, 6, 8)",
    ),
}  # fmt: skip


class Blur3:
    """A mean of neighbours in each of three directions, its own adjoint."""

    def __call__(self, x: Tensor) -> Tensor:
        for dim in (-1, -2, -3):
            x = (x.roll(1, dim) + x.roll(-1, dim) + x) / 3
        return x

    adjoint = __call__


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    check_refused(BAD[name])


@pytest.mark.parametrize("weight", [1.0, 1e-3])
def test_a_little_mixing_is_noticed_too(weight: float) -> None:
    class Leaks:
        def __call__(self, x: Tensor) -> Tensor:
            return x + weight * x.roll(1, 0)

        def adjoint(self, y: Tensor) -> Tensor:
            return y + weight * y.roll(-1, 0)

    for dtype in (torch.float32, torch.float64):
        with pytest.raises(ValueError, match="A must treat the samples of a batch apart"):
            S.fista(Leaks(), torch.randn(40, 30, dtype=dtype), 0.1)
