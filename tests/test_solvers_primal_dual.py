"""The primal-dual method: the formula, the layers of its scheme, other solvers, and one native call over pictures."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from fastunroll import ops
from fastunroll.solvers.history import Monitor
from fastunroll.solvers.primal_dual import DIVERGENCE, Pictures, Rule
from fastunroll.solvers.problem import problem
from forms import covering
from problems import Counted, Opaque, sparse_problem
from refusals import Refused, check_refused
from test_pictures_networks import CASES, OPERATORS, PRIORS, SIZE, OneByOne, pictures, random
from torch import Tensor

S = fu.solvers
DOUBLE = torch.float64
FORMS: dict[str, Callable[[Tensor], Any]] = {
    "matrix": lambda A: A,
    "operator": Opaque,
    "matrices": lambda A: A.expand(4, *A.shape),
}


def by_formula(
    A: Tensor, y: Tensor, lam: Any, tau: float, sigma: float, omega: float, x0: Tensor | None, count: int,
    nonnegative: bool = False,
) -> Tensor:  # fmt: skip
    """As in the paper."""
    x = y.new_zeros(*y.shape[:-1], A.shape[1]) if x0 is None else x0.clamp_min(0) if nonnegative else x0
    u = sigma / (1 + sigma) * (x @ A.mT - y)
    for _ in range(count):
        before, z = x, x - tau * u @ A.conj()
        x = torch.relu(z - lam * tau) if nonnegative else torch.sgn(z) * torch.relu(z.abs() - lam * tau)
        u = (u + sigma * ((x + omega * (x - before)) @ A.mT - y)) / (1 + sigma)
    return x


def norm(A: Tensor) -> float:
    return float(torch.linalg.matrix_norm(A, 2))


@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize("kind", [torch.float64, torch.complex128, "nonnegative"], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_iterations_of_the_paper(form: str, kind: Any, starts: bool) -> None:
    nonnegative = kind == "nonnegative"
    dtype = DOUBLE if nonnegative else kind
    A, y, lam = sparse_problem(20, 40, 4, dtype)
    x0 = torch.randn(4, 40, dtype=dtype) if starts else None
    L = norm(A)
    for numbers, one in product(((0.5 / L, 2 / L, 1.0), (1.6 / L, 0.6 / L, 0.3)), (lam, float(lam.mean()))):
        wanted = by_formula(A, y, one, *numbers, x0, 17, nonnegative)
        options = dict(zip(("tau", "sigma", "omega"), numbers, strict=True))
        for more in ({}, {"history": S.History()}):
            found = S.primal_dual(
                FORMS[form](A), y, one, **options, x0=x0, iterations=17, nonnegative=nonnegative, **more
            )
            assert relative_error(found, wanted) <= 1e-12


@pytest.mark.parametrize("is_operator", [False, True])
def test_default_numbers(is_operator: bool) -> None:
    """τ = σ = 1/L, or what makes τσL² one."""
    A, y, lam = sparse_problem(20, 40, 4)
    L, of = norm(A), fu.operators.Dense(A) if is_operator else A
    for given, (tau, sigma) in (
        ({}, (1 / L, 1 / L)),
        ({"tau": 0.3 / L}, (0.3 / L, 1 / (0.3 * L))),
        ({"sigma": torch.tensor(0.3 / L)}, (1 / (0.3 * L), 0.3 / L)),
    ):
        wanted = by_formula(A, y, lam, tau, sigma, 1.0, None, 30)
        assert relative_error(S.primal_dual(of, y, lam, **given, iterations=30), wanted) <= 1e-5


@pytest.mark.parametrize("starts", [False, True])
def test_it_is_the_layers_of_the_scheme(starts: bool) -> None:
    """Over a matrix and over pictures, where both are the same native call: to the last bit."""
    A, y, _ = sparse_problem(20, 40, 4)
    numbers: dict[str, Any] = {"tau": 0.7 / norm(A), "sigma": 1.2 / norm(A), "omega": 0.8}
    blur, prox = OPERATORS["Blur"][0](DOUBLE), fu.prox.TotalVariation(4)
    pictures = blur(random(3, *SIZE))
    for of, data, R, start in (
        (A, y, fu.prox.L1(), torch.randn(4, 40, dtype=DOUBLE)),
        (blur, pictures, prox, random(3, *SIZE, seed=4)),
    ):
        x0 = start if starts else None
        found = S.primal_dual(of, data, 0.05, prox=R, x0=x0, iterations=9, **numbers)
        tau, sigma = (torch.tensor(numbers[name], dtype=DOUBLE) for name in ("tau", "sigma"))
        scheme, linear = fu.schemes.PrimalDual(sigma, numbers["omega"]), fu.steps.GradientStep(of, step=tau)
        layers = fu.unrolled(data, linear, R, 0.05 * tau, layers=9, scheme=scheme, x0=x0)
        assert relative_error(found, layers) <= 1e-12
        if of is blur:
            assert torch.equal(found, layers)


def test_the_start_of_a_network_is_the_solver() -> None:
    A, y, _ = sparse_problem(20, 40, 4)
    net = fu.nn.Unrolled(fu.schemes.PrimalDual(), A, fu.prox.L1(), 7, lam=0.05, dtype=DOUBLE)
    assert relative_error(net(y), S.primal_dual(A, y, 0.05, iterations=7)) <= 1e-6


def test_it_converges_to_the_lasso() -> None:
    A, y, lam = sparse_problem(40, 20, 5)
    history = S.History()
    x = S.primal_dual(A, y, lam, tol=1e-10, iterations=5000, history=history)
    assert relative_error(x, S.fista(A, y, lam, tol=1e-12, iterations=5000, restart=True)) <= 1e-5
    assert history.samples is not None
    assert history.samples.converged.all()
    assert history.samples.iterations.unique().numel() > 1
    assert S.duality_gap(x, y, A, lam).max() <= 1e-10
    alone = S.primal_dual(A, y[2], lam[2], tol=1e-10, iterations=5000)
    assert relative_error(alone, x[2]) <= 1e-12  # a sample stops by itself


def test_it_converges_to_the_total_variation_of_fista() -> None:
    A = fu.operators.Blur(torch.rand(3, 3, generator=torch.Generator().manual_seed(0), dtype=DOUBLE) / 9)
    y = A(random(2, 16, 16)) + 0.1 * random(2, 16, 16, seed=1)
    options: dict[str, Any] = {"prox": fu.prox.TotalVariation(200), "iterations": 500}
    wanted = S.fista(A, y, 0.05, **options)
    for tau in (None, 2.0):  # the proximal operator is exact to about 1e-4
        assert relative_error(S.primal_dual(A, y, 0.05, tau=tau, **options), wanted) <= 2e-4


# Any two of an operator, a prior and a dtype.
SOLVED = covering([case for case in CASES if case[2].to_real() == DOUBLE], 2)


@pytest.fixture
def native_blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of iterations of the native calls that the solver makes."""
    counts: list[int] = []

    def counted(native: Callable[..., Any]) -> Callable[..., Any]:
        def call(p: ops.PictureLayers, kept: int = 1) -> Any:
            counts.append(len(p.step))
            return native(p, kept)

        return call

    for name in ("picture_layers", "picture_layers_and_state"):
        monkeypatch.setattr(ops, name, counted(getattr(ops, name)))
    return counts


@pytest.mark.parametrize(("operator", "prior", "dtype"), SOLVED)
def test_native_is_stepwise(operator: str, prior: str, dtype: torch.dtype, native_blocks: list[int]) -> None:
    """In blocks of ten iterations, which continue each other, and in one block, to the same bits."""
    A = OPERATORS[operator][0](dtype.to_real())
    y = A(pictures(operator, dtype))
    x0 = A.adjoint(y) if dtype.is_complex else A.adjoint(y).abs()
    options: dict[str, Any] = {"tau": 0.9 / A.norm(), "sigma": 1 / A.norm(), "omega": 0.9}
    measured, bits = [], []
    for prox in (PRIORS[prior]().to(dtype.to_real()), OneByOne(PRIORS[prior]()).to(dtype.to_real())):
        seen: list[Tensor] = []
        prox.requires_grad_(False)
        S.primal_dual(
            A, y, 0.05, prox=prox, iterations=23, x0=x0, callback=lambda k, x, to=seen: to.append(x), **options
        )
        bits.append(torch.equal(S.primal_dual(A, y, 0.05, prox=prox, iterations=23, x0=x0, **options), seen[-1]))
        measured.append([*seen, S.primal_dual(A, y, 0.05, prox=prox, iterations=11, **options)])
        assert native_blocks == [10, 10, 3, 23, 11]
    assert bits == [True, True]
    for a, b in zip(*measured, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("prior", PRIORS)
def test_blocks_of_any_size(prior: str) -> None:
    """Also of one iteration: the state passes on, and the grid of a wavelet moves on."""
    A, R = OPERATORS["Blur, reflect"][0](DOUBLE), PRIORS[prior]().double().requires_grad_(False)
    p = problem(A, A(random(3, *SIZE)), 0.05, None, prox=R)
    rule = Rule(torch.tensor(0.8, dtype=DOUBLE), torch.tensor(1.1, dtype=DOUBLE), 0.9)
    assert Pictures.is_supported(p, rule)
    results = []
    for blocks in ([9], [1, 2, 6], [4, 4, 1], [1] * 9):
        for last in (9, 100):  # whether the last d is left out
            monitor = Monitor("test", DIVERGENCE, last, 0.0, None, False, None)
            run = Pictures(p, rule, monitor)
            for count in blocks:
                run.moves(count)
            results.append(run.x)
    assert all(torch.equal(x, results[0]) for x in results)


LARGE: dict[str, Callable[[], Any]] = {
    "Blur": lambda: fu.operators.Blur(torch.rand(3, 4) / 12),
    "Blur, valid": lambda: fu.operators.Blur(torch.rand(3, 4) / 12, "valid"),
    "Blur, large prime": lambda: fu.operators.Blur(torch.rand(5, 4) / 20, shape=(74, 96)),
    "Blur, valid, large primes": lambda: fu.operators.Blur(torch.rand(11, 8) / 88, "valid"),  # 74×103
    "columns": lambda: fu.operators.Fourier((torch.rand(96) > 0.5).float(), real=True),
    "Mask": lambda: fu.operators.Mask((torch.rand(64, 96) > 0.5).float()),
    "coils": lambda: fu.operators.MultiCoilFourier(
        torch.rand(64, 96), torch.randn(2, 64, 96, dtype=torch.complex64) / 2
    ),
}


@pytest.mark.parametrize("operator", LARGE)
def test_batches_and_threads_change_no_bit(operator: str) -> None:
    """Of pictures so large that several threads share one, in blocks that continue each other."""
    A = LARGE[operator]()
    y = A(torch.randn(5, *(A.shape_in or (64, 96)), dtype=torch.complex64 if operator == "coils" else torch.float32))
    options: dict[str, Any] = {"prox": fu.prox.TotalVariation(4), "iterations": 12, "tau": 0.7, "sigma": 0.9}

    def run(y: Tensor) -> Tensor:
        found: Tensor = S.primal_dual(A, y, 0.05, **options, callback=lambda i, x: None)
        return found

    wanted, threads = run(y), torch.get_num_threads()
    assert torch.equal(S.primal_dual(A, y, 0.05, **options), wanted)
    assert torch.equal(run(y[3:4]), wanted[3:4])
    assert torch.equal(run(y.flip(0)), wanted.flip(0))
    try:
        for count in (1, 3, 7):
            torch.set_num_threads(count)
            assert torch.equal(run(y), wanted)
    finally:
        torch.set_num_threads(threads)


def test_pictures_stop_one_by_one(native_blocks: list[int]) -> None:
    A = OPERATORS["Blur"][0](DOUBLE)
    y = A(random(3, *SIZE)) * torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    results = []
    for prior in (fu.prox.WaveletL1("haar", 1, shift=False), OneByOne(fu.prox.WaveletL1("haar", 1, shift=False))):
        history = S.History()
        x = S.primal_dual(A, y, 0.3, prox=prior, iterations=400, tol=1e-3, history=history)
        results.append((x, history.samples.iterations, history.samples.gap))  # type: ignore[union-attr]
    (x, iterations, gap), (wanted, wanted_iterations, wanted_gap) = results
    assert native_blocks
    assert torch.equal(iterations, wanted_iterations)
    assert iterations[1] < iterations[0]
    torch.testing.assert_close(x, wanted, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(gap, wanted_gap, rtol=1e-6, atol=1e-12)
    assert S.primal_dual(A, y[:0], 0.3, prox=fu.prox.WaveletL1("haar", 1)).shape == (0, *SIZE)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["y", "x0"])
@pytest.mark.parametrize(
    "operator",
    ["Blur", "Blur, valid", "Blur, 74×82, valid", "Downsample, 10×82", "Fourier, columns", "Mask", "Downsample"],
)
@pytest.mark.filterwarnings("ignore::fastunroll.solvers.ConvergenceWarning")
def test_what_is_not_finite_stays_in_its_picture(operator: str, where: str, value: float) -> None:
    """And goes as far in it as in PyTorch."""
    dtype = torch.complex128 if OPERATORS[operator][1] == "complex" else DOUBLE
    A = OPERATORS[operator][0](DOUBLE)
    given = {"y": A(pictures(operator, dtype)), "x0": pictures(operator, dtype, 0)}
    given[where][1, 2, 3] = value
    options: dict[str, Any] = {"x0": given["x0"], "tau": 0.7, "sigma": 0.9, "prox": fu.prox.L1(), "iterations": 12}
    found = S.primal_dual(A, given["y"], 0.05, **options)
    with ops.plain():
        wanted = S.primal_dual(A, given["y"], 0.05, **options)
    assert not found[1].isfinite().all()
    assert torch.equal(found.isfinite(), wanted.isfinite())
    torch.testing.assert_close(found[::2], wanted[::2], rtol=1e-9, atol=1e-10)


def test_gradients_of_pictures_run_in_pytorch(native_blocks: list[int]) -> None:
    A, bank = OPERATORS["Mask"][0](DOUBLE), fu.prox.FilterBank(2, 3).double()
    y = A(random(2, *SIZE))
    leaf = y.clone().requires_grad_()
    options: dict[str, Any] = {"iterations": 4, "tau": 0.8, "sigma": 0.9}
    for data, prox, leaves in ((leaf, fu.prox.L1(), [leaf]), (y, bank, [*bank.parameters()])):
        x = S.primal_dual(A, data, 0.1, prox=prox, **options)
        assert native_blocks == []
        assert any(g.abs().sum() > 0 for g in torch.autograd.grad(x.square().sum(), leaves))
    with torch.no_grad():
        assert torch.allclose(S.primal_dual(A, y, 0.1, prox=bank, **options), x)
    assert native_blocks == [4]


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_the_formula(form: str) -> None:
    A, y, lam = sparse_problem(5, 7, 4)
    leaves = [*(t.clone().requires_grad_() for t in (A, y, lam, torch.randn(4, 7, dtype=DOUBLE)))]
    leaves += [torch.tensor(value, dtype=DOUBLE, requires_grad=True) for value in (0.4, 0.6)]

    def run(A: Tensor, y: Tensor, lam: Tensor, x0: Tensor, tau: Tensor, sigma: Tensor) -> Tensor:
        return S.primal_dual(FORMS[form](A), y, lam, x0=x0, tau=tau, sigma=sigma, iterations=5, omega=0.9)

    assert (run(*leaves) != 0).any()
    assert torch.autograd.gradcheck(run, leaves)


def test_gradients_of_a_collapsed_operator() -> None:
    A = fu.operators.Blur(random(3, 3).abs() / 9)
    leaves = [A(random(2, 5, 6)).requires_grad_(), torch.tensor(0.6, dtype=DOUBLE, requires_grad=True)]

    def run(y: Tensor, tau: Tensor) -> Tensor:
        return S.primal_dual(A, y, 0.05, tau=tau, iterations=5)

    assert torch.autograd.gradcheck(run, leaves)


@pytest.mark.parametrize(("starts", "forwards", "adjoints"), [(False, 9, 11), (True, 10, 11)])
def test_products(starts: bool, forwards: int, adjoints: int) -> None:
    """One each an iteration, after the last for the objective; Aᴴy, and one each that tests the adjoint."""
    A, y, _ = sparse_problem(20, 40, 3)
    op = Counted(A)
    S.primal_dual(op, y, 0.1, iterations=9, x0=torch.ones(3, 40, dtype=DOUBLE) if starts else None)
    assert (op.forwards, op.adjoints) == (forwards + 1, adjoints)


A, Y, _ = sparse_problem(6, 9, 3)
BAD: dict[str, Refused] = {
    **{
        f"{name}, {value}": (
            lambda name=name, value=value: S.primal_dual(A, Y, 0.1, **{name: value}), ValueError,
            f"{name} must be a finite number > 0, got {float(value)}",
        )
        for name in ("tau", "sigma")
        for value in (-1.0, torch.tensor(0.0), torch.tensor(float("inf")))
    },
    "several": (lambda: S.primal_dual(A, Y, 0.1, tau=torch.ones(2)), ValueError, "tau must be one number"),
    "a word": (lambda: S.primal_dual(A, Y, 0.1, sigma="1"), TypeError, "sigma must be a number"),  # type: ignore[arg-type]
    "omega": (
        lambda: S.primal_dual(A, Y, 0.1, omega=1.5), ValueError, "omega must be a number between 0 and 1, got 1.5",
    ),
    "negative omega": (
        lambda: S.primal_dual(A, Y, 0.1, omega=-0.5), ValueError, "omega must be a finite number ≥ 0, got -0.5",
    ),
    "omega in a tensor": (
        lambda: S.primal_dual(A, Y, 0.1, omega=torch.tensor(1.0)), TypeError,  # type: ignore[arg-type]
        "omega must be a number, got Tensor",
    ),
    "a zero matrix": (lambda: S.primal_dual(0 * A, Y, 0.1), ValueError, "A must not be zero"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    check_refused(BAD[name])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("factor", [4.0, 100.0])
def test_numbers_that_are_too_large_warn(form: str, factor: float) -> None:
    A, y, _ = sparse_problem(20, 40, 4)
    rule = r"^primal_dual: 4 of 4 samples diverged, .*: give tau and sigma with tau·sigma·‖A‖² ≤ 1, and check that"
    with pytest.warns(S.ConvergenceWarning, match=rule):
        S.primal_dual(FORMS[form](A), y, 0.01, tau=factor / norm(A), sigma=1 / norm(A), iterations=300)
