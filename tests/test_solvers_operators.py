"""What solvers keep of an operator: its norm is found once, and again whenever the operator has changed, however."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from fastunroll.operators import known
from fastunroll.solvers import lipschitz
from fastunroll.solvers.problem import problem
from problems import Blur, Opaque, Pair, sparse_problem
from torch import Tensor, nn

S = fu.solvers
SIDE = 8
FACTOR: Any = 1.0


class Counting(Blur):
    """Says how often it was called."""

    def __init__(self) -> None:
        super().__init__(SIDE, SIDE)
        self.calls = 0

    def _filter(self, x: Tensor, transfer: Tensor) -> Tensor:
        self.calls += 1
        return super()._filter(x, transfer)


def pictures(batch: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(batch, SIDE, SIDE, dtype=dtype)


def step_of(op: Any, y: Tensor) -> float:
    return float(lipschitz.step_of(problem(op, y, 0.1, None), None))


@pytest.mark.parametrize("solver", [S.ista, S.fista])
def test_the_second_call_costs_no_norm(solver: Callable[..., Tensor]) -> None:
    """As many products as iterations, and one of each by which the operator is known again."""
    op, y = Counting(), pictures()
    found = solver(op, y, 0.1, iterations=25)
    assert op.calls > 2 * 25 + 2
    for other in (y, pictures(), pictures() + 1):  # whatever y is
        op.calls = 0
        again = solver(op, other, 0.1, iterations=25)
        assert op.calls == 2 * 25 + 2
        if other is y:
            assert torch.equal(again, found)


def test_the_second_call_of_admm_costs_no_rho() -> None:
    op, y = Counting(), pictures()
    calls = []
    for _ in range(2):
        op.calls = 0
        S.admm(op, y, 0.1, iterations=5)
        calls.append(op.calls)
    assert calls[1] == calls[0] - 1


def test_batches_by_turns() -> None:
    op = Counting()
    batches = [pictures(1), pictures(16), pictures(2, torch.float32).double()]
    steps = [step_of(op, y) for y in batches]
    op.calls = 0
    assert [step_of(op, y) for y in batches] == steps
    assert op.calls == 3 * len(batches)  # Aᴴy, and one of each
    for batch in range(1, 4 * known.SHAPES):
        step_of(op, pictures(batch))
    assert len(known._of_operators[id(op)]) == known.SHAPES


class Learned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.0, SIDE, dtype=torch.float64))
        self.register_buffer("mask", torch.ones(SIDE, SIDE, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.mask * self.weight * x

    adjoint = forward


class Masked:
    def __init__(self) -> None:
        self.mask = torch.linspace(0.1, 1.0, SIDE, dtype=torch.float64)
        self.scale = 1.0
        self.parts: list[Any] = [{"mask": torch.ones(SIDE, dtype=torch.float64)}]

    def __call__(self, x: Tensor) -> Tensor:
        return FACTOR * self.scale * self.mask * self.parts[0]["mask"] * x

    adjoint = __call__


class Slots:
    """What nothing can refer to weakly."""

    __slots__ = ("scale",)

    def __init__(self) -> None:
        self.scale = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        return self.scale * x

    adjoint = __call__


def by_closure() -> tuple[Pair, Callable[[], None]]:
    mask = torch.ones(SIDE, dtype=torch.float64)

    def apply(x: Tensor) -> Tensor:
        return mask * x

    def change() -> None:
        nonlocal mask
        mask = 3 * mask

    return Pair(apply, apply), change


def doing(op: Any, change: Callable[[Any], Any]) -> tuple[Any, Callable[[], Any]]:
    return op, lambda: change(op)


def optimise(op: Learned) -> None:
    op.weight.grad = torch.full_like(op.weight, -1.0)
    torch.optim.SGD(op.parameters(), 0.7).step()
    op.zero_grad()


def triple(op: Learned) -> None:
    mask = op.mask.numpy()
    mask *= 3


def set_global(_: object) -> None:
    global FACTOR
    FACTOR = 2.5


CHANGES: dict[str, Callable[[], tuple[Any, Callable[[], Any]]]] = {
    "an optimiser": lambda: doing(Learned(), optimise),
    "a parameter that is set": lambda: doing(
        Learned(), lambda op: setattr(op, "weight", nn.Parameter(2 * op.weight.detach()))
    ),
    "a parameter's data": lambda: doing(Learned(), lambda op: op.weight.data.mul_(3)),
    "one element of its data": lambda: doing(Learned(), lambda op: op.weight.data[3].fill_(3)),
    "a state dict": lambda: doing(
        Learned(), lambda op: op.load_state_dict({k: 2 * v for k, v in op.state_dict().items()})
    ),
    "a buffer, through NumPy": lambda: doing(Learned(), triple),
    "an attribute": lambda: doing(Masked(), lambda op: setattr(op, "mask", 2 * op.mask)),
    "a number": lambda: doing(Masked(), lambda op: setattr(op, "scale", 1.5)),
    "a tensor in a dictionary in a list": lambda: doing(Masked(), lambda op: op.parts[0]["mask"].mul_(2)),
    "a global variable": lambda: doing(Masked(), set_global),
    "a closure": by_closure,
    "a method": lambda: doing(
        Pair(lambda x: x, lambda y: y), lambda op: op.__dict__.update(forward=lambda x: 2 * x, adjoint=lambda y: 2 * y)
    ),
    "what has no weak references": lambda: doing(Slots(), lambda op: setattr(op, "scale", 2.0)),
    "a thousandth of it": lambda: doing(Masked(), lambda op: op.mask[SIDE - 1 :].mul_(1.001)),
}


@pytest.fixture(autouse=True)
def _restore() -> Any:
    yield
    global FACTOR
    FACTOR = 1.0


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_noticed(name: str) -> None:
    """The step is that of an operator that has always been so, and no smaller than ‖A‖² asks for."""
    op, change = CHANGES[name]()
    y = pictures()
    with torch.no_grad():
        before = step_of(op, y)
        assert step_of(op, y) == before
        change()
        after = step_of(op, y)
        assert after != before
        assert after == step_of(Pair(op, op.adjoint), y)
        S.fista(op, y, 0.01, iterations=50)  # which warns if it diverges


def test_a_norm_that_is_stated_is_asked_once() -> None:
    asked: list[float] = []

    class Stated(Masked):
        def norm(self) -> float:
            asked.append(self.scale)
            return abs(self.scale)

    op, y = Stated(), pictures()
    for scale in (1.0, 2.0):
        op.scale = scale
        for _ in range(3):
            S.fista(op, y, 0.1, iterations=2)
    assert asked == [1.0, 2.0]
    step = step_of(op, y)
    op.norm = lambda: 5.0  # type: ignore[method-assign]
    assert step_of(op, y) == pytest.approx(step * 4 / 25, rel=1e-6)


def test_an_adjoint_that_becomes_wrong_is_noticed() -> None:
    op, y = Pair(lambda x: x, lambda y: y), pictures()
    S.fista(op, y, 0.1, iterations=2)
    op.adjoint = lambda y: 2 * y
    with pytest.warns(S.AdjointWarning):
        S.fista(op, y, 0.1, iterations=2)


def test_what_is_never_twice_the_same_is_not_kept() -> None:
    asked: list[int] = []

    class Noisy(Masked):
        def __call__(self, x: Tensor) -> Tensor:
            return super().__call__(x) * (1 + 1e-12 * float(torch.rand(())))

        def norm(self) -> float:
            asked.append(1)
            return 1.1

    op, y = Noisy(), pictures()
    for _ in range(3):
        step_of(op, y)
    assert len(asked) == 3


class Permuted(Blur):
    """Whose results lie in memory in another order."""

    def _filter(self, x: Tensor, transfer: Tensor) -> Tensor:
        return super()._filter(x, transfer).transpose(0, 1).contiguous().transpose(0, 1)


class Negated(Blur):
    """Whose results are views that PyTorch has yet to negate."""

    def _filter(self, x: Tensor, transfer: Tensor) -> Tensor:
        return torch._neg_view(-super()._filter(x, transfer))


class Weighted(Blur):
    """That needs a gradient."""

    def __init__(self, *shape: int, dtype: torch.dtype) -> None:
        super().__init__(*shape, dtype=dtype)
        self.weight = torch.ones(shape, dtype=dtype, requires_grad=True)

    def __call__(self, x: Tensor) -> Tensor:
        return self._filter(self.weight * x, self.transfer)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.weight * self._filter(y, self.transfer.conj())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", [Blur, Permuted, Negated, Weighted])
@pytest.mark.parametrize("solver", [S.ista, S.fista])
def test_native_passes_and_pytorch(solver: Callable[..., Tensor], kind: Any, dtype: torch.dtype) -> None:
    """Between the products of an operator: every form of λ, start and sign, wherever results lie, and watched too."""
    op, y = kind(6, 8, dtype=dtype), torch.randn(8, 6, 5, dtype=dtype).permute(2, 1, 0)
    shapes: list[tuple[int, ...]] = [(), (8,), (6, 1), (6, 8), (5, 1, 1), (5, 6, 8)]
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    for shape, x0, nonnegative in zip(
        shapes * 2, [None, torch.randn(5, 6, 8, dtype=dtype)] * 6, [False] * 6 + [True] * 6, strict=True
    ):
        lam = 0.1 * torch.rand(shape, dtype=dtype)
        options: dict[str, Any] = {"x0": x0, "nonnegative": nonnegative, "iterations": 23}
        with fu.ops.plain():
            wanted = solver(op, y, lam, **options)
        found = solver(op, y, lam, **options)
        assert found.requires_grad == wanted.requires_grad == (kind is Weighted)
        assert torch.allclose(found, wanted, rtol=0, atol=tolerance)
        for more in ({"history": S.History()}, {"callback": lambda i, x: x.zero_()}, {"progress": False}):
            assert torch.equal(solver(op, y, lam, **options, **more), found)
        with torch.no_grad():
            assert torch.allclose(solver(op, y, lam, **options), wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("solver", [S.ista, S.fista, S.admm, S.primal_dual, S.amp])
def test_an_operator_that_writes_its_results_to_one_place(solver: Callable[..., Tensor]) -> None:
    A, y, _ = sparse_problem(6, 9, 3)

    class Reusing(Opaque):
        measured, back = torch.empty(3, 6, dtype=A.dtype), torch.empty(3, 9, dtype=A.dtype)

        def __call__(self, x: Tensor) -> Tensor:
            return torch.matmul(x, self.A.mT, out=self.measured)

        def adjoint(self, y: Tensor) -> Tensor:
            return torch.matmul(y, self.A, out=self.back)

    arguments = (y,) if solver is S.amp else (y, 0.1)
    assert torch.equal(solver(Reusing(A), *arguments, iterations=9), solver(Opaque(A), *arguments, iterations=9))


@pytest.mark.parametrize("solver", [S.ista, S.fista, S.admm, S.primal_dual])
def test_what_is_kept_serves_in_every_mode(solver: Callable[..., Tensor]) -> None:
    op, y = Learned(), pictures()
    for _ in range(2):
        with torch.inference_mode():
            wanted = solver(op, y, 0.1, iterations=5)
        found = solver(op, y, 0.1, iterations=5)
        assert torch.allclose(found, wanted)
        assert torch.isfinite(torch.autograd.grad(found.sum(), op.weight)[0]).all()


def test_an_operator_that_writes_to_what_it_is_given() -> None:
    """Spoils no other's directions."""

    class Scaling(Masked):
        def __call__(self, x: Tensor) -> Tensor:
            return x.mul_(2)

        def adjoint(self, y: Tensor) -> Tensor:
            return y.mul_(2)

    y = pictures()
    before = step_of(Masked(), y)
    with pytest.raises(ValueError, match="writes to it"):
        problem(Scaling(), y.clone(), 0.1, None)
    assert step_of(Masked(), y) == before


def test_nothing_is_left_of_an_operator_that_is_gone() -> None:
    """And it is not kept alive."""
    op = Masked()
    step_of(op, pictures())
    gone, key = weakref.ref(op), id(op)
    assert key in known._of_operators
    del op
    gc.collect()
    assert gone() is None
    assert key not in known._of_operators


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (0,)], ids=str)
@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128], ids=str)
@pytest.mark.parametrize("operator", [False, True])
def test_lambda_max(operator: bool, dtype: torch.dtype, nonnegative: bool, lead: tuple[int, ...]) -> None:
    """From there on x = 0, and below it is not."""
    A = sparse_problem(6, 9, 1, dtype)[0]
    y = torch.randn(*lead, 6, dtype=dtype)
    op: Any = A
    if operator:
        op = Opaque(A)
        op.shape_out = (6,)
    if dtype.is_complex and nonnegative:
        with pytest.raises(TypeError, match="nonnegative needs real numbers, since complex ones have no order"):
            S.lambda_max(op, y, nonnegative=True)
        return
    found = S.lambda_max(op, y, nonnegative=nonnegative)
    wanted = (y @ A.conj()).clamp_min(0) if nonnegative else (y @ A.conj()).abs()
    assert found.shape == lead
    assert found.dtype == dtype.to_real()
    assert torch.allclose(found, wanted.amax(-1), rtol=1e-5)
    for share, zero in ((1.0001, True), (0.99, False)):
        x = S.fista(op, y, share * found[..., None], iterations=40, nonnegative=nonnegative)
        assert (x.abs().sum(-1) == 0).eq(torch.tensor(zero) | (found == 0)).all()


def test_lambda_max_of_pictures_and_arrays() -> None:
    op, y = Blur(6, 8), torch.randn(5, 6, 8, dtype=torch.float64)
    found = S.lambda_max(op, y)
    assert torch.equal(found, op.adjoint(y).abs().flatten(1).amax(1))
    assert not S.fista(op, y, 1.0001 * found[:, None, None], iterations=5).any()
    A, y, _ = sparse_problem(6, 9, 4)
    for arguments in ((A.numpy(), y.numpy()),):
        largest = S.lambda_max(*arguments)
        assert isinstance(largest, np.ndarray)
        assert isinstance(S.lambda_max(A=arguments[0], Y=arguments[1]), np.ndarray)
    y.requires_grad_()
    assert torch.autograd.gradcheck(lambda y: S.lambda_max(Opaque(A), y), y)
