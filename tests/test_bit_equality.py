"""The promise: to the last bit, a result depends on nothing but its own sample and the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from fastunroll import _fastunroll
from forms import Problem, Row, build, covering, dense, gradients, lista, pictures, samples
from torch import Tensor

# The baseline of x86-64 has no fused multiply-add: it is its own standard.
FUSED = [name for name in _fastunroll.compiled_instruction_sets() if name != "baseline"]
# Rows of single and of double precision. Of those over pictures, which take longest, pairs of two columns are enough.
FORMS, OVER_PICTURES = (
    [replace(f, dtype=d) for f in rows for d in (torch.float32, torch.float64)]
    for rows in ([*dense.ROWS, *samples.ROWS], pictures.EVERY)
)
FORMS += covering(OVER_PICTURES, 2)


def everything(p: Problem) -> list[Tensor]:
    """The output of every layer and the gradients of all arguments."""
    results = p.native()
    return [*(t.detach() for t in results), *gradients(results, p.leaves)]


def same(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
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


def large(form: Row) -> Problem:
    """Of a size that several threads share."""
    return build(form.of_size(form.large), requires_grad=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("operator", ["affine", "affine-tied"])
@pytest.mark.parametrize("theta", [0.0, 0.3], ids=["dense", "sparse"])
def test_gradients_of_few_samples(native: Any, operator: str, theta: float, dtype: torch.dtype) -> None:
    """Few samples take other kernels than many. Samples whose gradient is zero add nothing to a sum."""
    for m, n in ((5, 20), (37, 133), (64, 256)):
        p = lista.module(dense.Form(operator, m=m, n=n, layers=4, batch=150, dtype=dtype), requires_grad=True)
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
                if operator == "affine":  # layers that share a matrix add all samples of a layer before the next
                    assert same(found[1:], wanted[1:])


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_batch_and_position(native: Any, form: Row) -> None:
    """With any number of threads, and whether gradients are recorded or not."""
    p = large(form)
    wanted = p.native()
    of_wanted = gradients(wanted, p.of_each_sample)
    every = range(p.form.batch)
    places = [[0], [2, 1], [*every[::-1]], [2] * (len(every) + 1)]
    for threads, place in zip((2, 1, 3, form.threads), places, strict=True):
        torch.set_num_threads(threads)
        part = p.of_samples(place).learning()
        found = part.native()
        if len(place) <= 2:  # where packing matrices beforehand depends on whether gradients are recorded
            with torch.no_grad():
                assert same(part.native(), found)
        x, *state = found
        assert torch.equal(x, wanted[0][:, place])
        assert same(state, [s[place] for s in wanted[1:]])
        assert same(gradients(found, part.of_each_sample), [g[place] for g in of_wanted])


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_threads(native: Any, form: Row) -> None:
    whole = large(form)
    for count in sorted({1, min(5, whole.form.batch), whole.form.batch}):
        p = whole.of_samples(slice(count)).learning()
        torch.set_num_threads(1)
        one = everything(p)
        for threads in (2, form.threads) if count > 1 else (2,):
            torch.set_num_threads(threads)
            assert same(everything(p), one), (count, threads)


@pytest.mark.parametrize("form", [f for f in FORMS if not f.rounds_by_set], ids=str)
def test_instruction_sets_and_skipping_zeros(native: Any, form: Row) -> None:
    """Products leave out no zeros, some, or all."""
    p = large(form) if form.skips_zeros else large(form).of_samples(slice(2)).learning()
    fused = []
    for name in usable_sets(native):
        native.use_instruction_set(name)
        assert native.instruction_set() == name
        found = []
        for above in (-1.0, 0.5, 1.0) if form.skips_zeros else (0.5,):
            native.set_dense_above(above)
            found.append(everything(p))
        assert all(same(other, found[0]) for other in found), name
        if name in FUSED:
            fused.append(found[0])
    assert all(same(other, fused[0]) for other in fused)


@pytest.mark.parametrize("form", dense.ROWS, ids=str)
def test_instruction_sets_agree_with_plain_pytorch(native: Any, form: Row) -> None:
    p = build(form)
    for name in usable_sets(native):
        native.use_instruction_set(name)
        for a, b in zip(p.native(), p.plain(), strict=True):
            assert relative_error(a, b) < 1e-12, name


def test_few_samples_of_a_large_network_share_the_threads(native: Any) -> None:
    for form in dense.ROWS:
        p = build(replace(form, m=130, n=300, batch=20, dtype=torch.float32))
        torch.set_num_threads(1)
        whole = p.run()
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            for count in (1, 3, 16):
                part = p.of_samples(slice(count))
                assert torch.equal(part.run(), whole[:count]), form
                with torch.inference_mode():
                    assert torch.equal(part.run(), whole[:count]), form


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
