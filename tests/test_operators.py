"""Linear operators: the adjoint in every form, gradients of every order, norms, solves, and use as modules."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from fastunroll.operators.flattened import Flattened
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from user_operators import (
    CASES,
    OPERATORS,
    Blur,
    H,
    M,
    N,
    Sums,
    W,
    batches,
    check_gradients,
    dense,
    kernel,
    shape_of,
)

lin = fu.operators
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*beta state.*"),
    pytest.mark.filterwarnings("ignore:.*(torch.jit.script|should not be instantiated).*:DeprecationWarning"),
]
DOUBLE = [(name, dtype) for name, dtype in CASES if dtype in (torch.float64, torch.complex128)]


def make(name: str, dtype: torch.dtype) -> lin.LinearOperator:
    op: lin.LinearOperator = OPERATORS[name][0](dtype)
    return op


def samples(shape: tuple[int, ...], dtype: torch.dtype, layout: str = "contiguous") -> Tensor:
    if layout == "contiguous" or not shape:
        return torch.randn(shape, dtype=dtype)
    if layout == "transposed":
        return torch.randn(shape[::-1], dtype=dtype).permute(*reversed(range(len(shape))))
    if layout == "expanded":
        return torch.randn(*shape[:-1], 1, dtype=dtype).expand(shape)
    return torch.randn(*shape[:-1], 2 * shape[-1], dtype=dtype)[..., ::2]


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "expanded", "strided"])
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_dot_test(name: str, dtype: torch.dtype, layout: str) -> None:
    """⟨A x, y⟩ = ⟨x, Aᴴ y⟩ for every batch, and each sample as if it were alone."""
    op = make(name, dtype)
    for batch in batches(name):
        x = samples((*batch, *shape_of(name)), dtype, layout)
        product = op(x)
        assert product.shape[: len(batch)] == batch
        y = samples(tuple(product.shape), product.dtype, layout)
        back = op.adjoint(y)
        assert back.shape == x.shape
        assert back.dtype == x.dtype
        product, back = product.detach(), back.detach()
        left, right = torch.vdot(y.flatten(), product.flatten()), torch.vdot(back.flatten(), x.flatten())
        size = float(product.norm() * y.norm() + back.norm() * x.norm())
        assert abs(complex(left - right)) <= 10 * torch.finfo(dtype).eps * size
        assert torch.allclose(op.normal(x), op.adjoint(product), rtol=1e-4, atol=1e-5)
        assert torch.allclose(op.gradient(x, y), op.adjoint(product - y), rtol=1e-4, atol=1e-5)
        if len(batch) == 2 and 0 not in batch:
            assert torch.allclose(op(x[1]), product[1], rtol=1e-4, atol=1e-5)
            assert torch.allclose(op.adjoint(y[1]), back[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["forward", "adjoint", "normal", "gradient"])
@pytest.mark.parametrize(("name", "dtype"), DOUBLE)
def test_gradients(name: str, dtype: torch.dtype, method: str) -> None:
    """First and second derivatives, in x and y, and in what learns."""
    op = make(name, dtype)
    x = samples((3, *shape_of(name)), dtype).requires_grad_()
    y = op(x).detach().clone().requires_grad_()
    call: Callable[..., Any] = op if method == "forward" else getattr(op, method)
    given = {"forward": (x,), "adjoint": (y,), "normal": (x,), "gradient": (x, y)}[method]
    check_gradients(op, call, given)


def test_a_learned_operator_learns_from_the_adjoint_too() -> None:
    op = Blur(kernel(torch.float64), learn=True)
    target, y = torch.randn(3, H, W, dtype=torch.float64), torch.randn(3, H, W, dtype=torch.float64)
    for loss in (lambda: (op(y) - target).square().sum(), lambda: (op.adjoint(y) - target).square().sum()):
        (found,) = torch.autograd.grad(loss(), op.kernel)
        with torch.no_grad():
            before = loss()
            op.kernel -= 1e-4 * found
            assert loss() < before


class Hidden(lin.LinearOperator):
    """Learns a tensor that is no attribute of it."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = lambda: scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale() * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.scale() * y


class HalfNumpy(lin.LinearOperator):
    """Learns, and PyTorch does not see x in its products."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.0, N, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * torch.from_numpy(np.cumsum(x.detach().numpy(), -1))

    def adjoint(self, y: Tensor) -> Tensor:
        return torch.from_numpy(np.cumsum((self.weight * y).detach().numpy()[..., ::-1], -1)[..., ::-1].copy())


def test_tensors_that_learn_wherever_they_are() -> None:
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, N, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x, scale: Hidden(scale)(x), (x, scale))
    assert gradgradcheck(lambda x, scale: Hidden(scale)(x), (x, scale))
    assert gradcheck(lambda x, c: (c * Sums())(x), (x, scale))
    assert gradgradcheck(lambda x, c: (c * Sums())(x), (x, scale))
    op = HalfNumpy()
    assert gradcheck(op, (x,))
    (found,) = torch.autograd.grad(op(x).sum(), op.weight)
    assert torch.allclose(found, x.detach().cumsum(-1).sum(0))
    with pytest.raises(RuntimeError, match="second derivatives of an operator that learns need HalfNumpy"):
        torch.autograd.grad(op(x).square().sum(), x, create_graph=True)


def test_no_gradient_costs_nothing() -> None:
    op = Blur(kernel(torch.float32))
    x = torch.randn(3, H, W, requires_grad=True)
    with torch.no_grad():
        assert not op(x).requires_grad
    with torch.inference_mode():
        assert op(x).is_inference()
    assert not op(x.detach()).requires_grad
    assert Sums()(torch.randn(3, N)).grad_fn is None


@pytest.mark.parametrize(("name", "dtype"), DOUBLE)
def test_norm(name: str, dtype: torch.dtype) -> None:
    """An upper bound that is no more than the sum or product of the parts."""
    op = make(name, dtype)
    op = op if op.shape_in is not None else Flattened(op, shape_of(name), tuple(op(torch.zeros(shape_of(name))).shape))
    x = torch.zeros(1, *(op.shape_in or ()), dtype=dtype)
    if "each sample" in name:
        each = [op.matrix] if op.matrix is not None else [torch.ones(1, 1, 1)]
        exact = float(torch.linalg.matrix_norm(each[0], 2).max())
    else:
        exact = float(torch.linalg.matrix_norm(dense(op, tuple(x.shape[1:]), dtype), 2))
    assert exact * (1 - 1e-9) <= op.norm() <= 2.5 * exact
    if not name.startswith(("sum", "composed")):
        assert op.norm() <= 1.2 * exact


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_solve(name: str, dtype: torch.dtype) -> None:
    op = make(name, dtype)
    for batch in batches(name):
        b = samples((*batch, *shape_of(name)), dtype)
        for rho in (0.3, torch.tensor(2.0, dtype=dtype.to_real())):
            if op.shape_in is None and len(batch) != 1:
                continue  # the first dimension is the batch, where no shape is stated
            x = op.solve(b, rho)
            assert x.dtype == dtype
            assert torch.allclose(op.normal(x) + rho * x, b, rtol=1e-4, atol=1e-5 if dtype.itemsize < 9 else 1e-9)


@pytest.mark.parametrize(("name", "dtype"), [case for case in DOUBLE if case[0] != "learned blur"])
def test_gradients_of_solve(name: str, dtype: torch.dtype) -> None:
    op = make(name, dtype)
    b = samples((3, *shape_of(name)), dtype).requires_grad_()
    rho = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert gradcheck(op.solve, (b, rho), fast_mode=True, atol=1e-4)
    assert gradgradcheck(op.solve, (b, rho), fast_mode=True, atol=1e-4)


def test_a_solve_learns() -> None:
    """By unrolling conjugate gradients, which agrees with the derivative of the solution."""
    b = torch.randn(3, H, W, dtype=torch.float64)

    def solved(kernel: Tensor) -> Tensor:
        op = Blur(kernel)
        op.kernel = nn.Parameter(kernel.detach())
        with nn.utils.stateless._reparametrize_module(op, {"kernel": kernel}):  # type: ignore[attr-defined]
            return op.solve(b, 0.5)

    assert gradcheck(solved, (kernel(torch.float64).requires_grad_(),), fast_mode=True, atol=1e-4)


def test_a_factorisation_is_kept_and_made_anew() -> None:
    op = lin.Dense(torch.randn(M, N, dtype=torch.float64))
    b = torch.randn(3, N, dtype=torch.float64)
    op.solve(b, 0.5)
    kept = op._factor
    op.solve(b, 0.5)
    assert op._factor is kept
    for change in (lambda: op.solve(b, 0.25), lambda: op.A.data[0].mul_(2), lambda: op.A.numpy().fill(0.5)):
        change()
        x = op.solve(b, 0.5)
        assert torch.allclose(op.normal(x) + 0.5 * x, b)
        assert op._factor is not kept
        kept = op._factor


def test_a_solve_that_does_not_converge_says_so() -> None:
    class Steep(lin.LinearOperator):
        shape_in = shape_out = (3000,)
        weight = torch.logspace(0, 9, 3000, dtype=torch.float64)

        def forward(self, x: Tensor) -> Tensor:
            return self.weight * x

        adjoint = forward

    with pytest.warns(fu.solvers.ConvergenceWarning, match="conjugate gradients: 2 of 2 samples did not reach"):
        Steep().solve(torch.ones(2, 3000, dtype=torch.float64), 1e-9)


def test_algebra_is_that_of_matrices() -> None:
    """Every expression is the same one of matrices; so are its adjoint and its matrix."""
    A, B = (torch.randn(M, N, dtype=torch.complex128) for _ in range(2))
    a, b = lin.Dense(A), lin.Dense(B)
    opaque = lin.as_operator((lambda x: x @ B.mT, lambda y: y @ B.conj()))
    c = torch.tensor(1.5 - 2j, dtype=torch.complex128)
    for second in (b, opaque):
        for op, wanted in (
            (a.H @ second, A.mH @ B), (second @ a.H, B @ A.mH), (a + second, A + B), (a - second, A - B),
            (-second, -B), (2 * second, 2 * B), (second * (1 + 2j), (1 + 2j) * B), (second / 4, B / 4), (c * a, c * A),
            ((a + second).H, (A + B).mH), ((a.H @ second).H, (A.mH @ B).mH), (second.H.H, B),
            ((2j * second).H, (2j * B).mH),
            (2 * (3 * second), 6 * B), (a.H @ second @ second.H @ a, A.mH @ B @ B.mH @ A),
        ):  # fmt: skip
            x = torch.randn(4, wanted.shape[1], dtype=torch.complex128)
            y = torch.randn(4, wanted.shape[0], dtype=torch.complex128)
            assert torch.allclose(op(x), x @ wanted.mT)
            assert torch.allclose(op.adjoint(y), y @ wanted.conj())
            if op.matrix is None:
                assert second is opaque
            else:
                assert torch.allclose(op.matrix, wanted)
            if op.shape_in is not None:
                assert op.norm() >= float(torch.linalg.matrix_norm(wanted, 2)) * (1 - 1e-6)
    assert (a @ second.H @ a).parts[0] is a
    assert a.H.H is a


@pytest.mark.parametrize(("name", "dtype"), DOUBLE)
def test_modules(name: str, dtype: torch.dtype) -> None:
    """deepcopy, pickle, state_dict and .to."""
    op = make(name, dtype)
    x = samples((3, *shape_of(name)), dtype)
    wanted = op(x)
    assert torch.equal(copy.deepcopy(op)(x), wanted)
    if name != "sparse":
        assert torch.equal(pickle.loads(pickle.dumps(op))(x), wanted)
        file = io.BytesIO()
        torch.save(op.state_dict(), file)
        file.seek(0)
        op.load_state_dict(torch.load(file))
    if not dtype.is_complex and name != "NumPy":
        single = copy.deepcopy(op).to(torch.float32)
        assert single(x.float()).dtype == torch.float32
        assert torch.allclose(single(x.float()).double(), wanted, atol=1e-5)


@pytest.mark.parametrize(("name", "dtype"), [case for case in DOUBLE if case[0] not in ("NumPy", "sparse")])
def test_transforms(name: str, dtype: torch.dtype) -> None:
    """vmap, torch.func and forward-mode differentiation, and a compiled function with gradients."""
    op = make(name, dtype).requires_grad_(False)
    x = samples((4, 3, *shape_of(name)), dtype)
    wanted = 2 * op.normal(x)

    def loss(x: Tensor) -> Tensor:
        return op(x).abs().square().sum()

    assert torch.allclose(torch.vmap(op)(x), op(x))
    assert torch.allclose(torch.func.grad(loss)(x), wanted)
    assert torch.allclose(torch.vmap(torch.func.grad(loss))(x), wanted)
    assert torch.allclose(torch.func.jvp(op, (x,), (x,))[1], op(x))
    torch._dynamo.reset()
    leaf = x.clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that complex numbers are not compiled to code
        torch.compile(loss, backend="aot_eager")(leaf).backward()
    assert leaf.grad is not None
    assert torch.allclose(leaf.grad, wanted)


def test_compiled_with_numpy() -> None:
    """PyTorch traces NumPy too; the gradient is that of the adjoint."""
    torch._dynamo.reset()
    x = torch.randn(3, N, dtype=torch.float64, requires_grad=True)
    op = Sums()
    torch.compile(lambda x: op(x).square().sum(), backend="aot_eager")(x).backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, 2 * op.normal(x.detach()))


def test_autocast_leaves_the_physics_alone() -> None:
    class Product(lin.LinearOperator):
        A = torch.randn(M, N)

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.A.mT

        def adjoint(self, y: Tensor) -> Tensor:
            return y @ self.A

    op, x = Product(), torch.randn(3, N, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = op(x)
        (gradient,) = torch.autograd.grad(found.sum(), x)
    assert torch.equal(found, op(x))
    assert torch.equal(gradient, op.adjoint(torch.ones(3, M)))
