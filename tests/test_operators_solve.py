"""(AᴴA + ρI)⁻¹ b of operators of pictures and of their adjoints: for small ρ, in half precision and under vmap."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll import prox, schemes
from imaging_operators import ALL, FIRST, OPERATORS, Size, samples
from refusals import check_refused
from torch import Tensor
from torch.autograd import gradcheck

lin = fu.operators
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # of forward differentiation
SINGLE = [row for row in ALL if row[1] in (torch.float32, torch.complex64) and row[2] == OPERATORS[row[0]].sizes[0]]


def double(t: Tensor) -> Tensor:
    return t.to(torch.complex128 if t.is_complex() else torch.float64)


def in_double_precision(op: Any) -> Any:
    """The same operator, of the same numbers."""
    wide = copy.deepcopy(op)
    for part in wide.modules():
        for held in (part._parameters, part._buffers):
            held.update({name: None if t is None else double(t.detach()) for name, t in held.items()})
    return wide


@pytest.mark.parametrize("side", ["A", "Aᴴ"])
@pytest.mark.parametrize(("name", "dtype", "size"), SINGLE)
def test_small_rho_loses_no_digits(name: str, dtype: torch.dtype, size: Size, side: str) -> None:
    """The residual is what rounding x, b and A x makes, also where b/ρ is much larger than x."""
    case = OPERATORS[name]
    op = case.make(dtype, size).requires_grad_(False)
    x = samples(case, dtype, size, (2,))
    x = op(x) if side == "Aᴴ" else x
    op = op.H if side == "Aᴴ" else op
    if not op.solves:
        return  # conjugate gradients, which all of these share
    exact = in_double_precision(op)
    bound = op.norm() ** 2
    for rho in (2.0**-20, 2.0**-10, 2.0**-4, 1.0, 64.0):
        b = (exact.normal(double(x)) + rho * double(x)).to(x.dtype)
        found = double(op.solve(b, rho))
        residual = exact.normal(found) + rho * found - double(b)
        size_of_terms = (bound + rho) * found.norm() + b.norm()
        assert residual.norm() <= 20 * torch.finfo(dtype).eps * size_of_terms, rho


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("name", "kind", "size"), [row for row in SINGLE if not row[1].is_complex])
def test_half_precision_is_solved_in_single(name: str, kind: torch.dtype, size: Size, dtype: torch.dtype) -> None:
    """Also by conjugate gradients, whose residual then is at the precision of single."""
    case = OPERATORS[name]
    op = case.make(kind, size).requires_grad_(False)
    b = samples(case, kind, size, (2,)).to(dtype)
    for rho in (0.5, 1.0):
        found = op.solve(b, rho)
        assert found.dtype == torch.float32
        assert torch.equal(found, op.solve(b.float(), rho))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("name", "kind", "size"), [row for row in SINGLE if not row[1].is_complex])
def test_a_data_step_of_half_precision_is_in_single(
    name: str, kind: torch.dtype, size: Size, dtype: torch.dtype
) -> None:
    case = OPERATORS[name]
    op = case.make(kind, size).requires_grad_(False)
    v, At_y = (samples(case, kind, size, (2,)).to(dtype) for _ in range(2))
    found = op.data_step(v, At_y, 0.7)
    torch.testing.assert_close(found.float(), op.data_step(v.float(), At_y.float(), 0.7), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["Blur, reflect, odd kernel", "Blur, valid, learned", "Convolution", "DCT", "Stack"])
def test_vmap_solves_each_sample(name: str) -> None:
    """In b and in ρ, with gradients and without, by conjugate gradients too."""
    case = OPERATORS[name]
    op = case.make(torch.float64, case.sizes[0])
    b = samples(case, torch.float64, case.sizes[0], (3, 2))
    rho = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    for record in (False, True):
        with torch.set_grad_enabled(record):
            found = torch.vmap(lambda b: op.solve(b, 0.5))(b)
            assert torch.allclose(found, torch.stack([op.solve(each, 0.5) for each in b]), rtol=1e-9, atol=1e-11)
            found = torch.vmap(op.solve)(b, rho)
            wanted = torch.stack([op.solve(*each) for each in zip(b, rho, strict=True)])
            assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("scheme", [schemes.ADMM(), schemes.HQS()])
def test_vmap_of_layers_over_a_matrix_for_every_sample(scheme: schemes.Scheme) -> None:
    A = torch.randn(3, 4, 7, dtype=torch.float64)
    net = fu.nn.Unrolled(scheme, A, prox.L1(), 3)
    y = torch.randn(2, 3, 4, dtype=torch.float64)
    assert torch.allclose(torch.vmap(net)(y), torch.stack([net(each) for each in y]), rtol=1e-12)
    assert gradcheck(lambda A: lin.Dense.of(A).solve(torch.ones(3, 7, dtype=torch.float64), 0.5), (A.requires_grad_(),))


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize("scheme", [schemes.ADMM(), schemes.HQS()])
def test_compiled_layers_over_a_matrix_for_every_sample(scheme: schemes.Scheme) -> None:
    net = fu.nn.Unrolled(scheme, torch.randn(3, 4, 7, dtype=torch.float64), prox.L1(), 3)
    y = torch.randn(3, 4, dtype=torch.float64)
    assert torch.allclose(torch.compile(net, backend="aot_eager", fullgraph=True)(y), net(y), rtol=1e-12)


def test_a_traced_factorisation_that_fails_is_nan() -> None:
    """Eager calls refuse it in a sentence, but values that are traced cannot be read."""
    A = torch.ones(1, 2, 2, dtype=torch.float64)
    b = torch.ones(3, 1, 2, dtype=torch.float64)
    assert torch.vmap(lambda b: lin.Dense.of(A * math.nan).solve(b, 1.0))(b).isnan().all()
    check_refused((lambda: lin.Dense.of(A * math.nan).solve(b, 1.0), ValueError, "rho must be large enough"))


@pytest.mark.parametrize(("name", "dtype", "size"), [row for row in FIRST if row[0].startswith("Downsample")])
def test_adjoints_are_differentiated(name: str, dtype: torch.dtype, size: Size) -> None:
    case = OPERATORS[name]
    op = case.make(dtype, size).H
    b = op.H(samples(case, dtype, size, (2,))).detach().requires_grad_()
    rho = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert gradcheck(op.solve, (b, rho), fast_mode=True, atol=1e-4)


def test_a_mean_is_that_of_pooling() -> None:
    """For every factor, at every boundary."""
    x = torch.randn(2, 24, 36, dtype=torch.float64)
    for factor in (1, 2, 3, 4, 6):
        for boundary in ("circular", "reflect", "constant"):
            op = lin.Downsample(factor, boundary=boundary).double()
            assert torch.allclose(op(x), torch.nn.functional.avg_pool2d(x, factor), rtol=1e-6)


@pytest.mark.parametrize(("name", "dtype", "size"), FIRST)
def test_shapes_without_values(name: str, dtype: torch.dtype, size: Size) -> None:
    """On the meta device, for what solves at once and by conjugate gradients."""
    case = OPERATORS[name]
    op = case.make(dtype, size).to("meta")
    b = samples(case, dtype, size, (2,)).to("meta")
    for side, given in ((op, b), (op.H, op(b))):
        found = side.solve(given, 0.5)
        assert found.is_meta
        assert found.shape == given.shape
        assert found.dtype == given.dtype


def test_shapes_of_matrices_without_values() -> None:
    for lead in ((), (3,)):
        op = lin.Dense(torch.randn(*lead, 4, 7)).to("meta")
        assert op.solve(torch.empty(2, 3, 7, device="meta"), 0.5).shape == (2, 3, 7)


BY_CONJUGATE_GRADIENTS = ["Blur, reflect, odd kernel", "Blur, valid, learned", "Convolution, stride, learned", "Stack"]


@pytest.mark.parametrize("name", BY_CONJUGATE_GRADIENTS)
def test_tangents_of_conjugate_gradients(name: str) -> None:
    """In b and in ρ, of A and of Aᴴ: (AᴴA + ρI) ẋ = ḃ − ρ̇ x."""
    case = OPERATORS[name]
    op = case.make(torch.float64, case.sizes[0]).requires_grad_(False)
    x = samples(case, torch.float64, case.sizes[0], (2,))
    rho = torch.tensor(0.7, dtype=torch.float64)
    for side, b in ((op, x), (op.H, op(x))):
        solution, tangent = torch.func.jvp(side.solve, (b, rho), (b, rho))
        assert torch.allclose(solution, side.solve(b, rho), rtol=1e-9, atol=1e-11)
        assert torch.allclose(tangent, solution - side.solve(rho * solution, rho), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in BY_CONJUGATE_GRADIENTS if "learned" in name])
def test_vmap_over_what_an_operator_learns(name: str) -> None:
    case = OPERATORS[name]
    op = case.make(torch.float64, case.sizes[0])
    b = samples(case, torch.float64, case.sizes[0], (2,))
    held = {key: torch.stack([p.detach(), 1.1 * p.detach()]) for key, p in op.named_parameters()}

    class Solve(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.op = op

        def forward(self, b: Tensor) -> Tensor:
            return self.op.solve(b, 0.5)

    net = Solve()
    found = torch.vmap(lambda p: torch.func.functional_call(net, p, (b,)))({f"op.{k}": v for k, v in held.items()})
    for i in range(2):
        wanted = torch.func.functional_call(net, {f"op.{k}": v[i] for k, v in held.items()}, (b,))
        assert torch.allclose(found[i], wanted, rtol=1e-9, atol=1e-11)


LEARNED: dict[str, Callable[[Tensor], Any]] = {
    "Blur, reflect": lambda k: lin.Blur(k, "reflect"),
    "Blur, valid": lambda k: lin.Blur(k, "valid"),
    "sum": lambda k: lin.Blur(k, "constant") + 0.5 * lin.Blur(k.flip(0)),
    "product": lambda k: lin.Blur(k, "constant") @ lin.Blur(k),
    "stack": lambda k: lin.Stack(lin.Blur(k), lin.Blur(k.square(), "reflect")),
}


@pytest.mark.parametrize("name", LEARNED)
def test_gradients_of_what_an_operator_learns(name: str) -> None:
    """Conjugate gradients end when x is right, which is before the derivative of their steps is."""
    random = torch.Generator().manual_seed(0)
    kernel = torch.rand(3, 3, dtype=torch.float64, generator=random) / 9
    b = torch.ones(2, 5, 6, dtype=torch.float64)  # which two steps solve almost
    weight = torch.randn(b.shape, dtype=torch.float64, generator=random)
    found = []
    for is_dense in (False, True):
        k, rho, at = kernel.clone().requires_grad_(), torch.tensor(0.5, dtype=torch.float64).requires_grad_(), b.clone()
        at.requires_grad_()
        op = LEARNED[name](k)
        if is_dense:
            eye = torch.eye(30, dtype=torch.float64)
            M = op.normal(eye.reshape(30, 5, 6)).reshape(30, 30).mT + rho * eye
            x = torch.linalg.solve(M, at.reshape(2, 30).mT).mT.reshape(at.shape)
        else:
            x = op.solve(at, rho)
        first = torch.autograd.grad((weight * x).sum(), (k, rho, at), create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), (k, rho, at))
        found.append([x, *first, *second])
    for ours, wanted in zip(*found, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9)


def test_tangents_of_a_solution_where_the_operator_learns() -> None:
    op = lin.Blur(torch.rand(3, 3, dtype=torch.float64), "reflect", learn=True)
    b, moved = torch.randn(2, 2, 5, 6, dtype=torch.float64)
    x, tangent = torch.func.jvp(lambda b: op.solve(b, 0.5), (b,), (moved,))
    torch.testing.assert_close(x, op.solve(b, 0.5))
    torch.testing.assert_close(tangent, op.solve(moved, 0.5), rtol=1e-8, atol=1e-9)
