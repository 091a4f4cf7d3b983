"""The Lasso in use: any kind of array, gradients, objects that are used again, copied, interrupted and forked."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from callers import check_callers
from fastunroll.solvers import lasso_cached
from fastunroll.solvers.lasso_batched import Batched, Problem
from test_processes import interrupt, run
from torch import Tensor


@pytest.fixture(params=["native", "plain"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How problems are solved: in native code, or without a Gram matrix."""
    if request.param == "plain":
        monkeypatch.setattr(lasso_cached, "LARGEST_GRAM", 0)
    return str(request.param)


def same(a: Any, b: Any) -> bool:
    """Bit for bit, x, gap and iterations."""
    pairs = ((a.x, b.x), (a.gap, b.gap), (a.iterations, b.iterations))
    return all(np.array_equal(np.asarray(s), np.asarray(t), equal_nan=True) for s, t in pairs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_shapes(path: str, dtype: torch.dtype) -> None:
    A, Y = torch.randn(7, 20, dtype=dtype), torch.randn(2, 3, 7, dtype=dtype)
    solver = fu.solvers.Lasso(A)
    assert repr(solver) == "Lasso(A=(7, 20))"
    lam = 0.2 * solver.lambda_max(Y)
    assert lam.shape == (2, 3)
    result = solver.solve(Y, lam)
    assert result.x.shape == (2, 3, 20)
    assert result.gap.shape == result.iterations.shape == result.converged.shape == (2, 3)
    assert bool(result.converged.all())
    assert same(solver.solve(Y, lam[..., None]), result)
    assert repr(result).startswith("LassoResult(x=(2, 3, 20), 6 of 6 converged, largest gap ")
    alone = solver.solve(Y[1, 2], float(lam[1, 2]))
    assert alone.x.shape == (20,)
    assert alone.gap.shape == ()
    if path == "native":
        assert torch.equal(alone.x, result.x[1, 2])
    torch.testing.assert_close(alone.x, result.x[1, 2], atol=0.02, rtol=0)
    for batch in ((0,), (2, 0)):
        empty = solver.solve(torch.empty(*batch, 7, dtype=dtype), 0.1)
        assert empty.x.shape == (*batch, 20)
        assert empty.gap.shape == batch
        assert repr(empty) == f"LassoResult(x={(*batch, 20)}, 0 of 0 converged)"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays(dtype: type) -> None:
    """In and out are of one kind, and how an array lies in memory changes nothing."""
    rng = np.random.default_rng(0)
    A, Y = rng.standard_normal((9, 33)).astype(dtype), rng.standard_normal((6, 9)).astype(dtype)
    x0 = (0.1 * rng.standard_normal((6, 33))).astype(dtype)
    lam = 0.3 * fu.solvers.lambda_max(A, Y)
    assert lam.dtype == dtype
    kept = A.copy(), Y.copy(), x0.copy(), lam.copy()
    wanted = fu.solvers.lasso(A, Y, lam, x0=x0)
    assert isinstance(wanted.x, np.ndarray)
    assert isinstance(wanted.converged, np.ndarray)
    assert wanted.x.dtype == wanted.gap.dtype == dtype
    frozen = Y.copy()
    frozen.flags.writeable = False
    other = dtype().dtype.newbyteorder()
    forms = {
        "Fortran": (np.asfortranarray(A), np.asfortranarray(Y)),
        "negative strides": (A[::-1].copy()[::-1], Y[:, ::-1].copy()[:, ::-1]),
        "every other": (np.repeat(A, 2, 1)[:, ::2], np.repeat(Y, 3, 0)[::3]),
        "read-only": (A, frozen),
        "byte order": (A.astype(other), Y.astype(other)),
    }
    for name, (a, y) in forms.items():
        assert same(fu.solvers.lasso(a, y, lam, x0=x0), wanted), name
    assert same(fu.solvers.lasso(A, Y, lam.astype(np.float64), x0=x0[::-1].copy()[::-1]), wanted)
    tensors = [torch.from_numpy(v) for v in (A, Y, lam, x0)]
    found = fu.solvers.lasso(*tensors[:3], x0=tensors[3])
    assert isinstance(found.x, Tensor)
    assert same(found, wanted)
    turned = fu.solvers.lasso(tensors[0].T.contiguous().T, tensors[1].T.contiguous().T, tensors[2], x0=tensors[3])
    assert same(turned, wanted)
    assert same(fu.solvers.lasso(A, np.broadcast_to(Y[:1], (4, 9)), lam[:1].repeat(4)), fu.solvers.lasso(
        A, Y[:1].repeat(4, 0), lam[:1].repeat(4)))  # fmt: skip
    for value, before in zip((A, Y, x0, lam), kept, strict=True):
        assert np.array_equal(value, before)


def test_the_object_again() -> None:
    """What is kept for a matrix is made anew when the matrix, or the weights, were changed in place."""
    A, Y, weights = torch.randn(20, 50), torch.randn(4, 20), torch.rand(50) + 0.5
    solver = fu.solvers.Lasso(A, weights=weights)

    def fresh(tol: float) -> Any:
        return fu.solvers.Lasso(A.clone(), weights=weights.clone()).solve(Y, 1.0, tol=tol)

    first = solver.solve(Y, 1.0, tol=1e-9)
    assert same(solver.solve(Y, 1.0, tol=1e-9), first)
    A.mul_(2)
    assert same(solver.solve(Y, 1.0), fresh(1e-6))
    assert same(solver.solve(Y, 1.0, tol=1e-9), fresh(1e-9))
    weights.mul_(3)
    assert same(solver.solve(Y, 1.0, tol=1e-9), fresh(1e-9))
    assert bool((solver.solve(Y, 1.0, tol=1e-9).x != first.x).any())


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda s: pickle.loads(pickle.dumps(s))])
@pytest.mark.parametrize("used", [False, True])
def test_copies(used: bool, copied: Any) -> None:
    A, Y = torch.randn(20, 50), torch.randn(4, 20)
    solver = fu.solvers.Lasso(A, ridge=0.1, nonnegative=True)
    if used:
        solver.solve(Y, 1.0, tol=1e-9)
    other = copied(solver)
    assert (other.ridge, other.nonnegative) == (0.1, True)
    assert same(other.solve(Y, 1.0, tol=1e-9), solver.solve(Y, 1.0, tol=1e-9))


def test_inference_mode() -> None:
    A, Y = torch.randn(20, 50), torch.randn(4, 20)
    wanted = fu.solvers.lasso(A, Y, 1.0, tol=1e-9, weights=torch.ones(50))
    with torch.inference_mode():
        assert same(fu.solvers.lasso(A.clone(), Y.clone(), 1.0, tol=1e-9, weights=torch.ones(50)), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_too_few_steps(path: str, dtype: torch.dtype) -> None:
    A, Y = torch.randn(40, 200, dtype=dtype), torch.randn(5, 40, dtype=dtype)
    solver = fu.solvers.Lasso(A)
    lam = 0.01 * solver.lambda_max(Y)
    for most in (1, 2, 5, 30):
        missed = rf"^lasso: 5 of 5 samples did not reach tol = 1e-06 within {most} iterations \(the largest is at "
        with pytest.warns(fu.solvers.ConvergenceWarning, match=missed):
            result = solver.solve(Y, lam, max_iter=most)
        assert not result.converged.any()
        assert bool((result.gap > 1e-6).all())
        assert result.iterations.max() <= most
    assert bool(solver.solve(Y, lam).converged.all())


@pytest.mark.parametrize("of_each", [False, True])
def test_one_warning_for_all_that_do_not_converge(of_each: bool) -> None:
    A, Y = torch.randn(5, 40, 200, dtype=torch.float64), torch.randn(3, 5, 40, dtype=torch.float64)
    A = A if of_each else A[0]
    Y[1, 2, 3] = torch.inf
    with pytest.warns(fu.solvers.ConvergenceWarning, match="^lasso: 15 of 15 samples did not reach tol") as warned:
        fu.solvers.lasso(A, Y, 0.01, max_iter=2)
    assert [w.filename for w in warned] == [__file__]
    with pytest.warns(fu.solvers.ConvergenceWarning, match="^lasso: 1 of 15 samples .* since they hold NaN or infin"):
        fu.solvers.lasso(A, Y, 0.1)


@pytest.mark.filterwarnings("ignore:.* since they hold NaN or infinity")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_not_finite(path: str, dtype: torch.dtype) -> None:
    """NaN and infinity stay in their samples; y = 0 has the solution 0."""
    A, Y = torch.randn(20, 50, dtype=dtype), torch.randn(70, 20, dtype=dtype)
    lam = 0.1 * fu.solvers.lambda_max(A, Y)
    wanted = fu.solvers.lasso(A, Y, lam)
    Y[3, 7], Y[41, 0], Y[69, 19] = float("nan"), float("inf"), -float("inf")
    Y[11] = 0
    found = fu.solvers.lasso(A, Y, lam)
    for i in (3, 41, 69):
        assert bool(found.x[i].isnan().all())
        assert bool(found.gap[i].isnan())
    assert not found.x[11].any()
    assert (found.gap[11], found.iterations[11]) == (0, 0)
    assert [i for i in range(70) if not found.converged[i]] == [3, 41, 69]
    rest = [i for i in range(70) if i not in (3, 11, 41, 69)]
    if path == "native":
        assert torch.equal(found.x[rest], wanted.x[rest])
    torch.testing.assert_close(found.x[rest], wanted.x[rest], atol=0.01, rtol=0)
    largest = fu.solvers.lambda_max(A, Y)
    assert bool(largest[3].isnan())
    again = fu.solvers.lasso(A, Y, 0.1 * largest)  # zero and NaN where the sample is
    assert same(again, found)
    assert [bool(r.converged[11]) for r in fu.solvers.lasso_path(A, Y, count=3)[1]] == [True] * 3


def test_plain_pytorch_is_the_same_problem() -> None:

    A, Y = torch.randn(20, 50, dtype=torch.float64), torch.randn(9, 20, dtype=torch.float64)
    weights, lam = torch.rand(50, dtype=torch.float64) + 0.5, torch.linspace(0.2, 2, 9, dtype=torch.float64)
    for nonnegative, ridge in ((False, 0.0), (True, 0.0), (False, 0.5)):
        x, gap, _ = Batched(Problem(A, weights, nonnegative, ridge)).solve(Y, lam, 1e-13, None, 10000)
        native = fu.solvers.lasso(A, Y, lam, tol=1e-13, weights=weights, nonnegative=nonnegative, ridge=ridge)
        assert bool((gap <= 1e-13).all() & native.converged.all())
        torch.testing.assert_close(x, native.x, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("of_A", "of_Y"), [(torch.float32, torch.float64), (torch.float64, torch.float32)], ids=str)
def test_autocast(path: str, of_A: torch.dtype, of_Y: torch.dtype) -> None:
    """The matrix sets the precision; nothing is read as what it is not."""
    A, Y = torch.randn(20, 50, dtype=of_A), torch.randn(64, 20, dtype=of_Y)
    weights, x0 = torch.rand(50, dtype=of_Y) + 0.5, torch.zeros(64, 50, dtype=of_Y)
    with torch.autocast("cpu"):
        found = fu.solvers.lasso(A, Y, torch.ones(64, dtype=of_Y), weights=weights, x0=x0)
    assert same(found, fu.solvers.lasso(A, Y.to(of_A), 1.0, weights=weights.to(of_A), x0=x0.to(of_A)))
    assert bool(found.converged.all())


def test_what_is_kept_is_of_the_problem() -> None:
    solver = fu.solvers.Lasso(torch.randn(5, 9))
    for name in ("A", "weights", "nonnegative", "ridge"):
        with pytest.raises(AttributeError):
            setattr(solver, name, 1.0)


@pytest.mark.parametrize("options", [{}, {"ridge": 0.3}, {"nonnegative": True}], ids=str)
def test_gradients(path: str, options: dict[str, Any]) -> None:
    A = torch.randn(8, 12, dtype=torch.float64)
    y = torch.randn(2, 3, 8, dtype=torch.float64)
    weights = torch.rand(12, dtype=torch.float64) + 0.5
    lam = 0.3 * fu.solvers.Lasso(A, weights=weights, **options).lambda_max(y)
    arguments = [t.requires_grad_() for t in (A, y, lam, weights)]

    def solve(A: Tensor, y: Tensor, lam: Tensor, weights: Tensor) -> Tensor:
        return fu.solvers.lasso(A, y, lam, tol=1e-14, weights=weights, **options).x

    found = solve(*arguments)
    assert bool((found != 0).any(-1).all())
    assert torch.autograd.gradcheck(solve, arguments, eps=1e-6, atol=1e-5, rtol=1e-4)
    one = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda lam: solve(A.detach(), y.detach(), lam, weights.detach()), [one], atol=1e-5)


@pytest.mark.usefixtures("_quiet_torch")
def test_forward_mode_and_transforms(path: str) -> None:
    """The same derivatives, by an object that has solved problems before too."""
    A, y = torch.randn(8, 12, dtype=torch.float64), torch.randn(3, 8, dtype=torch.float64)
    weights = torch.rand(12, dtype=torch.float64) + 0.5
    lam = 0.3 * fu.solvers.Lasso(A, weights=weights).lambda_max(y)

    def solve(A: Tensor, y: Tensor, lam: Tensor, weights: Tensor) -> Tensor:
        return fu.solvers.lasso(A, y, lam, tol=1e-14, weights=weights).x

    arguments = (A, y, lam, weights)
    leaves = [t.clone().requires_grad_() for t in arguments]
    wanted = torch.autograd.grad(solve(*leaves).square().sum(), leaves)
    found = torch.func.grad(lambda *a: solve(*a).square().sum(), argnums=(0, 1, 2, 3))(*arguments)
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-7)
    tangents = tuple(torch.randn_like(t) for t in arguments)
    _, along = torch.func.jvp(lambda *a: solve(*a).square().sum(), arguments, tangents)
    products = sum((g * t).sum() for g, t in zip(wanted, tangents, strict=True))
    torch.testing.assert_close(along, products, atol=1e-9, rtol=1e-7)

    solver = fu.solvers.Lasso(A, weights=weights)
    solver.solve(y, lam, tol=1e-14)
    with torch.autograd.forward_ad.dual_level():
        x = solver.solve(torch.autograd.forward_ad.make_dual(y, tangents[1]), lam, tol=1e-14).x
        value, tangent = torch.autograd.forward_ad.unpack_dual(x)
    torch.testing.assert_close((2 * value * tangent).sum(), (wanted[1] * tangents[1]).sum(), atol=1e-9, rtol=1e-7)


@pytest.mark.filterwarnings("ignore:.* since they hold NaN or infinity")
def test_gradient_beside_a_sample_without_a_solution(path: str) -> None:
    A, Y = torch.randn(20, 50, dtype=torch.float64, requires_grad=True), torch.randn(9, 20, dtype=torch.float64)
    wanted = fu.solvers.lasso(A, torch.cat([Y[:3], Y[4:]]), 1.0, tol=1e-12).x.square().sum()
    Y[3, 5] = torch.nan
    found = fu.solvers.lasso(A, Y, 1.0, tol=1e-12)
    total = found.x[found.converged].square().sum()
    torch.testing.assert_close(*(torch.autograd.grad(t, A)[0] for t in (total, wanted)), atol=1e-9, rtol=1e-7)


def test_gradients_in_single_precision(path: str) -> None:
    A, y = torch.randn(8, 12), torch.randn(5, 8)
    lam = 0.3 * fu.solvers.lambda_max(A, y)

    def gradients(dtype: torch.dtype) -> list[Tensor]:
        arguments = [t.detach().to(dtype).requires_grad_() for t in (A, y, lam)]
        x = fu.solvers.lasso(*arguments, tol=1e-9).x
        assert x.requires_grad
        return list(torch.autograd.grad(x.square().sum(), arguments))

    for single, double in zip(gradients(torch.float32), gradients(torch.float64), strict=True):
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, atol=1e-3, rtol=1e-3)


def test_no_gradient_where_none_is_asked_for() -> None:
    A, y = torch.randn(8, 12, requires_grad=True), torch.randn(5, 8)
    assert fu.solvers.lasso(A, y, 0.5).x.requires_grad
    with torch.no_grad():
        assert not fu.solvers.lasso(A, y, 0.5).x.requires_grad
    assert not fu.solvers.lasso(A.detach(), y, 0.5).x.requires_grad


def test_gradient_with_duplicate_columns(path: str) -> None:
    """They may share a solution in any way: what all of them do to A x is certain."""
    A, y = torch.randn(8, 6, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    twice = torch.cat([A, A], 1)
    lam = float(0.2 * fu.solvers.lambda_max(A, y))

    def of(matrix: Tensor) -> Tensor:
        given = y.clone().requires_grad_()
        fitted = matrix @ fu.solvers.lasso(matrix, given, lam, tol=1e-14).x
        return torch.autograd.grad(fitted.square().sum(), given)[0]

    torch.testing.assert_close(of(twice), of(A), atol=1e-4, rtol=1e-4)


def test_callers_on_several_threads() -> None:
    """They share an object, of which the first makes what is kept."""
    A, Y = torch.randn(30, 100), torch.randn(80, 30)
    wanted = fu.solvers.lasso(A, Y, 1.0, tol=1e-9)
    solver = fu.solvers.Lasso(A)

    def wrong(rows: torch.Tensor) -> Iterator[str]:
        if not torch.equal(solver.solve(Y[rows], 1.0, tol=1e-9).x, wanted.x[rows]):
            yield "another solution"

    check_callers(80, wrong)


SOLVER = """
    A, Y = torch.randn(30, 100, generator=generator), torch.randn(90, 30, generator=generator)
    solver, samples = fu.solvers.Lasso(A), Y
    before = solver.solve(samples, 1.0)

    def same_again():
        again = solver.solve(samples, 1.0)
        return torch.equal(again.x, before.x) and torch.equal(again.gap, before.gap)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_fork(tmp_path: Path) -> None:
    """Of native code alone: PyTorch's own threads do not survive a fork, and hang."""
    code = (
        SOLVER
        + """
    child = os.fork()
    if child == 0:
        os._exit(0 if same_again() else 1)
    print(same_again(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    )
    assert run(tmp_path, code) == "True 0\n"


@pytest.mark.parametrize("threads", [1, 2])
def test_interrupted(tmp_path: Path, threads: int) -> None:
    """Ctrl-C ends a call while it is in the core, and the next one works."""
    before = (
        SOLVER
        + f"""
    torch.set_num_threads({threads})
    A, Y = torch.randn(400, 1000, generator=generator), torch.randn(20_000, 400, generator=generator)
    large = fu.solvers.Lasso(A)
    lam = 1e-3 * large.lambda_max(Y)
    large.solve(Y[:2], lam[:2])
    """
    )
    file = "fu.ops.Dictionary.solve.__code__.co_filename"
    assert interrupt(tmp_path, before, "large.solve(Y, lam)", file, "same_again()") == "stopped True\n"
