"""ISTA and FISTA until convergence: the native iterations, the plain ones, and operators."""

from __future__ import annotations

import warnings
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from closeness import relative_error
from devices import DEVICES, on
from hypothesis import given
from hypothesis import strategies as st
from problems import Blur, Opaque, gap, objective, sparse_problem
from test_bit_equality import FUSED, usable_sets
from torch import Tensor

KINDS: dict[str, dict[str, Any]] = {
    "ista": {},
    "fista": {},
    "restart": {"restart": True},
    "monotone": {"monotone": True},
    "both": {"restart": True, "monotone": True},
}


def solve(kind: str, *arguments: Any, **options: Any) -> Tensor:
    solver = fu.solvers.ista if kind == "ista" else fu.solvers.fista
    return solver(*arguments, **options, **KINDS[kind])


def plain_fista(A: Tensor, y: Tensor, lam: Tensor | float, iterations: int, kind: str) -> tuple[Tensor, list[Tensor]]:
    """As in the papers, each sample by itself: the last iterate, and the objective after each iteration."""
    step = 0.9 / float(torch.linalg.matrix_norm(A, 2)) ** 2
    restart, monotone = kind in ("restart", "both"), kind in ("monotone", "both")
    outcome = []
    for i, yi in enumerate(y):
        lam_i = lam[i] if isinstance(lam, Tensor) and lam.dim() == 2 else lam

        def F(x: Tensor, yi: Tensor = yi, lam_i: Any = lam_i) -> Tensor:
            return (A @ x - yi).square().sum() / 2 + (lam_i * x.abs()).sum()

        x = v = torch.zeros(A.shape[1], dtype=A.dtype)
        t = 1.0
        for _ in range(iterations):
            z = fu.reference.soft_threshold(v - step * A.T @ (A @ v - yi), torch.as_tensor(lam_i) * step)
            uphill = ((v - z) * (z - x)).sum() > 0
            following = (1 + (1 + 4 * t * t) ** 0.5) / 2
            new = x if monotone and F(z) > F(x) * (1 + 1e-15) else z
            v = new + t / following * (z - new) + (t - 1) / following * (new - x)
            t = following
            if kind == "ista" or (restart and uphill):
                t, v = 1.0, new
            x = new
        outcome.append(x)
    return torch.stack(outcome), step


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("m", "n", "batch"), [(1, 1, 2), (1, 17, 3), (17, 5, 2), (33, 70, 5)])
def test_iterations_of_the_papers(kind: str, m: int, n: int, batch: int) -> None:
    A, y, lam = sparse_problem(m, n, batch, share=0.5)
    wanted, step = plain_fista(A, y, lam, 23, kind)
    assert relative_error(solve(kind, A, y, lam, iterations=23, step=step), wanted) <= 1e-10
    with fu.ops.plain():
        assert relative_error(solve(kind, A, y, lam, iterations=23, step=step), wanted) <= 1e-10


@given(
    kind=st.sampled_from(list(KINDS)), m=st.integers(1, 20), n=st.integers(1, 140), batch=st.integers(0, 70),
    shape=st.sampled_from(["number", "coordinate", "sample", "both"]), starts=st.booleans(),
    tol=st.sampled_from([0.0, 1e-3, 1e-9]), iterations=st.integers(1, 60), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_native_and_plain(
    kind: str, m: int, n: int, batch: int, shape: str, starts: bool, tol: float, iterations: int, seed: int
) -> None:
    """The two engines: the same iterates, and the same samples at rest."""
    torch.manual_seed(seed)
    A, y, rows = sparse_problem(m, n, batch, share=0.3)
    size: dict[str, tuple[int, ...]] = {"number": (), "coordinate": (n,), "sample": (batch, 1), "both": (batch, n)}
    lam = (float(rows.mean()) if batch else 0.1) * (0.5 + torch.rand(size[shape], dtype=A.dtype))
    x0 = torch.randn(batch, n, dtype=A.dtype) if starts else None
    histories = [fu.solvers.History(), fu.solvers.History()]
    options = {"tol": tol, "iterations": iterations, "x0": x0, "callback": lambda iteration, x: None}
    with torch.no_grad():
        found = quietly(kind, A, y, lam, history=histories[0], **options)
        with fu.ops.plain():
            wanted = quietly(kind, A, y, lam, history=histories[1], **options)
    ends, others = (h.samples for h in histories)
    assert ends is not None
    assert others is not None
    same = ends.iterations == others.iterations  # a gap may round to the other side of tol
    assert same.sum() >= 0.9 * batch
    assert relative_error(found[same], wanted[same]) <= 1e-8
    assert torch.allclose(ends.gap[same], others.gap[same], rtol=1e-5, atol=1e-12)
    assert torch.equal(ends.converged, (ends.gap <= tol) & (tol > 0))


def quietly(kind: str, *arguments: Any, **options: Any) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fu.solvers.ConvergenceWarning)
        return solve(kind, *arguments, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_reaches_the_tolerance(kind: str, dtype: torch.dtype) -> None:
    A, y, lam = sparse_problem(50, 100, 200, dtype)
    tol, history = 1e-4, fu.solvers.History()
    x = solve(kind, A, y, lam, tol=tol, iterations=3000, history=history)
    assert history.samples is not None
    assert history.samples.converged.all()
    assert (history.samples.gap - gap(x, y, A, lam)).abs().max() <= (1e-6 if dtype == torch.float32 else 1e-14)
    assert gap(x, y, A, lam).max() <= tol + 1e-6
    assert (history.samples.iterations % 10 == 0).all()
    assert history.samples.iterations.unique().numel() > 2


def test_restart_takes_fewer_iterations() -> None:
    A, y, lam = sparse_problem(50, 100, 64)
    made = {}
    for kind in KINDS:
        history = fu.solvers.History()
        solve(kind, A, y, lam, tol=1e-8, iterations=20000, history=history)
        assert history.samples is not None
        made[kind] = history.samples.iterations.double().mean()
    assert made["restart"] < 0.6 * made["fista"] < made["ista"]
    assert made["both"] < 0.6 * made["monotone"]


@pytest.mark.parametrize("kind", ["monotone", "both", "fista"])
def test_monotone(kind: str) -> None:
    """The objective never rises; without the option it does."""
    A, y, lam = sparse_problem(20, 60, 40)
    for plain in (False, True):
        values: list[Tensor] = []
        for iterations in range(1, 80):
            with fu.ops.plain() if plain else torch.no_grad():
                values.append(objective(solve(kind, A, y, lam, iterations=iterations), y, A, lam))
        rises = torch.stack(values).diff(dim=0) > 1e-14 * values[0]
        assert rises.any() == (kind == "fista")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_samples_alone_to_the_last_bit(native: Any, kind: str, dtype: torch.dtype) -> None:
    """Whatever the batch, the place in it, threads, the density switch and the instruction set."""
    A, y, lam = sparse_problem(23, 70, 150, dtype)

    def ends(rows: list[int] | slice, **options: Any) -> list[Tensor]:
        history = fu.solvers.History()
        x = quietly(kind, A, y[rows], lam[rows], tol=1e-3, iterations=77, history=history, **options)
        assert history.samples is not None
        return [x, history.samples.gap, history.samples.iterations]

    def same(a: list[Tensor], b: list[Tensor]) -> bool:
        return all(torch.equal(s, t) for s, t in zip(a, b, strict=True))

    torch.set_num_threads(1)
    wanted = ends(slice(None))
    assert torch.equal(quietly(kind, A, y, lam, tol=1e-3, iterations=77), wanted[0])  # in one call, without blocks
    for rows in ([0], [149], [3, 77], list(range(149, -1, -1)), [8] * 130):
        assert same(ends(rows), [t[rows] for t in wanted])
    for threads in (2, 3, 7):
        torch.set_num_threads(threads)
        assert same(ends(slice(None)), wanted)
        assert same(ends([5, 0, 149]), [t[[5, 0, 149]] for t in wanted])
    for density in (-1.0, 1.0):
        native.set_dense_above(density)
        assert same(ends(slice(None)), wanted)
    for name in usable_sets(native):
        if name in FUSED:
            native.use_instruction_set(name)
            assert same(ends(slice(None)), wanted)


def test_one_lam_in_every_form() -> None:
    A, y, _ = sparse_problem(11, 17, 6)
    y, lam = y.reshape(2, 3, 11), 0.25
    wanted = fu.solvers.fista(A, y, lam, tol=1e-6, iterations=1000)
    forms = [torch.tensor(lam), torch.full((17,), lam), torch.full((2, 3, 1), lam), torch.full((3, 1), lam),
             torch.full((2, 3, 17), lam), torch.full((1, 1, 17), lam)]  # fmt: skip
    for form in forms:
        assert torch.equal(fu.solvers.fista(A, y, form, tol=1e-6, iterations=1000), wanted)
    each = torch.rand(2, 3, 1, dtype=torch.float64)
    found = fu.solvers.fista(A, y, each, iterations=50)
    for i in range(2):
        for j in range(3):
            one = fu.solvers.fista(A, y[i, j], float(each[i, j]), iterations=50)
            assert torch.allclose(found[i, j], one, atol=1e-10)


def test_samples_that_need_no_iteration() -> None:
    A, y, lam = sparse_problem(11, 17, 4)
    y[1] = 0
    lam[2] = 2 * (y[2] @ A).abs().max()
    for plain in (False, True):
        history = fu.solvers.History()
        with fu.ops.plain() if plain else torch.no_grad():
            x = fu.solvers.fista(A, y, lam, tol=1e-6, iterations=5000, restart=True, history=history)
        assert history.samples is not None
        assert history.samples.iterations[[1, 2]].tolist() == [0, 0]
        assert history.samples.gap[[1, 2]].tolist() == [0, 0]
        assert not x[[1, 2]].any()
        assert x[[0, 3]].any(dim=-1).all()


def test_nan_stays_in_its_sample() -> None:
    A, y, lam = sparse_problem(11, 17, 5)
    wanted = fu.solvers.fista(A, y, lam, tol=1e-6, iterations=500, restart=True, monotone=True)
    y[2, 3] = float("nan")
    with pytest.warns(fu.solvers.ConvergenceWarning, match="fista: 1 of 5 samples"):
        found = fu.solvers.fista(A, y, lam, tol=1e-6, iterations=500, restart=True, monotone=True)
    assert found[2].isnan().all()
    assert torch.equal(found[[0, 1, 3, 4]], wanted[[0, 1, 3, 4]])


@pytest.mark.parametrize("batch", [(), (0,), (2, 0), (2, 3)])
def test_shapes(batch: tuple[int, ...]) -> None:
    A, y = torch.randn(5, 9) / 5, torch.randn(*batch, 5)
    history = fu.solvers.History()
    for name in ("ista", "fista", "admm", "primal_dual"):
        x = getattr(fu.solvers, name)(A, y, 0.5, tol=1e-3, iterations=3000, history=history)
        assert x.shape == (*batch, 9)
        assert history.samples is not None
        assert history.samples.gap.shape == history.samples.iterations.shape == batch
    assert fu.solvers.amp(A, y, iterations=12, history=history).shape == (*batch, 9)
    assert fu.solvers.duality_gap(x, y, A, 0.5).shape == batch


def test_complex() -> None:
    A, y, lam = sparse_problem(12, 20, 7, torch.complex128)
    x = fu.solvers.fista(A, y, lam, tol=1e-8, iterations=5000, restart=True, monotone=True)
    assert gap(x, y, A, lam).max() <= 1e-8
    assert torch.allclose(fu.solvers.duality_gap(x, y, A, lam), gap(x, y, A, lam), atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_operators(kind: str) -> None:
    op = Blur(6, 8)
    matrix = op.matrix()
    truth = torch.randn(5, 6, 8, dtype=torch.float64) * (torch.rand(5, 6, 8) < 0.2)
    y = op(truth)
    flat, step = y.reshape(5, 48), 0.9 / float(torch.linalg.matrix_norm(matrix, 2)) ** 2
    histories = [fu.solvers.History(), fu.solvers.History()]
    options = {"tol": 1e-5, "iterations": 3000, "step": step}
    found = solve(kind, op, y, 0.01, history=histories[0], **options)
    wanted = solve(kind, matrix, flat, 0.01, history=histories[1], **options)
    ends, others = (h.samples for h in histories)
    assert ends is not None
    assert others is not None
    assert torch.equal(ends.iterations, others.iterations)
    assert ends.iterations.unique().numel() > 1
    assert relative_error(found.reshape(5, 48), wanted) <= 1e-9
    assert histories[0].gap == pytest.approx(histories[1].gap, abs=1e-12)
    alone = solve(kind, op, y[:1], 0.01, **options)
    assert relative_error(alone, found[:1]) <= 1e-9
    weights = 0.01 + 0.01 * torch.rand(5, 1, 1, dtype=torch.float64)
    assert fu.solvers.duality_gap(found, y, op, weights).shape == (5,)


class Masked:
    """Of each sample other elements: a mask (B, n)."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def __call__(self, x: Tensor) -> Tensor:
        return self.mask * x

    adjoint = __call__


def test_operator_with_something_for_each_sample() -> None:
    mask = (torch.rand(6, 9) < 0.6).double() * torch.linspace(0.2, 1.0, 6, dtype=torch.float64)[:, None]
    y = mask * torch.randn(6, 9, dtype=torch.float64)
    wanted = fu.soft_threshold(mask * y, 0.05) / torch.where(mask > 0, mask.square(), 1.0)
    history = fu.solvers.History()
    for found in (
        fu.solvers.fista(Masked(mask), y, 0.05, tol=1e-9, iterations=9000, restart=True, history=history),
        fu.solvers.admm(Masked(mask), y, 0.05, tol=1e-9, iterations=9000),
    ):
        assert (found - wanted).abs().max() <= 1e-3
    assert history.samples is not None
    assert history.samples.iterations.unique().numel() > 2


def test_dense_operator_is_its_matrix() -> None:
    A, y, lam = sparse_problem(11, 17, 5)
    op = fu.operators.Dense(A)
    assert torch.equal(fu.solvers.fista(op, y, 0.1, iterations=9), fu.solvers.fista(A, y, 0.1, iterations=9))
    assert torch.equal(
        fu.solvers.fista(op, y.reshape(1, 5, 11), lam, tol=1e-5, iterations=900)[0],
        fu.solvers.fista(A, y, lam, tol=1e-5, iterations=900),
    )


def test_step_is_certified() -> None:
    """1/step is at least ‖A‖², and little more; so too in single precision."""
    from fastunroll.solvers import lipschitz
    from fastunroll.solvers.problem import problem

    matrices = [torch.randn(30, 50), torch.randn(50, 30), torch.randn(1, 9), torch.randn(40, 40).softmax(-1),
                torch.randn(8, 9, dtype=torch.complex64), 1e-3 * torch.eye(7)]  # fmt: skip
    for A in matrices:
        for dtype in (A.dtype, A.to(torch.complex128 if A.is_complex() else torch.float64).dtype):
            B = A.to(dtype)
            y = torch.zeros(2, B.shape[0], dtype=dtype)
            exact = np.linalg.norm(B.to(torch.complex128).numpy(), 2) ** 2
            step = float(lipschitz.step_of(problem(B, y, 0.1, None), None))
            assert exact * (1 - 1e-15) <= 1 / step <= exact * (1 + 1e-6)
            estimated = float(lipschitz.step_of(problem(Opaque(B), y, 0.1, None), None))
            assert exact * (1 - 1e-5) <= 1 / estimated <= 1.5 * exact
    y = torch.zeros(3, 64, 64)
    assert 1 <= lipschitz.of_operator(problem(Blur(64, 64, torch.float32), y, 0.1, None)) <= 1.2


def test_numpy() -> None:
    A, y, lam = sparse_problem(11, 17, 5)
    seen: list[type] = []
    found = fu.solvers.fista(
        A.numpy(), y.numpy(), lam.numpy(), tol=1e-6, iterations=500, callback=lambda i, x: seen.append(type(x))
    )
    assert isinstance(found, np.ndarray)
    assert set(seen) == {np.ndarray}
    assert np.array_equal(found, fu.solvers.fista(A, y, lam, tol=1e-6, iterations=500).numpy())
    assert isinstance(fu.solvers.amp(A.numpy(), y.numpy()), np.ndarray)


@pytest.mark.parametrize("kind", KINDS)
def test_differentiable_by_unrolling(kind: str) -> None:
    """With a tolerance too: where each sample stops is taken as given."""
    A, y, lam = sparse_problem(5, 7, 3)
    leaves = [t.clone().requires_grad_() for t in (A, y, lam)]
    options: dict[str, Any] = {"iterations": 20, "tol": 0.05, "step": 0.15}
    with torch.no_grad():
        wanted = quietly(kind, *leaves, **options)
    assert torch.allclose(quietly(kind, *leaves, **options), wanted)
    assert torch.autograd.gradcheck(lambda A, y, lam: quietly(kind, A, y, lam, **options), leaves)


@pytest.mark.parametrize("name", DEVICES)
def test_devices(name: str) -> None:
    """The plain iterations, with a device's products; on a GPU if there is one."""
    A, y, lam = sparse_problem(20, 40, 30)
    wanted = [
        fu.solvers.fista(A, y, lam, tol=1e-5, iterations=900, restart=True, monotone=True),
        fu.solvers.admm(A, y, lam, tol=1e-5, iterations=900),
        fu.solvers.primal_dual(A, y, lam, tol=1e-5, iterations=900),
        fu.solvers.amp(A, y, iterations=5, damping=0.9),
        fu.solvers.fista(Opaque(A), y, lam, tol=1e-5, iterations=900),
    ]
    with on(name) as device:
        A, y, lam = (t.to(device) for t in (A, y, lam))
        history = fu.solvers.History()
        found = [
            fu.solvers.fista(A, y, lam, tol=1e-5, iterations=900, restart=True, monotone=True, history=history),
            fu.solvers.admm(A, y, lam, tol=1e-5, iterations=900, history=history),
            fu.solvers.primal_dual(A, y, lam, tol=1e-5, iterations=900, history=history),
            fu.solvers.amp(A, y, iterations=5, damping=0.9, history=history),
            fu.solvers.fista(Opaque(A), y, lam, tol=1e-5, iterations=900, history=history),
        ]
    for f, w in zip(found, wanted, strict=True):
        assert f.device == device
        assert relative_error(f.cpu(), w) <= 1e-6


@pytest.mark.parametrize("operator", [False, True])
@pytest.mark.parametrize("name", ["ista", "fista", "admm", "primal_dual", "amp"])
def test_an_empty_batch_has_a_gradient(name: str, operator: bool) -> None:
    """Of zeros, as any sum over no samples."""
    A = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    y = torch.zeros(0, 5, dtype=torch.float64, requires_grad=True)
    lam = torch.full((0, 1), 0.1, dtype=torch.float64, requires_grad=True)
    of = Opaque(A) if operator else A
    arguments, options = ([], {"damping": 0.5}) if name == "amp" else ([lam], {})
    x = getattr(fu.solvers, name)(of, y, *arguments, iterations=3, **options)
    assert x.shape == (0, 8)
    assert x.requires_grad
    for t, g in zip((y, A, *arguments), torch.autograd.grad(x.sum(), (y, A, *arguments)), strict=True):
        assert torch.equal(g, torch.zeros_like(t))
