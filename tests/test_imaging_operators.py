"""Operators of imaging against their definition: adjoint, normal operator, gradient, norm, solve, derivatives."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from imaging_operators import DOUBLE, EACH, FIRST, HALF, OPERATORS, Size, samples
from torch import Tensor, nn
from torch.autograd import gradcheck
from user_operators import check_gradients

lin = fu.operators
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(torch.jit.script|should not be instantiated).*:DeprecationWarning"),
]


def near(a: Tensor, b: Tensor, tolerance: float) -> bool:
    a, b = a.detach(), b.detach()
    scale = max(float(torch.linalg.vector_norm(a)), float(torch.linalg.vector_norm(b)), 1e-30)
    return a.shape == b.shape and a.dtype == b.dtype and float(torch.linalg.vector_norm(a - b)) <= tolerance * scale


@pytest.mark.parametrize(("name", "dtype", "size"), HALF)
def test_adjoint_normal_gradient_and_solve(name: str, dtype: torch.dtype, size: Size) -> None:
    """⟨A x, y⟩ = ⟨x, Aᴴ y⟩ to 1e-6 and 1e-12, and the other methods by A and Aᴴ, for every batch."""
    case = OPERATORS[name]
    op = case.make(dtype, size)
    precise = torch.finfo(dtype).bits == 64
    tolerance = 1e-12 if precise else 1e-6
    for batch in case.batches:
        x = samples(case, dtype, size, batch)
        product = op(x).detach()
        assert product.shape[: len(batch)] == batch
        y = torch.randn_like(product)
        back = op.adjoint(y).detach()
        assert back.shape == x.shape
        assert back.dtype == x.dtype
        left = (product * y.conj()).sum()
        right = (x * back.conj()).sum()
        apart = left - right if dtype.is_complex else left.real - right.real
        assert abs(complex(apart)) <= tolerance * float(product.norm() * y.norm() + x.norm() * back.norm() + 1e-30)
        normal, slope = op.adjoint(product), op.adjoint(product - y)
        assert near(op.normal(x), normal, 10 * tolerance)
        assert near(op.gradient(x, y), slope, 10 * tolerance)
        assert near(op.collapsed_gradient(x, back), slope, 10 * tolerance)
        if batch != (0,):
            solution = op.solve(x, 0.7)
            assert near(op.normal(solution) + 0.7 * solution, x, 100 * tolerance)
            assert near(op.data_step(x, back, 0.7), op.solve(back + 0.7 * x, 0.7), 10 * tolerance)
        if case.each or len(batch) < 2:
            continue
        assert near(op(x[1]), product[1], 10 * tolerance)
        assert near(op.adjoint(y[1]), back[1], 10 * tolerance)


@pytest.mark.parametrize(("name", "dtype", "size"), DOUBLE)
def test_norm(name: str, dtype: torch.dtype, size: Size) -> None:
    """An upper bound of the largest singular value of the dense matrix, and equal to it where the table says so."""
    case = OPERATORS[name]
    op = case.make(dtype, size).requires_grad_(False)
    event = case.sample(size)
    n = int(torch.Size(event).numel())
    eye = torch.eye(n, dtype=dtype).reshape(n, *event)
    eye = eye.unsqueeze(1).expand(n, EACH, *event) if case.each else eye.unsqueeze(1)
    columns = op(eye).reshape(n, eye.shape[1], -1).movedim(0, -1)  # (samples, m, n)
    matrix = torch.cat([columns.real, columns.imag], 1) if not dtype.is_complex and columns.is_complex() else columns
    exact = float(torch.linalg.matrix_norm(matrix, 2).max())
    norm = op.norm()
    assert exact * (1 - 1e-9) <= norm <= (1 + 1e-9 if case.exact else case.slack) * exact
    assert norm == op.stated_norm()


@pytest.mark.parametrize(("name", "dtype", "size"), FIRST)
def test_derivatives(name: str, dtype: torch.dtype, size: Size) -> None:
    """First derivatives of each method, in x, y, ρ, and in what learns.

    And second ones: of operators that do not learn, for complex x alone if there are such.
    """
    case = OPERATORS[name]
    op = case.make(dtype, size)
    x = samples(case, dtype, size, (EACH,)).requires_grad_()
    y = op(x).detach().clone().requires_grad_()
    z = torch.randn_like(x).requires_grad_()
    rho = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    methods: dict[str, tuple[Tensor, ...]] = {
        "forward": (x,), "adjoint": (y,), "normal": (x,), "gradient": (x, y), "collapsed_gradient": (x, z),
        "solve": (x, rho), "data_step": (x, z, rho),
    }  # fmt: skip
    own = {"forward", "adjoint"} | ({"gradient"} if type(op).gradient is not lin.LinearOperator.gradient else set())
    second = dtype.is_complex or case.takes == "real" or any(p.requires_grad for p in op.parameters())
    for method, given in methods.items():
        inherited = not (op.solves if method in ("solve", "data_step") else op.collapsed or method in own)
        if inherited and name != "Blur, reflect, even kernel":
            continue  # A and Aᴴ one after the other, or conjugate gradients, are the same for all operators
        call: Callable[..., Any] = op if method == "forward" else getattr(op, method)
        check_gradients(op, call, given, second=second, atol=1e-4)


@pytest.mark.parametrize(("name", "dtype", "size"), FIRST)
def test_check_finds_nothing_wrong(name: str, dtype: torch.dtype, size: Size) -> None:
    case = OPERATORS[name]
    found = lin.check(case.make(dtype, size), samples(case, dtype, size, (EACH,)))
    if case.each:  # samples differ by what each has of its own
        assert all("batch" in problem for problem in found.problems), found
    else:
        assert found, found


@pytest.mark.parametrize(("name", "dtype", "size"), FIRST)
def test_transforms(name: str, dtype: torch.dtype, size: Size) -> None:
    """deepcopy, vmap, torch.func, forward-mode differentiation."""
    case = OPERATORS[name]
    op = case.make(dtype, size).requires_grad_(False)
    x = samples(case, dtype, size, (4, EACH))
    wanted = 2 * op.normal(x)

    def loss(x: Tensor) -> Tensor:
        return op(x).abs().square().sum()

    assert torch.equal(copy.deepcopy(op)(x), op(x))
    assert torch.allclose(torch.vmap(op)(x), op(x))
    assert torch.allclose(torch.vmap(op.normal)(x), op.normal(x))
    assert torch.allclose(torch.func.grad(loss)(x), wanted)
    assert torch.allclose(torch.func.jvp(op, (x,), (x,))[1], op(x))


@pytest.mark.parametrize("name", [name for name in OPERATORS if "learned" in name and not OPERATORS[name].each])
def test_an_empty_batch_has_gradients_of_zero(name: str) -> None:
    case = OPERATORS[name]
    dtype = torch.complex128 if case.takes == "complex" else torch.float64
    op = case.make(dtype, case.sizes[0])
    x = samples(case, dtype, case.sizes[0], (0,))
    for found in (op(x), op.normal(x), op.gradient(x, op(x)), op.solve(x, 0.7)):
        of = torch.autograd.grad(found.abs().sum(), [*op.parameters()])
        assert not any(g.any() for g in of)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize(("name", "dtype", "size"), {row[0]: row for row in FIRST}.values())
def test_traces_have_the_values_of_other_pictures(name: str, dtype: torch.dtype, size: Size) -> None:
    """torch.jit.trace, which makes tensors of sizes: A and Aᴴ one after the other, and solutions."""
    case = OPERATORS[name]
    op = case.make(dtype, size).requires_grad_(False)
    x, other = samples(case, dtype, size, (EACH,)), samples(case, dtype, size, (EACH,))

    def normal(x: Tensor) -> Any:
        return op.adjoint(op(x))

    def solution(x: Tensor) -> Any:
        return op.solve(x, 0.7)

    for call in (normal, solution) if op.solves else (normal,):
        assert near(torch.jit.trace(call, (x,), check_trace=False)(other), call(other), 1e-12)
    if not op.solves:
        with pytest.raises(ValueError, match=r"torch\.jit\.trace does not record how many steps"):
            torch.jit.trace(solution, (x,), check_trace=False)


COMPILED = {
    "Blur, circular, learned": "gradient",
    "Fourier, real": "gradient",
    "MultiCoilFourier": "gradient",
    "Blur, volumes, reflect, learned, stated shape": "gradient",
    "MultiCoilFourier, volumes, learned": "normal",
    "Downsample, reflect": "forward",
    "DCT": "forward",
    "Blur of wavelet coefficients": "forward",
}


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_gradients_are_those_of_eager_code(name: str) -> None:
    """In x and in what learns, by graphs of forward and backward: each way of computing once."""
    case, method = OPERATORS[name], COMPILED[name]
    size, dtype = case.sizes[-1], torch.complex128 if case.takes == "complex" else torch.float64
    op = case.make(dtype, size)
    x = samples(case, dtype, size, (3,))
    y = op(x).detach()
    given = {"forward": (x,), "adjoint": (y,), "normal": (x,), "gradient": (x, 2 * y), "solve": (x, 0.7)}[method]

    def loss(leaf: Tensor) -> Tensor:
        call = op if method == "forward" else getattr(op, method)
        return call(leaf, *given[1:]).abs().square().sum()

    learned = [p for p in op.parameters() if p.requires_grad]
    leaf = given[0].clone().requires_grad_()
    wanted = torch.autograd.grad(loss(leaf), [leaf, *learned])
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that complex numbers are not compiled to code
        found = torch.autograd.grad(torch.compile(loss, backend="aot_eager")(leaf), [leaf, *learned])
    for a, b in zip(found, wanted, strict=True):
        assert near(a, b, 1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [name for name, case in OPERATORS.items() if case.takes == "either" and not case.each])
def test_half_precision_is_computed_in_the_precision_of_the_operator(name: str, dtype: torch.dtype) -> None:
    case = OPERATORS[name]
    size = case.sizes[0]
    op = case.make(torch.float32, size)
    x = samples(case, torch.float32, size, (2,)).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        product = op(x)
    assert product.dtype == torch.float32
    assert near(product.detach(), op(x.detach().float()).detach(), 1e-6)
    product.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype


def test_what_is_kept_follows_the_kernel_and_the_mask() -> None:
    x = torch.randn(2, 9, 7, dtype=torch.float64)
    for op, name in (
        (lin.Blur(torch.rand(3, 3, dtype=torch.float64)), "kernel"),
        (lin.Blur(torch.rand(3, 3, dtype=torch.float64), learn=True), "kernel"),
        (lin.Fourier(torch.rand(9, 7, dtype=torch.float64), real=True), "mask"),
        (lin.Fourier(torch.rand(7, dtype=torch.float64), real=True, learn=True), "mask"),
        (lin.Mask(torch.rand(9, 7, dtype=torch.float64)), "mask"),
    ):
        with torch.no_grad():
            for change in (
                lambda t: t.mul_(2), lambda t: t.data.mul_(3), lambda t: t.numpy().fill(0.5), lambda t: t[0].zero_(),
            ):  # fmt: skip
                before = op.normal(x)
                assert near(before, op.adjoint(op(x)), 1e-12)
                change(getattr(op, name))
                after = op.normal(x)
                assert near(after, op.adjoint(op(x)), 1e-12)
                assert not torch.equal(before, after)
                for rho in (0.5, torch.tensor(0.25), 0.5):
                    solved = op.solve(x, rho)
                    assert near(op.normal(solved) + rho * solved, x, 1e-12)
            setattr(op, name, nn.Parameter(getattr(op, name) + 1))
            assert near(op.normal(x), op.adjoint(op(x)), 1e-12)
            single = op.to(torch.float32)
            assert near(single.normal(x.float()), single.adjoint(single(x.float())), 1e-5)


def test_inference_mode_leaves_nothing_that_gradients_cannot_use() -> None:
    op = lin.Blur(torch.rand(3, 3))
    x = torch.randn(2, 8, 8)
    with torch.inference_mode():
        wanted = op.normal(x)
    leaf = x.clone().requires_grad_()
    found = op.solve(leaf, 0.5) + op.normal(leaf)
    found.sum().backward()
    assert torch.equal(op.normal(x), wanted)


def test_a_tensor_that_requires_a_gradient_gets_it() -> None:
    """A kernel that another network predicts."""
    log = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(8, 8, dtype=torch.float64)

    def loss(log: Tensor) -> Tensor:
        op = lin.Blur(log.softmax(0))
        return (op.gradient(op(x), x) + op.solve(x, 0.5)).square().sum()

    assert gradcheck(loss, (log,))


@pytest.mark.parametrize("size", [(1, 1), (37, 41), (1, 16), (353, 3)])
def test_single_pixels_and_large_primes(size: Size) -> None:
    x = torch.randn(2, *size, dtype=torch.complex128)
    operators = [
        lin.Blur(torch.rand(1, 1, dtype=torch.float64), boundary)
        for boundary in ("circular", "reflect", "constant", "valid")
    ] + [
        lin.Fourier(torch.rand(*size, dtype=torch.float64)),
        lin.MultiCoilFourier(torch.rand(size[1], dtype=torch.float64), torch.randn(3, *size, dtype=torch.complex128)),
        lin.Mask(torch.rand(*size, dtype=torch.float64)), lin.DCT(), lin.Gradient(), lin.BlockDCT(1, shape=size),
        lin.Downsample(1, torch.rand(1, 1, dtype=torch.float64)),
        lin.Fourier(torch.rand(*size, dtype=torch.float64), real=True),
    ]  # fmt: skip
    for op in operators:
        v = x.real.contiguous() if getattr(op, "real", False) else x
        y = torch.randn_like(op(v))
        assert near((op(v) * y.conj()).sum().real, (v * op.adjoint(y).conj()).sum().real, 1e-11)
        solution = op.solve(v, 0.3)
        assert near(op.normal(solution) + 0.3 * solution, v, 1e-11)


def test_a_sample_that_is_not_finite_stays_alone() -> None:
    for name, case in OPERATORS.items():
        if case.each:
            continue
        dtype = torch.complex64 if case.takes == "complex" else torch.float32
        op = case.make(dtype, case.sizes[0]).requires_grad_(False)
        x = samples(case, dtype, case.sizes[0], (3,))
        broken = x.clone()
        broken[1] = torch.nan
        for method in (op.forward, op.normal):
            found, wanted = method(broken), method(x)
            assert torch.equal(found[0], wanted[0]), name
            assert torch.equal(found[2], wanted[2]), name
            assert bool(torch.isnan(found[1].real).any()), name
