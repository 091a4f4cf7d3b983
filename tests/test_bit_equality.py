"""The promise: to the last bit, a result depends on nothing but its own sample and the weights."""

from __future__ import annotations

from typing import Any

import fastunroll as fu
import pytest
import torch
from cases import Case, build
from fastunroll import _fastunroll
from torch import Tensor

# The baseline of x86-64 has no fused multiply-add: it is its own standard.
FUSED = [name for name in _fastunroll.compiled_instruction_sets() if name != "baseline"]
CASE = Case(37, 133, 4, (150,), dtype=torch.float32)
TYPES = [torch.float32, torch.float64]


def everything(case: Case, y: Tensor | None = None) -> list[Tensor]:
    """The output of every layer and the gradients of all arguments."""
    p = build(case, requires_grad=True)
    if y is not None:
        p.y = y.requires_grad_()
    out = p.run(return_layers=True)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), p.leaves)]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(s, t) for s, t in zip(a, b, strict=True))


def usable_sets(native: Any) -> list[str]:
    sets = []
    for name in native.compiled_instruction_sets():
        try:
            native.use_instruction_set(name)
        except ValueError:
            continue
        sets.append(name)
    return sets


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("tied", [False, True])
def test_batch_and_position(tied: bool, dtype: torch.dtype) -> None:
    p = build(Case(37, 133, 4, (150,), tied, dtype=dtype), requires_grad=True)
    whole = p.run()
    (grad,) = torch.autograd.grad(whole.square().sum(), p.y)
    for rows in ([0], [149], [3, 77], list(range(17, 90)), list(range(149, -1, -1)), [8] * 200):
        y = p.y.detach()[rows].requires_grad_()
        part = p.net(y)
        assert torch.equal(part, whole[rows])
        (part_grad,) = torch.autograd.grad(part.square().sum(), y)
        assert torch.equal(part_grad, grad[rows])


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("theta", [0.0, 0.3], ids=["dense", "sparse"])
def test_gradients_of_few_samples(native: Any, tied: bool, theta: float, dtype: torch.dtype) -> None:
    """Few samples take other kernels than many. Samples whose gradient is zero add nothing to a sum."""
    many = 150
    for m, n in ((5, 20), (37, 133), (64, 256)):
        p = build(Case(m, n, 4, (many,), tied, dtype=dtype), requires_grad=True)
        with torch.no_grad():
            for t in p.net.theta:
                t.fill_(theta)
        weights = [t for t in p.leaves if t is not p.y]
        for name in usable_sets(native):
            native.use_instruction_set(name)
            for few in (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 70):
                y = p.y.detach()[:few].requires_grad_()
                found = torch.autograd.grad(p.net(y).square().sum(), [y, *weights])
                wanted = torch.autograd.grad(p.net(p.y)[:few].square().sum(), [p.y, *weights])
                assert torch.equal(found[0], wanted[0][:few])
                if not tied:  # layers that share a matrix add all samples of a layer before those of the next
                    assert same(found[1:], wanted[1:])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("batch", [1, 5, 64, 150])
def test_threads(native: Any, tied: bool, batch: int) -> None:
    case = Case(37, 133, 4, (batch,), tied, starts=True, dtype=torch.float32)
    torch.set_num_threads(1)
    one = everything(case)
    for threads in (2, 3, 7):
        torch.set_num_threads(threads)
        assert same(everything(case), one)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("tied", [False, True])
def test_instruction_set(native: Any, tied: bool, dtype: torch.dtype) -> None:
    sets = [s for s in usable_sets(native) if s in FUSED]
    if len(sets) < 2:
        pytest.skip(f"this processor has {sets or 'none'} of {FUSED}: nothing to compare")
    results = []
    for name in sets:
        native.use_instruction_set(name)
        assert native.instruction_set() == name
        results.append(everything(Case(37, 133, 4, (150,), tied, "vector", True, dtype)))
    assert same(*results)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("tied", [False, True])
def test_skipping_zeros(native: Any, tied: bool, dtype: torch.dtype) -> None:
    case = Case(37, 133, 4, (150,), tied, starts=True, dtype=dtype)
    for name in usable_sets(native):
        native.use_instruction_set(name)
        native.set_dense_above(-1.0)
        always_dense = everything(case)
        native.set_dense_above(1.0)
        always_masked = everything(case)
        native.set_dense_above(0.5)
        assert same(always_masked, always_dense)
        assert same(everything(case), always_dense)


def test_instruction_sets_agree_with_the_reference(native: Any) -> None:
    case = Case(37, 133, 4, (20,), starts=True)
    wanted = build(case).reference()
    for name in usable_sets(native):
        native.use_instruction_set(name)
        assert (build(case).run(True) - wanted).abs().max() < 1e-12


def test_solvers_and_steps(native: Any) -> None:
    A, y = torch.randn(37, 133), torch.randn(150, 37)
    x = torch.randn(150, 133).relu()
    op = fu.operators.Dense(A)

    def results() -> list[Tensor]:
        return [
            fu.solvers.fista(A, y, 0.5, iterations=7),
            fu.gradient_step(x, y, A, 0.01),
            op(x), op.adjoint(y), op.gradient(x, y), fu.soft_threshold(x, 0.1),
        ]  # fmt: skip

    torch.set_num_threads(1)
    wanted = results()
    torch.set_num_threads(2)
    assert same(results(), wanted)
    for density in (-1.0, 1.0):
        native.set_dense_above(density)
        assert same(results(), wanted)
    some = [5, 0, 149]
    assert torch.equal(fu.solvers.fista(A, y[some], 0.5, iterations=7), wanted[0][some])
    assert torch.equal(op(x[some]), wanted[2][some])
    for name in usable_sets(native):
        if name in FUSED:
            native.use_instruction_set(name)
            assert same(results(), wanted)


def test_unknown_instruction_set(native: Any) -> None:
    with pytest.raises(ValueError, match="'avx9' cannot be used: no such instruction set was compiled in"):
        native.use_instruction_set("avx9")
