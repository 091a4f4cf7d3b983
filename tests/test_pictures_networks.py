"""Networks over pictures: those that are one native call equal those that run layer by layer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll import ops
from forms import covering
from torch import Tensor

lin = fu.operators
SCHEMES: dict[str, fu.schemes.Scheme] = {
    "ProximalGradient": fu.schemes.ProximalGradient(),
    "FISTA": fu.schemes.FISTA(),
    "HQS": fu.schemes.HQS(),
    "ADMM": fu.schemes.ADMM(0.8),
    "PrimalDual": fu.schemes.PrimalDual(0.7, 0.9),
}
SIZE = (10, 14)  # of pictures: even, for wavelets


class OneByOne(fu.prox.Proximal):
    """The same prior as another class, which is not compiled."""

    def __init__(self, prior: fu.prox.Proximal) -> None:
        super().__init__()
        self.prior, self.has_threshold = prior, prior.has_threshold

    def at_layer(self, k: int) -> fu.prox.Proximal:
        return self.prior.at_layer(k)

    def at_iteration(self, k: int) -> fu.prox.Proximal:
        return OneByOne(self.prior.at_iteration(k))

    def initial_threshold(self, theta: float) -> float | Tensor:
        return self.prior.initial_threshold(theta)

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        return self.prior.prox(z, theta)


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def pictures(operator: str, dtype: torch.dtype, seed: int = 1) -> Tensor:
    """Three pictures for an operator, of the size in its name: with a prime factor above 31."""
    sizes = [map(int, part.split("×")) for part in operator.split(", ") if "×" in part]
    return random(3, *[*sizes, SIZE][0], dtype=dtype, seed=seed)


def mask(d: torch.dtype, *shape: int) -> Tensor:
    return (random(*shape) > 0).to(d)


# Each operator of a precision d, and whether its pictures are real, complex, or of either kind.
OPERATORS: dict[str, tuple[Callable[[torch.dtype], Any], str]] = {
    "Blur": (lambda d: lin.Blur(random(3, 4, dtype=d).abs() / 12), "either"),
    "Blur, complex kernel": (lambda d: lin.Blur(random(3, 4, dtype=d.to_complex()) / 12), "complex"),
    "Blur, a kernel for each sample": (lambda d: lin.Blur(random(3, 2, 3, dtype=d).abs() / 6), "either"),
    "Fourier": (lambda d: lin.Fourier(mask(d, *SIZE)), "complex"),
    "Fourier, not centred": (lambda d: lin.Fourier(random(*SIZE, dtype=d).abs(), centered=False), "complex"),
    "Fourier, columns": (lambda d: lin.Fourier(mask(d, SIZE[1])), "complex"),
    "Fourier, rows": (lambda d: lin.Fourier(mask(d, SIZE[0], 1)), "complex"),
    "Fourier, a mask for each sample": (lambda d: lin.Fourier(mask(d, 3, *SIZE)), "complex"),
    "Fourier, columns for each sample": (lambda d: lin.Fourier(mask(d, 3, 1, SIZE[1])), "complex"),
    "Fourier, real": (lambda d: lin.Fourier(mask(d, *SIZE), real=True), "real"),
    "Downsample": (lambda d: lin.Downsample(2, random(3, 4, dtype=d).abs() / 12), "either"),
    "Downsample, a kernel for each sample": (lambda d: lin.Downsample(2, random(3, 3, 3, dtype=d).abs() / 9), "either"),
    "Blur, valid": (lambda d: lin.Blur(random(3, 4, dtype=d).abs() / 12, "valid"), "either"),
    "Blur, reflect": (lambda d: lin.Blur(random(3, 4, dtype=d).abs() / 12, "reflect"), "either"),
    "Blur, constant": (lambda d: lin.Blur(random(4, 3, dtype=d).abs() / 12, "constant"), "real"),
    "Downsample, reflect": (lambda d: lin.Downsample(2, random(5, 3, dtype=d).abs() / 15, "reflect"), "real"),
    "Downsample, constant, a kernel for each sample": (
        lambda d: lin.Downsample(2, random(3, 2, 3, dtype=d).abs() / 6, "constant"), "complex",
    ),
    "Downsample, valid": (lambda d: lin.Downsample(2, random(5, 3, dtype=d).abs() / 15, "valid"), "either"),
    "Blur, 74×82, valid": (lambda d: lin.Blur(random(3, 4, dtype=d).abs() / 12, "valid"), "either"),
    "Blur, 74×12, kernels, valid": (lambda d: lin.Blur(random(3, 5, 2, dtype=d).abs() / 10, "valid"), "either"),
    "Downsample, 10×82, valid": (lambda d: lin.Downsample(2, random(5, 3, dtype=d).abs() / 15, "valid"), "either"),
    "Blur, 74×82, kernels": (lambda d: lin.Blur(random(3, 5, 2, dtype=d).abs() / 10), "either"),
    "Downsample, 10×82": (lambda d: lin.Downsample(2, random(3, 4, dtype=d).abs() / 12), "either"),
    "Mask": (lambda d: lin.Mask(mask(d, *SIZE)), "either"),
    "Mask, complex": (lambda d: lin.Mask(random(*SIZE, dtype=d.to_complex())), "complex"),
    "Mask, one for each sample": (lambda d: lin.Mask(random(3, 1, SIZE[1], dtype=d).abs()), "either"),
    "MultiCoilFourier": (
        lambda d: lin.MultiCoilFourier(mask(d, SIZE[1]), random(2, *SIZE, dtype=d.to_complex()) / 2), "complex",
    ),
    "MultiCoilFourier, all for each sample": (
        lambda d: lin.MultiCoilFourier(mask(d, 3, *SIZE), random(3, 2, *SIZE, dtype=d.to_complex()) / 2), "complex",
    ),
}  # fmt: skip
PRIORS: dict[str, Callable[[], fu.prox.Proximal]] = {
    "TotalVariation": lambda: fu.prox.TotalVariation(4),
    "L1": fu.prox.L1,
    "FilterBank": lambda: fu.prox.FilterBank(5, 3),
    "Identity": fu.prox.Identity,
    "NonNegativeL1": fu.prox.NonNegativeL1,
    "Box": lambda: fu.prox.Box(-0.1, 0.4),
    "WaveletL1": lambda: fu.prox.WaveletL1("db2", 1),
    # Over a mask, details of the Haar wavelet can equal the threshold, where the derivative jumps.
    "WaveletL1 of one threshold": lambda: fu.prox.WaveletL1("db3", 1, "all", seed=1),
}
CASES = [
    (operator, prior, dtype)
    for operator, (_, kind) in OPERATORS.items()
    for prior in PRIORS
    for dtype in (torch.float64, torch.float32, torch.complex128, torch.complex64)
    if kind in ("either", "complex" if dtype.is_complex else "real")
    and not (dtype.is_complex and prior in ("NonNegativeL1", "Box"))
]


# Any two of a scheme, an operator, a prior and a dtype are in a network. test_pictures.py has all together.
NETWORKS = covering(
    [
        (scheme, *case)
        for scheme in SCHEMES
        for case in CASES
        if (scheme == "FISTA" or case[2].to_real() == torch.float64)
        and not (scheme in ("HQS", "ADMM") and "×" in case[0] and not case[0].endswith("valid"))
    ],
    2,
)


def both(scheme: str, operator: str, prior: str, dtype: torch.dtype, layers: int = 3) -> tuple[Any, Any, Tensor]:
    """A network in one native call, the same layer by layer, and measurements."""
    A = OPERATORS[operator][0](A_dtype := dtype.to_real())
    nets = [
        fu.nn.Unrolled(SCHEMES[scheme], A, prox, layers, lam=0.05, step=0.4)
        for prox in (PRIORS[prior]().to(A_dtype), OneByOne(PRIORS[prior]()).to(A_dtype))
    ]
    y = A(pictures(operator, dtype)).detach()
    return nets[0], nets[1], y + random(*y.shape, dtype=y.dtype, seed=2) / 4


def counted(function: Callable[..., Any], calls: list[Any]) -> Callable[..., Any]:
    def count(*arguments: Any, **others: Any) -> Any:
        calls.append(arguments)
        return function(*arguments, **others)

    return count


@pytest.mark.parametrize(("scheme", "operator", "prior", "dtype"), NETWORKS)
def test_values_and_gradients(scheme: str, operator: str, prior: str, dtype: torch.dtype) -> None:
    net, stepwise, y = both(scheme, operator, prior, dtype)
    assert net.explain(y) == "All 3 layers run in one native call."
    assert "OneByOne is not compiled for pictures" in stepwise.explain(y)
    tolerance = 1e-9 if dtype.to_real() == torch.float64 else 5e-5
    start = net.operator.adjoint(y)
    for x0, keeps in ((None, False), (start, True)):
        given, measured = [None if x0 is None else x0.clone().requires_grad_(), y.clone().requires_grad_()], []
        for of in (net, stepwise):
            x = of(given[1], given[0], return_layers=keeps)
            with torch.no_grad():
                torch.testing.assert_close(of(y, x0, return_layers=keeps), x, rtol=tolerance, atol=tolerance)
            leaves = [t for t in [*given, *of.parameters()] if t is not None]
            measured.append(
                [x, *torch.autograd.grad(x.abs().square().sum(), leaves, allow_unused=True, materialize_grads=True)]
            )
        # The gradient of a number is a sum of terms of the size of the loss, which may cancel.
        loss = float(measured[1][0].detach().abs().square().sum())
        for a, b in zip(*measured, strict=True):
            scale = max(1.0, loss if b.dim() == 1 else float(b.detach().abs().max()))
            torch.testing.assert_close(a, b, rtol=0, atol=tolerance * scale)


@pytest.fixture
def native_iterations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of iterations of the native calls that solvers make."""
    counts: list[int] = []
    native = ops.picture_layers

    def counted(p: ops.PictureLayers, kept: int = 1) -> Tensor:
        counts.append(len(p.step))
        return native(p, kept)

    monkeypatch.setattr(ops, "picture_layers", counted)
    return counts


# Those whose AᴴA the solvers know in closed form.
SOLVED = covering(
    [
        (*case, solver)
        for case in CASES
        for solver in (fu.solvers.ista, fu.solvers.fista)
        if case[2].to_real() == torch.float64
        and not (case[0].startswith("Downsample") or case[0].endswith(("valid", "reflect", "constant")))
    ],
    2,
)


@pytest.mark.parametrize(("operator", "prior", "dtype", "solver"), SOLVED)
def test_solvers(
    operator: str, prior: str, dtype: torch.dtype, solver: Callable[..., Tensor], native_iterations: list[int]
) -> None:
    A = OPERATORS[operator][0](dtype.to_real())
    y = A(pictures(operator, dtype))
    start, step, measured = A.adjoint(y), 0.9 / A.norm() ** 2, []
    x0 = start if dtype.is_complex else start.abs()
    for prox in (PRIORS[prior]().to(dtype.to_real()), OneByOne(PRIORS[prior]()).to(dtype.to_real())):
        seen: list[Tensor] = []
        solver(A, y, 0.05, prox=prox, iterations=13, x0=x0, step=step, callback=lambda k, x, to=seen: to.append(x))
        measured.append([*seen, solver(A, y, 0.05, prox=prox, iterations=11, step=step)])
        assert native_iterations == [10, 3, 11]
    for a, b in zip(*measured, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("solver", [fu.solvers.ista, fu.solvers.fista])
def test_pictures_stop_one_by_one(solver: Callable[..., Tensor], native_iterations: list[int]) -> None:
    A = OPERATORS["Blur"][0](torch.float64)
    y = A(random(3, *SIZE)) * torch.tensor([1.0, 0.0, 1.0])[:, None, None]
    results = []
    for prior in (fu.prox.WaveletL1("haar", 1, shift=False), OneByOne(fu.prox.WaveletL1("haar", 1, shift=False))):
        history = fu.solvers.History()
        x = solver(A, y, 0.3, prox=prior, iterations=400, tol=1e-3, history=history)
        results.append((x, history.samples.iterations, history.samples.gap))  # type: ignore[union-attr]
    (x, iterations, gap), (wanted, wanted_iterations, wanted_gap) = results
    assert native_iterations
    assert torch.equal(iterations, wanted_iterations)
    assert iterations[1] < iterations[0]
    torch.testing.assert_close(x, wanted, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(gap, wanted_gap, rtol=1e-6, atol=1e-12)
    assert solver(A, y[:0], 0.3, prox=fu.prox.WaveletL1("haar", 1)).shape == (0, *SIZE)


def test_solvers_with_gradients_run_in_pytorch(native_iterations: list[int]) -> None:
    A = OPERATORS["Mask"][0](torch.float64)
    y = A(random(2, *SIZE)).requires_grad_()
    x = fu.solvers.fista(A, y, 0.1, prox=fu.prox.WaveletL1("haar", 1), iterations=4)
    assert native_iterations == []
    x.square().sum().backward()
    assert y.grad is not None


@pytest.mark.parametrize("operator", ["Fourier", "Mask", "Blur", "MultiCoilFourier"])
def test_another_operator_for_a_call(operator: str) -> None:
    """``net(y, operator=…)`` with a mask or kernel for each sample."""
    names = [name for name in OPERATORS if name.startswith(f"{operator},") and "each sample" in name]
    dtype = torch.complex128 if OPERATORS[operator][1] == "complex" else torch.float64
    net, stepwise, _ = both("FISTA", operator, "TotalVariation", dtype)
    for name in names:
        other = OPERATORS[name][0](torch.float64)
        y = other(random(3, *SIZE, dtype=dtype))
        torch.testing.assert_close(net(y, operator=other), stepwise(y, operator=other), rtol=1e-10, atol=1e-11)


def test_filters_of_each_layer() -> None:
    """Copies of a bank with filters of their own, and what such copies may not differ in."""
    A, y = lin.Blur(random(3, 3).abs() / 9), random(2, *SIZE)

    def network(*, one_by_one: bool = False, **changes: Any) -> Any:
        prior = fu.prox.PerLayer(fu.prox.FilterBank(4, 3, dtype=torch.float64), 3)
        for k, bank in enumerate(prior.copies):
            bank.filters.data = random(4, 3, 3, seed=k) / 4
        prior.copies[1].__dict__.update(changes)
        return fu.nn.Unrolled(SCHEMES["FISTA"], A, OneByOne(prior) if one_by_one else prior, 3, lam=0.1, step=0.3)

    net, stepwise = network(), network(one_by_one=True)
    assert net.explain(y) == "All 3 layers run in one native call."
    assert "differ in their filters and moves alone" in network(count=3).explain(y)
    with torch.no_grad():
        for of in (net, stepwise):
            of.log_theta[1][2] += 0.5
    x, wanted = net(y), stepwise(y)
    torch.testing.assert_close(x, wanted, rtol=1e-11, atol=1e-12)
    found = torch.autograd.grad(x.square().sum(), [*net.parameters()])
    for a, b in zip(found, torch.autograd.grad(wanted.square().sum(), [*stepwise.parameters()]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("prior", PRIORS)
def test_copies_for_each_layer(prior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``PerLayer`` of every prior is native, as ``explain`` says, and copies that are equal change nothing."""
    one_by_one: list[Any] = []
    monkeypatch.setattr("fastunroll.engine.stepwise.run", counted(fu.engine.stepwise.run, one_by_one))
    A, y, prox = lin.Blur(random(3, 3).abs() / 9), random(2, *SIZE), PRIORS[prior]().double()
    nets = [
        fu.nn.Unrolled(SCHEMES["FISTA"], A, of, 3, lam=0.01, step=0.3, dtype=torch.float64)
        for of in (prox, fu.prox.PerLayer(prox, 3))
    ]
    assert all(net.explain(y) == "All 3 layers run in one native call." for net in nets)
    assert torch.equal(nets[0](y), nets[1](y))
    assert not one_by_one


@pytest.mark.parametrize("theta", [0.1, [0.1, 0.2, 0.3], torch.tensor([0.1, 0.2, 0.3, 0.4])])
def test_thresholds_of_a_bank(theta: Any) -> None:
    """One for all filters and layers, one for each layer, or one for each filter."""
    A, y, bank = lin.Blur(random(3, 3).abs() / 9), random(2, *SIZE), fu.prox.FilterBank(4, 3, dtype=torch.float64)
    pieces: dict[str, Any] = {"linear": fu.steps.GradientStep(A, step=0.3), "theta": theta, "layers": 3}
    found = fu.unrolled(y, prox=bank, **pieces)
    torch.testing.assert_close(found, fu.unrolled(y, prox=OneByOne(bank), **pieces), rtol=1e-11, atol=1e-12)


def test_a_bank_says_what_is_wrong() -> None:
    A, y = lin.Mask(torch.ones(1, SIZE[1], dtype=torch.float64)), random(2, *SIZE)
    pieces: dict[str, Any] = {"linear": fu.steps.GradientStep(A, step=0.3), "layers": 3}
    bank = fu.prox.FilterBank(4, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="theta must be one number or 4, one for each filter, got 5"):
        fu.unrolled(y, prox=bank, theta=torch.ones(5), **pieces)
    for small in (y[:, :2], y[:0, :2]):
        with pytest.raises(ValueError, match="sides of at least 3"):
            fu.unrolled(small, prox=bank, theta=0.1, **pieces)
    with pytest.raises(TypeError, match="all tensors must have one dtype"):
        fu.unrolled(y, prox=fu.prox.FilterBank(4, 3), theta=0.1, **pieces)


def test_batches_of_any_shape() -> None:
    net, stepwise, y = both("FISTA", "Blur", "TotalVariation", torch.float64)
    for batch in (y[0], y.reshape(1, 3, *SIZE), y.reshape(3, 1, 1, *SIZE), y[:0]):
        found = net(batch)
        assert found.shape == batch.shape
        torch.testing.assert_close(found, stepwise(batch), rtol=1e-10, atol=1e-11)


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize("operator", ["Blur", "Fourier, columns", "Mask", "MultiCoilFourier"])
def test_what_torch_does_to_a_network(operator: str) -> None:
    dtype = torch.complex128 if OPERATORS[operator][1] == "complex" else torch.float64
    net, _, y = both("FISTA", operator, "TotalVariation", dtype)
    wanted = net(y)
    torch.testing.assert_close(torch.compile(net, backend="aot_eager")(y), wanted)
    assert torch.equal(copy.deepcopy(net)(y), wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(net(y), wanted)
    torch.testing.assert_close(torch.vmap(net)(y.unsqueeze(0))[0], wanted)


def test_why_layers_run_one_by_one() -> None:
    blur, y = lin.Blur(random(3, 3).abs()), random(2, *SIZE)
    fista, variation = fu.schemes.FISTA(), fu.prox.TotalVariation(2)

    def reason(A: Any = blur, prior: Any = variation, scheme: Any = fista, data: Tensor = y) -> str:
        net = fu.nn.Unrolled(scheme, A, prior, 2, step=0.1, dtype=torch.float64)
        found: str = net.explain(data)
        assert not found.startswith("All")
        net(data)
        return found

    assert "the scheme VariationalNetwork is not compiled for pictures" in reason(
        scheme=fu.schemes.VariationalNetwork(), prior=fu.prox.FilterBank(4, 3, dtype=torch.float64)
    )
    assert "the proximal operator Firm is not compiled for pictures" in reason(prior=fu.prox.Firm())
    assert "the compiled layers do not learn the Blur" in reason(lin.Blur(random(3, 3), learn=True))
    assert "the operator Wavelet is not compiled" in reason(lin.Wavelet("haar", 1), data=random(2, 8, 8))
    prime = "a side of 37 pixels has a prime factor above 31"
    assert prime in reason(lin.Fourier(mask(torch.float64, 8)), data=random(2, 37, 8).cdouble())
    assert prime in reason(scheme=fu.schemes.HQS(), data=random(2, 37, 8))  # whose solve is in closed form
    with torch.no_grad():
        net = fu.nn.Unrolled(fista, lin.Blur(random(3, 3), learn=True), variation, 2, step=0.1)
        assert net.explain(y) == "All 2 layers run in one native call."
        for boundary in ("circular", "reflect", "constant", "valid"):  # whose transforms may have larger sides
            net = fu.nn.Unrolled(fista, lin.Blur(random(3, 3), boundary), variation, 2, step=0.1, dtype=torch.float64)
            assert net.explain(random(2, 37, 38)) == "All 2 layers run in one native call."
            with pytest.raises(ValueError, match="at least one pixel"):
                net(random(2, 0, 8), operator=lin.Blur(random(1, 1), boundary))


def test_wavelets_refuse_other_sides() -> None:
    blur = lin.Blur(random(3, 3).abs())
    net = fu.nn.Unrolled(fu.schemes.FISTA(), blur, fu.prox.WaveletL1("db2", 2), 2, step=0.1, dtype=torch.float64)
    for y in (random(2, 10, 12), random(0, 10, 12)):
        with pytest.raises(ValueError, match="sides of pictures must be multiples of 4 for 2 levels, got"):
            net(y)
        with pytest.raises(ValueError, match="sides of pictures must be multiples of 4 for 2 levels, got"):
            fu.solvers.fista(blur, y, 0.1, prox=net.prox, iterations=2)


def test_real_priors_refuse_complex_pictures() -> None:
    scan = lin.Fourier(mask(torch.float64, *SIZE))
    y = scan(random(2, *SIZE).cdouble())
    for prior in (fu.prox.NonNegativeL1(), fu.prox.Box(0, 1)):
        with pytest.raises(TypeError, match="z must be real"):
            fu.nn.Unrolled(fu.schemes.FISTA(), scan, prior, 2, dtype=torch.float64)(y)


def test_a_threshold_for_each_picture_of_an_empty_batch() -> None:
    net = fu.nn.Unrolled(fu.schemes.ProximalGradient(), OPERATORS["Mask"][0](torch.float64), fu.prox.L1(), 2)
    net.double().log_theta = torch.nn.ParameterList(torch.zeros(0, 1, 1, dtype=torch.float64) for _ in range(2))
    assert net(random(0, *SIZE)).shape == (0, *SIZE)


def test_real_pictures_of_complex_measurements_are_kept_nonnegative() -> None:
    scan = lin.Fourier(mask(torch.float64, *SIZE), real=True)
    A, x = 0.5 * scan + 0.5 * scan, random(2, *SIZE).abs()
    net = fu.nn.Unrolled(fu.schemes.FISTA(), A, fu.prox.NonNegativeL1(), 3, lam=0.01, step=0.9).double()
    torch.testing.assert_close(net(A(x)), fu.nn.Unrolled(
        fu.schemes.FISTA(), scan, fu.prox.NonNegativeL1(), 3, lam=0.01, step=0.9
    ).double()(scan(x)))  # fmt: skip
