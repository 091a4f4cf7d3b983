"""Operators of other libraries in every solver, with the values of the dense matrix; and the ways back."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import fastunroll as fu
import numpy as np
import pylops
import pytest
import scipy.sparse
import scipy.sparse.linalg
import sigpy
import torch
from forms import covering
from torch import Tensor, nn
from user_operators import Blur, FourierMask, H, Haar, W, dense, kernel, mask

lin, S = fu.operators, fu.solvers
M, N, B = 7, 11, 3
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*beta state.*"),
    pytest.mark.filterwarnings("ignore::fastunroll.solvers.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of other libraries
]
EXTRA = "the library is an extra: pip install 'fastunroll[interop]'"
DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]


def matrix(dtype: torch.dtype) -> Tensor:
    return torch.randn(M, N, dtype=dtype, generator=torch.Generator().manual_seed(0)) / 3


class Fake:
    """A x and Aᴴ y."""

    def __init__(self, A: Tensor) -> None:
        self.matrix = A

    def product(self, x: Tensor) -> Tensor:
        return x @ self.matrix.mT

    def back(self, y: Tensor) -> Tensor:
        return y @ self.matrix.conj()


class Duck(Fake):
    def __call__(self, x: Tensor) -> Tensor:
        return self.product(x)

    adjoint = Fake.back


class LikeDeepinv(Fake):
    """The methods of ``deepinv.physics.LinearPhysics``; a call of it adds noise."""

    A, A_adjoint = Fake.product, Fake.back

    def __call__(self, x: Tensor) -> Tensor:
        return self.product(x) + torch.randn(())


class LikeMRpro(Fake):
    """The methods of ``mrpro.operators.LinearOperator``."""

    __module__ = "mrpro.operators.Fake"

    def __call__(self, x: Tensor) -> tuple[Tensor]:
        return (self.product(x),)

    def adjoint(self, y: Tensor) -> tuple[Tensor]:
        return (self.back(y),)


def linear_layer(A: Tensor) -> nn.Linear:
    layer = nn.Linear(N, M, bias=False, dtype=A.dtype)
    layer.weight.data = A.clone()
    return layer


def deepinv_physics(A: Tensor) -> Any:
    physics = pytest.importorskip("deepinv.physics", reason=EXTRA)
    return physics.LinearPhysics(A=lambda x, **_: x @ A.mT, A_adjoint=lambda y, **_: y @ A.conj())


def mrpro_operator(A: Tensor) -> Any:
    operators = pytest.importorskip("mrpro.operators", reason=EXTRA)
    return operators.EinsumOp(A, "i j, ... j -> ... i")


@dataclass(frozen=True)
class Kind:
    """Makes an operator of a matrix; trailing: dimensions of one that its samples have besides."""

    make: Callable[[Tensor], Any]
    trailing: int = 0
    has_entries: bool = False


KINDS = {
    "tensor": Kind(lambda A: A, has_entries=True),
    "NumPy": Kind(lambda A: A.numpy(), has_entries=True),
    "PyTorch COO": Kind(lambda A: A.to_sparse(), has_entries=True),
    "PyTorch CSR": Kind(lambda A: A.to_sparse_csr(), has_entries=True),
    "SciPy sparse array": Kind(lambda A: scipy.sparse.coo_array(A.numpy()), has_entries=True),
    "SciPy sparse matrix": Kind(lambda A: scipy.sparse.csc_matrix(A.numpy()), has_entries=True),
    "SciPy operator": Kind(lambda A: scipy.sparse.linalg.aslinearoperator(A.numpy())),
    "PyLops": Kind(lambda A: pylops.MatrixMult(A.numpy(), dtype=A.numpy().dtype)),
    "SigPy": Kind(lambda A: sigpy.linop.MatMul((N, 1), A.numpy()), trailing=1),
    "like DeepInverse": Kind(LikeDeepinv),
    "DeepInverse": Kind(deepinv_physics),
    "like MRpro": Kind(LikeMRpro),
    "MRpro": Kind(mrpro_operator),
    "nn.Linear": Kind(linear_layer, has_entries=True),
    "functions": Kind(lambda A: (lambda x: x @ A.mT, lambda y: y @ A.conj())),
    "an object": Kind(Duck),
    "Dense": Kind(lin.Dense, has_entries=True),
}
STEP = 0.05
SOLVERS: dict[str, Callable[[Any, Tensor, Tensor], Any]] = {
    "ista": lambda A, y, x: S.ista(A, y, 0.1, iterations=30, step=STEP),
    "fista": lambda A, y, x: S.fista(A, y, 0.1, iterations=30, step=STEP, x0=x, restart=True),
    "admm": lambda A, y, x: S.admm(A, y, 0.1, rho=0.5, adaptive=False, iterations=6, inner_iterations=30),
    "primal_dual": lambda A, y, x: S.primal_dual(A, y, 0.1, tau=0.2, sigma=0.2, iterations=30, x0=x),
    "amp": lambda A, y, x: S.amp(A, y, iterations=5, damping=0.5),
    "lambda_max": lambda A, y, x: S.lambda_max(A, y),
    "duality_gap": lambda A, y, x: S.duality_gap(x, y, A, 0.1),
    "gradient_step": lambda A, y, x: fu.gradient_step(x, y, A, STEP),
    "ista_step": lambda A, y, x: fu.ista_step(x, y, A, STEP, 0.01),
    "kkt_residual": lambda A, y, x: fu.losses.kkt_residual(x, y, A, 0.1),
    "lasso_objective": lambda A, y, x: fu.losses.lasso_objective(x, y, A, 0.1),
    "certified": lambda A, y, x: S.certified(lambda y: torch.zeros_like(x), A, 0.1, 1e-3)(y).converged.to(x.dtype),
    "lasso": lambda A, y, x: S.lasso(A, y, 0.1).x,
}


# Each kind in each solver that it can be in, and both with numbers of both dtypes.
SOLVED = covering(
    [
        (solver, kind, dtype)
        for solver, kind, dtype in product(SOLVERS, KINDS, (torch.float32, torch.complex128))
        if (solver != "lasso" or KINDS[kind].has_entries)
        and not (solver in ("lasso", "certified", "amp") and dtype.is_complex)  # which are for real numbers
    ],
    2,
)


@pytest.mark.parametrize(("solver", "kind", "dtype"), SOLVED)
def test_every_kind_in_every_solver(solver: str, kind: str, dtype: torch.dtype) -> None:
    """As with the dense matrix, and in its dtype."""
    A, form = matrix(dtype), KINDS[kind]
    random = torch.Generator().manual_seed(1)
    y, x = (torch.randn(B, n, dtype=dtype, generator=random) for n in (M, N))
    wanted = SOLVERS[solver](A, y, x)
    ones = (1,) * form.trailing
    found = SOLVERS[solver](form.make(A), y.reshape(B, M, *ones), x.reshape(B, N, *ones))
    assert found.dtype == wanted.dtype
    tolerance = 1e-4 if dtype.to_real() == torch.float32 else 1e-9
    if solver == "admm":
        tolerance = max(tolerance, 1e-6)  # conjugate gradients stop
    assert torch.allclose(found.reshape(wanted.shape), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_products_and_gradients(kind: str, dtype: torch.dtype) -> None:
    A, form = matrix(dtype), KINDS[kind]
    op, ones = lin.as_operator(form.make(A)), (1,) * form.trailing
    if dtype in (torch.float64, torch.complex128):
        x = torch.randn(B, N, *ones, dtype=dtype, requires_grad=True)
        y = torch.randn(B, M, *ones, dtype=dtype, requires_grad=True)
        op.requires_grad_(False)
        for function, value in ((op, x), (op.adjoint, y)):
            assert torch.autograd.gradcheck(function, (value,), fast_mode=True)
            assert torch.autograd.gradgradcheck(function, (value,), fast_mode=True)
    for lead in [(B,), (1,), *([(), (2, B), (0,)] if op.shape_in is not None else [])]:
        x, y = torch.randn(*lead, N, dtype=dtype), torch.randn(*lead, M, dtype=dtype)
        found = op(x.reshape(*lead, N, *ones)).reshape(*lead, M)
        back = op.adjoint(y.reshape(*lead, M, *ones)).reshape(*lead, N)
        assert found.dtype == back.dtype == dtype
        assert torch.allclose(found, x @ A.mT, rtol=1e-4, atol=1e-5)
        assert torch.allclose(back, y @ A.conj(), rtol=1e-4, atol=1e-5)
    x = None if op.shape_in is not None else torch.zeros(B, N, dtype=dtype)
    if dtype == torch.float64:
        assert lin.check(form.make(A), x), lin.check(form.make(A), x)
        ones_of_x = torch.ones(B, N, *ones, dtype=dtype)
        assert torch.allclose(copy.deepcopy(op)(ones_of_x), op(ones_of_x))


def test_a_tensor_is_not_copied() -> None:
    A = matrix(torch.float32)
    op = lin.as_operator(A)
    assert op.matrix is A
    assert lin.as_operator(op) is op
    array = A.numpy()
    matrix_of_array = lin.as_operator(array).matrix
    assert matrix_of_array is not None
    assert np.shares_memory(matrix_of_array.numpy(), array)
    layer = linear_layer(A)
    assert lin.as_operator(layer).matrix is layer.weight
    leaf = A.clone().requires_grad_()
    lin.as_operator(leaf)(torch.ones(2, N)).sum().backward()
    assert leaf.grad is not None


def test_a_layer_learns() -> None:
    layer, y = linear_layer(matrix(torch.float64)), torch.randn(B, M, dtype=torch.float64)
    S.fista(layer, y, 0.1, iterations=5).square().sum().backward()
    A = layer.weight.detach().clone().requires_grad_()
    S.fista(A, y, 0.1, iterations=5).square().sum().backward()
    assert layer.weight.grad is not None
    assert A.grad is not None
    assert torch.allclose(layer.weight.grad, A.grad)


@pytest.mark.parametrize("kind", ["SciPy operator", "PyLops", "SigPy"])
def test_precision_is_kept(kind: str) -> None:
    """Operators of NumPy return what they compute in; results have the precision of y."""
    A, form = matrix(torch.float64), KINDS[kind]
    op, ones = lin.as_operator(form.make(A)), (1,) * form.trailing
    assert op(torch.ones(B, N, *ones)).dtype == torch.float32
    assert op(torch.ones(B, N, *ones, dtype=torch.complex64)).dtype == torch.complex64
    x = S.fista(form.make(A), torch.ones(B, M, *ones), 0.1, iterations=5)
    assert x.dtype == torch.float32


def test_norms_of_foreign_operators_are_kept() -> None:
    """Since the object is known again."""
    calls = []
    A = matrix(torch.float64).numpy()

    def product(v: Any) -> Any:
        calls.append(1)
        return A @ v

    def back(v: Any) -> Any:
        return A.T @ v

    op = scipy.sparse.linalg.LinearOperator(
        (M, N), matvec=product, rmatvec=back, matmat=product, rmatmat=back, dtype=A.dtype
    )
    y, counts = torch.randn(B, M, dtype=torch.float64), []
    for _ in range(2):
        calls.clear()
        S.fista(op, y, 0.1, iterations=5)
        counts.append(len(calls))
    assert counts[1] == 6 < counts[0]


def test_dimensions_of_pylops() -> None:
    """Samples have the dimensions that PyLops states."""
    op = lin.as_operator(pylops.FirstDerivative((5, 6), axis=0, dtype="float64"))
    assert op.shape_in == op.shape_out == (5, 6)
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    assert torch.allclose(op(x)[1, 2], torch.from_numpy(op.source @ x[1, 2].numpy()))
    assert lin.check(op)


def test_pictures_of_sigpy() -> None:
    op = lin.as_operator(sigpy.linop.FFT((6, 8)))
    x = torch.randn(3, 6, 8, dtype=torch.complex64)
    shifted = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x, (-2, -1)), norm="ortho"), (-2, -1))
    assert torch.allclose(op(x), shifted, atol=1e-5)
    assert lin.check(op, x)


def test_pictures_of_deepinv() -> None:
    physics = pytest.importorskip("deepinv.physics", reason=EXTRA)
    op = physics.Inpainting(img_size=(1, 8, 8), mask=(torch.rand(1, 8, 8) < 0.5).float())
    y = op.A(torch.randn(3, 1, 8, 8))
    x = S.fista(op, y, 0.01, iterations=50)
    assert torch.allclose(x, fu.soft_threshold(y, 0.01), atol=1e-5)
    assert lin.check(op, torch.zeros(3, 1, 8, 8))


def test_pictures_of_mrpro() -> None:
    operators = pytest.importorskip("mrpro.operators", reason=EXTRA)
    op = operators.FastFourierOp(dim=(-2, -1))
    x = torch.randn(3, 1, 1, 6, 8, dtype=torch.complex64)
    y = op(x)[0]
    assert torch.allclose(S.fista(op, y, 0.1, iterations=100), fu.soft_threshold(x, torch.tensor(0.1)), atol=1e-4)
    assert lin.check(op, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64], ids=str)
def test_to_scipy(dtype: torch.dtype) -> None:
    """And SciPy solves with it."""
    op: Any = FourierMask(mask(dtype)) if dtype.is_complex else Blur(kernel(dtype))
    found = op.to_scipy()
    A = dense(op, (H, W), dtype).numpy()
    x, y = torch.randn(H * W, dtype=dtype).numpy(), torch.randn(H * W, dtype=dtype).numpy()
    columns = torch.randn(H * W, 3, dtype=dtype).numpy()
    assert found.shape == (H * W, H * W)
    assert found.dtype == x.dtype
    for value, wanted in (
        (found @ x, A @ x), (found.H @ y, A.conj().T @ y), (found @ columns, A @ columns),
        (found.rmatmat(columns), A.conj().T @ columns), (found.matvec(x[:, None]), A @ x[:, None]),
    ):  # fmt: skip
        assert value.dtype == wanted.dtype
        assert value.shape == wanted.shape
        assert np.allclose(value, wanted, atol=1e-5)
    if not dtype.is_complex:
        solution = scipy.sparse.linalg.lsqr(found, y, damp=0.5)[0]
        b = op.adjoint(torch.from_numpy(y).reshape(H, W))
        assert np.allclose(solution, op.solve(b, 0.25).flatten().detach().numpy(), atol=1e-3)
        assert torch.allclose(
            lin.as_operator(found)(torch.from_numpy(x)), op(torch.from_numpy(x).reshape(H, W)).flatten()
        )
    assert (lin.Dense(torch.randn(M, N)) @ lin.Dense(torch.randn(N, 2))).to_scipy().shape == (M, 2)
    assert Haar().to_scipy((4, 6)).shape == (24, 24)


def test_to_deepinv() -> None:
    pytest.importorskip("deepinv.physics", reason=EXTRA)
    op = Blur(kernel(torch.float32))
    physics = op.to_deepinv()
    x = torch.randn(2, 1, H, W)
    y = physics.A(x)
    assert torch.equal(y, op(x))
    assert torch.equal(physics.A_adjoint(y), op.adjoint(y))
    assert torch.equal(physics.A_adjoint_A(x), op.normal(x))
    proximal = physics.prox_l2(x, y, 2.0)
    assert torch.allclose(2.0 * op.gradient(proximal, y) + proximal - x, torch.zeros_like(x), atol=1e-5)
    assert float(physics.adjointness_test(x).abs().max()) < 1e-3
    assert torch.equal(lin.as_operator(physics)(x), op(x))


def test_libraries_are_not_imported() -> None:
    """What is converted belongs to a library that is there already."""
    before = set(sys.modules)
    lin.as_operator(matrix(torch.float32))
    lin.as_operator(Duck(matrix(torch.float32)))
    assert set(sys.modules) == before
