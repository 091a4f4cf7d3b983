"""Large samples, and many: what is looked at in parts, what is written to used memory, what is not asked."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll import samples
from fastunroll.operators import dot_test
from fastunroll.solvers import problem as problems
from fastunroll.units import units
from forks import printed
from problems import Blur, Pair
from torch import Tensor

S, lin = fu.solvers, fu.operators
SIDE, BATCH = 16, 5


@pytest.mark.parametrize("most", [1, 7, 64, 1 << 18])
@pytest.mark.parametrize("shape", [(0, 3), (1, 100), (5, 4, 6), (40, 2), (3, 0), (2, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128], ids=str)
def test_energy(dtype: torch.dtype, shape: tuple[int, ...], most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "AT_ONCE", most)
    t = torch.randn(shape, dtype=dtype)
    wanted = t.abs().square().flatten(1).sum(1)
    for same in (t, t.conj(), t.mT.contiguous().mT if t.dim() > 2 else t):
        torch.testing.assert_close(samples.energy(same), wanted)
    if t.numel() and len(t) > 1:
        t[1] = torch.nan
        assert samples.energy(t).isnan().nonzero().flatten().tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64], ids=str)
def test_samples_get_units_where_their_largest_value_is_out_of_range(dtype: torch.dtype) -> None:
    """Whatever their number of values, and how many of these are zero."""
    bounds = torch.finfo(dtype)
    low, high = bounds.tiny**0.25, bounds.max**0.25
    op = Pair(lambda x: x, lambda y: y)
    small = [share * low for share in (1 / 8, 1.0, 1.9, 2.1, 4.0)]
    large = [share * high for share in (1 / 8, 1 / 2.1, 1 / 1.1, 1.0, 8.0)]
    for scale in (*small, 1e-3, 1.0, *large):
        for zeros in (0, 40):
            y = scale * torch.cat([torch.ones(2, 3), torch.zeros(2, zeros)], 1).to(dtype)
            unit = units(y)
            p = problems.problem(op, y, 0.1, None)
            assert (p.in_units() is p) == bool(((unit > low) & (unit < high)).all())


PICTURES: dict[str, Callable[[], Any]] = {
    "blur": lambda: lin.Blur(torch.rand(3, 3)),
    "MRI": lambda: lin.Fourier((torch.rand(SIDE, SIDE) < 0.6).float()),
    "coils": lambda: lin.MultiCoilFourier(torch.rand(SIDE, SIDE), torch.randn(3, SIDE, SIDE, dtype=torch.complex64)),
    "inpainting": lambda: lin.Mask(torch.rand(SIDE, SIDE)),
    "a mask for each": lambda: lin.Mask(torch.rand(BATCH, SIDE, SIDE)),
    "super-resolution": lambda: lin.Downsample(2, torch.rand(3, 3)),
    "wavelets": lambda: lin.Wavelet("db2", 2),
}


def measured(name: str) -> tuple[Any, Tensor]:
    """An operator, and measurements of which one sample is zero."""
    op = PICTURES[name]()
    x = torch.randn(BATCH, SIDE, SIDE, dtype=torch.complex64 if name in ("MRI", "coils") else torch.float32)
    x[2] = 0
    with torch.no_grad():
        return op, op(x).clone()


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("most", [1, 2 * SIDE * SIDE * 8, 1 << 22])
@pytest.mark.parametrize("name", PICTURES)
def test_divergence_is_told_of_each_picture(name: str, most: int, start: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pictures are looked at together; and a step that is small enough raises no alarm."""
    monkeypatch.setattr(problems, "AT_ONCE", most)
    op, y = measured(name)
    step = 1 / op.norm() ** 2
    x0 = 0.01 * op.adjoint(y) if start else None
    for solver in (S.ista, S.fista):
        with pytest.warns(S.ConvergenceWarning, match=f"{BATCH - 1} of {BATCH} samples diverged"):
            solver(op, y, 1e-3, iterations=40, step=30 * step, x0=x0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            solver(op, y, 1e-3, iterations=40, step=0.99 * step, x0=x0)
            y[1].view(-1)[3] = torch.inf  # stays in its sample, and is no matter of steps
            solver(op, y, 1e-3, iterations=5, step=0.99 * step, x0=x0)
            y[1].view(-1)[3] = 0


@pytest.mark.parametrize("name", PICTURES)
def test_the_misfit_of_many_pictures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op, y = measured(name)
    p = problems.problem(op, y, 0.1, None)
    x = torch.randn_like(p.At_y)
    wanted = p.residual(x).abs().square().flatten(1).sum(1)
    for most in (1, 2 * SIDE * SIDE * 8, 1 << 22):
        monkeypatch.setattr(problems, "AT_ONCE", most)
        torch.testing.assert_close(p.misfit(x), wanted)


def asked(op: Any, y: Tensor, monkeypatch: pytest.MonkeyPatch, **options: Any) -> int:
    """How often a call looks whether A.adjoint is the adjoint of A."""
    count = [0]

    def counted(*arguments: Any) -> Any:
        count[0] += 1
        return dot_test.examine(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(problems, "examine", counted)
        S.fista(op, y, 0.1, iterations=2, **options)
    return count[0]


@pytest.mark.parametrize("name", PICTURES)
def test_an_operator_of_the_package_is_asked_where_something_is_kept_of_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its adjoint is right. What a user has changed of it is asked in every call."""
    op, y = measured(name)
    step = 0.5 / op.norm() ** 2
    whole = name == "super-resolution"  # it has a blur, which may be another operator
    assert asked(op, y, monkeypatch, step=step) == whole
    assert asked(op, y, monkeypatch) == 1
    hook = op.register_forward_hook(lambda *_: None)
    assert asked(op, y, monkeypatch, step=step) == 1
    hook.remove()
    assert asked(op, y, monkeypatch, step=step) == whole
    own = type("Own", (type(op),), {"__module__": "elsewhere"})
    op.__class__ = own
    assert asked(op, y, monkeypatch, step=step) == 1


@pytest.mark.parametrize("name", PICTURES)
def test_an_adjoint_that_a_user_puts_in_its_place(name: str) -> None:
    op, y = measured(name)
    step, adjoint = 0.01 / op.norm() ** 2, op.adjoint
    S.fista(op, y, 0.1, iterations=2, step=step)
    op.adjoint = lambda y: 2 * adjoint(y)
    with pytest.warns(S.AdjointWarning):
        S.fista(op, y, 0.1, iterations=2, step=step)


def test_the_norm_of_an_operator_follows_its_mask() -> None:
    op, y = measured("inpainting")
    for factor in (1.0, 3.0, 0.5):
        op.mask.copy_(factor * torch.ones(SIDE, SIDE))
        for _ in range(2):
            x = S.fista(op, y, 0.0, iterations=1)
            torch.testing.assert_close(x, y / factor, rtol=1e-5, atol=1e-5)


LARGE = 3, 160, 160  # of which results take used memory
Keep = Callable[[Tensor], tuple[Any, Any]]
KEEPING: dict[str, Keep] = {
    "what it is given": lambda t: (t, t.clone()),
    "a view": lambda t: (t[1:, 3], t[1:, 3].clone()),
    "a detached tensor": lambda t: (t.detach(), t.clone()),
    "an array": lambda t: (t.numpy(), t.clone()),
    "an array of an array": lambda t: (t.numpy()[1:], t[1:].clone()),
    "another library's tensor": lambda t: (torch.utils.dlpack.from_dlpack(t), t.clone()),
    "its memory": lambda t: (torch.tensor([], dtype=t.dtype).set_(t.untyped_storage()), t.clone().flatten()),
}


class Keeping:
    """Weights that keep something of each argument, or of each result."""

    def __init__(self, keep: Keep | None = None, of_result: bool = False) -> None:
        self.weights = torch.linspace(0.2, 0.9, LARGE[-1])
        self.keep, self.of_result = keep, of_result
        self.kept: list[tuple[Any, Any]] = []

    def __call__(self, t: Tensor) -> Tensor:
        found = self.weights * t
        if self.keep is not None:
            self.kept.append(self.keep(found if self.of_result else t))
        return found

    adjoint = __call__


@pytest.mark.parametrize("of_result", [False, True])
@pytest.mark.parametrize("name", KEEPING)
@pytest.mark.parametrize("solver", [S.ista, S.fista])
def test_an_operator_may_keep_what_it_is_given_and_what_it_returns(
    solver: Callable[..., Tensor], name: str, of_result: bool
) -> None:
    y = torch.randn(LARGE)
    options: dict[str, Any] = {"iterations": 9, "step": 1.0}
    op = Keeping(KEEPING[name], of_result)
    found = solver(op, y, 0.05, **options)
    assert torch.equal(found, solver(Keeping(), y, 0.05, **options))
    assert len(op.kept) == 2 * 9 + 2
    for kept, wanted in op.kept:
        assert torch.equal(torch.as_tensor(kept), wanted)


SAME: dict[str, Callable[[Tensor], Tensor]] = {
    "itself": lambda t: t,
    "a view of it": lambda t: t.view_as(t),
    "an array of it": lambda t: torch.from_numpy(t.numpy()),
    "its data": lambda t: t.data,
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("solver", [S.ista, S.fista])
def test_an_operator_may_return_what_it_is_given(solver: Callable[..., Tensor], name: str) -> None:
    y, same = torch.randn(LARGE), SAME[name]
    wanted = solver(Pair(lambda x: x.clone(), lambda y: y.clone()), y, 0.05, iterations=9, step=0.7)
    assert torch.equal(solver(Pair(same, same), y, 0.05, iterations=9, step=0.7), wanted)


def test_looks_at_a_large_run_are_its_iterates() -> None:
    """What a callback and a history see, and the result of an earlier call, stay as they were."""
    op, y = Blur(160, 160, torch.float32), torch.randn(LARGE)
    seen: list[Tensor] = []
    first = S.fista(op, y, 0.05, iterations=30, step=0.9, callback=lambda i, x: seen.append(x))
    copies = [first.clone(), *(x.clone() for x in seen)]
    S.fista(op, 2 * y, 0.05, iterations=30, step=0.9)
    assert all(torch.equal(a, b) for a, b in zip([first, *seen], copies, strict=True))
    for i, x in enumerate(seen):
        assert torch.equal(x, S.fista(op, y, 0.05, iterations=10 * (i + 1), step=0.9))


FRESH_PAGES = """
import resource, torch
from fastunroll import operators, solvers

def product():
    together = [torch.empty(12 << 20, dtype=torch.uint8) for _ in range(3)]
    for t in together:
        t.fill_(1)

solvers.fista(operators.Mask(torch.ones(4, 4)), torch.ones(1, 4, 4), 0.1, iterations=1)
product()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    product()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of other C libraries nothing is known")
def test_what_products_free_is_kept_for_the_next(tmp_path: Path) -> None:
    """After a solver has met an operator, temporary tensors are no fresh pages.

    In a process of its own: where the heap has holes of an earlier use, a tensor may lie at its end or elsewhere.
    """
    assert int(printed(tmp_path, FRESH_PAGES)) < 1e4  # without the solver: 2e4 to 9e4
