"""Every proximal operator, from one table: its definition, its gradients, its place in a network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from fastunroll import prox
from fastunroll.prox import Proximal
from refusals import Refused, check_refused
from torch import Tensor, nn


class OwnL1(Proximal):
    """A user's operator, of which only the formula is known."""

    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        return torch.sgn(z) * torch.relu(z.abs() - theta)

    def value(self, x: Tensor) -> Tensor:
        return x.abs().flatten(1).sum(1)


@dataclass(frozen=True)
class Case:
    """An operator, the shape of one sample, its formula in plain PyTorch, and what is known of it."""

    make: Callable[[], Proximal]
    formula: Callable[[Tensor, Tensor], Tensor] | None = None
    shape: tuple[int, ...] = (12,)
    is_complex: bool = True  # whether it is defined for complex numbers
    is_prox: bool = True  # whether it minimises ½‖x − z‖² + θ·R(x)
    is_smooth: bool = True  # whether it is differentiable at almost every z and θ, and in θ too
    tolerance: float = 1e-12


def soft(z: Tensor, theta: Tensor) -> Tensor:
    return torch.sgn(z) * torch.relu(z.abs() - theta)


def largest(z: Tensor, k: int) -> Tensor:
    index = z.abs().topk(k, dim=-1).indices
    return torch.zeros_like(z).scatter(-1, index, z.gather(-1, index))


def grouped(z: Tensor, theta: Tensor) -> Tensor:
    g = z.unflatten(-1, (-1, 3))
    return (g * torch.relu(1 - theta / g.norm(dim=-1, keepdim=True))).flatten(-2)


def selected(z: Tensor, theta: Tensor) -> Tensor:
    is_largest = z.abs() >= z.abs().topk(3, dim=-1).values[..., -1:]
    return torch.where(is_largest & (z.abs() > theta), z, soft(z, theta))


def details_shrunk(z: Tensor, theta: Tensor) -> Tensor:
    W = fu.operators.Wavelet("db2", 2)
    c = W(z)
    rows, columns = z.shape[-2] // 4, z.shape[-1] // 4
    is_detail = torch.ones(z.shape[-2:], dtype=torch.bool)
    is_detail[:rows, :columns] = False
    return W.adjoint(torch.where(is_detail, soft(c, theta), c))


def learned(operator: Proximal) -> Proximal:
    """The operator with parameters that are random numbers, as after training."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in operator.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5)
    return operator


class Halved(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z / 2


CASES = {
    "identity": Case(prox.Identity, lambda z, t: z),
    "L1": Case(prox.L1, soft),
    "own L1": Case(OwnL1, soft),
    "nonnegative": Case(prox.NonNegativeL1, lambda z, t: torch.relu(z - t), is_complex=False),
    "elastic net": Case(lambda: prox.ElasticNet(0.7), lambda z, t: soft(z, t) / (1 + 0.7 * t)),
    "group": Case(lambda: prox.GroupL1(3), grouped),
    "selection": Case(lambda: prox.SupportSelection(3), selected, is_prox=False),
    "top k": Case(lambda: prox.TopK(4), lambda z, t: largest(z, 4)),
    "hard": Case(prox.HardThreshold, lambda z, t: z * (z.abs() > (2 * t).sqrt())),
    "firm": Case(
        lambda: prox.Firm(2.5),
        lambda z, t: torch.where(z.abs() > 2.5 * t, z, 2.5 / 1.5 * soft(z, t)),
        is_prox=False,  # its penalty depends on θ
    ),
    "box": Case(lambda: prox.Box(-0.4, 0.9), lambda z, t: z.clamp(-0.4, 0.9), is_complex=False),
    "Bernoulli-Gaussian": Case(lambda: prox.BernoulliGaussian(0.2, 2.0), is_complex=False, is_prox=False),
    "total variation": Case(lambda: prox.TotalVariation(400), shape=(4, 5), tolerance=1e-4),
    "total variation of volumes": Case(lambda: prox.TotalVariation(500, dims=3), shape=(2, 3, 2), tolerance=1e-4),
    "denoiser": Case(lambda: prox.Denoiser(Halved()), lambda z, t: z / 2, is_prox=False),
    "wavelet": Case(lambda: prox.WaveletL1("db2", 2), details_shrunk, shape=(4, 8)),
    "filter bank": Case(lambda: learned(prox.FilterBank(4, 3)), shape=(5, 6), is_prox=False),
    "learned transform": Case(
        lambda: learned(prox.LearnedTransform(1, 3)), shape=(5, 3), is_complex=False, is_prox=False
    ),
    "DnCNN": Case(lambda: learned(prox.Denoiser(fu.nn.DnCNN(1, 3, 3))), shape=(5, 3), is_complex=False, is_prox=False),
    "DnCNN with a level": Case(
        lambda: learned(prox.Denoiser(fu.nn.DnCNN(1, 3, 3, noise_level=True), True)),
        shape=(3, 4),
        is_complex=False,
        is_prox=False,
    ),
}


def samples(case: Case, dtype: torch.dtype = torch.float64, scale: float = 1.5) -> Tensor:
    return scale * torch.randn(5, *case.shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


THETA = torch.tensor(0.6, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=["real", "complex"])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.formula is not None])
def test_it_is_its_formula(name: str, dtype: torch.dtype) -> None:
    case = CASES[name]
    z = samples(case, dtype)
    if dtype.is_complex and not case.is_complex:
        with pytest.raises(TypeError, match="z must be real"):
            case.make().prox(z, THETA)
        return
    assert case.formula is not None
    found = case.make()(z, THETA)
    assert found.dtype == z.dtype
    torch.testing.assert_close(found, case.formula(z, THETA), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=["real", "complex"])
@pytest.mark.parametrize("name", CASES)
def test_a_threshold_that_is_not_a_number_shows(name: str, dtype: torch.dtype) -> None:
    """Wherever the result depends on θ."""
    case = CASES[name]
    if dtype.is_complex and not case.is_complex:
        return
    operator, z = case.make().double(), samples(case, dtype)
    moved = operator(z, THETA) != operator(z, THETA / 2)
    found = operator(z, torch.full_like(THETA, math.nan))
    assert found[moved].isnan().all()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.is_prox])
def test_it_minimises_what_it_says(name: str) -> None:
    """No other point near by or far away has a smaller ½‖x − z‖² + θ·R(x)."""
    case, g = CASES[name], torch.Generator().manual_seed(1)
    operator, z = case.make(), samples(case)

    def objective(x: Tensor) -> Tensor:
        return (x - z).abs().square().flatten(1).sum(1) / 2 + THETA * operator.value(x)

    x = operator.prox(z, THETA)
    least = objective(x)
    assert least.isfinite().all()
    for scale in (1e-3, 1e-2, 0.1, 1.0):
        for _ in range(50):
            other = x + scale * torch.randn(x.shape, generator=g, dtype=x.dtype)
            others = [other, torch.where(x == 0, x, other), torch.relu(other), z, torch.zeros_like(z), x.roll(1, 0)]
            for point in others:
                assert (objective(point) >= least - case.tolerance * (1 + least)).all()


@pytest.mark.parametrize("name", CASES)
def test_gradients(name: str) -> None:
    case = CASES[name]
    operator = case.make().double()
    if isinstance(operator, prox.TotalVariation):
        operator.inner_iterations = 6
    z, theta = samples(case).requires_grad_(), THETA.clone().requires_grad_()
    leaves = [z, theta, *operator.parameters()]

    def run(*_: Tensor) -> Tensor:
        return operator.prox(z, theta)

    assert torch.autograd.gradcheck(run, leaves, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_any_batch_and_type(name: str) -> None:
    """A sample is the same in every batch; single precision stays single."""
    case = CASES[name]
    operator, z = case.make().double(), samples(case)
    whole = operator.prox(z, THETA)
    for i in range(len(z)):
        torch.testing.assert_close(operator.prox(z[i : i + 1], THETA)[0], whole[i], rtol=1e-12, atol=1e-12)
    stacked = operator.prox(torch.stack([z, z]), THETA)
    torch.testing.assert_close(stacked, torch.stack([whole, whole]), rtol=1e-12, atol=1e-12)
    assert operator.prox(z[:0], THETA).shape == z[:0].shape
    assert operator.float().prox(z.float(), THETA.float()).dtype == torch.float32


@pytest.mark.parametrize("name", CASES)
def test_nan_shows_in_its_sample_alone(name: str) -> None:
    case = CASES[name]
    operator, z = case.make().double(), samples(case)
    whole = operator.prox(z, THETA)
    z.view(5, -1)[2, 1] = math.nan
    found = operator.prox(z, THETA)
    assert found[2].isnan().any()
    torch.testing.assert_close(found[[0, 1, 3, 4]], whole[[0, 1, 3, 4]], rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if len(case.shape) == 1])
@pytest.mark.parametrize("scheme", [fu.schemes.ProximalGradient(), fu.schemes.FISTA(), fu.schemes.ADMM(0.9)])
def test_in_a_network(name: str, scheme: fu.schemes.Scheme) -> None:
    """Layers of the operator, compiled or not, are the scheme written out."""
    case, operator = CASES[name], CASES[name].make().double()
    A = torch.randn(7, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64) / 4
    y = samples(case)[:, :7]
    theta = THETA / 5 if operator.has_threshold else None
    linear = fu.GradientStep(A, step=0.3)
    x = fu.unrolled(y, linear, operator, theta, layers=4, scheme=scheme)
    now = before = dual = torch.zeros(5, 12, dtype=torch.float64)
    for beta in fu.schemes.beck_teboulle(4):
        is_fista, is_admm = isinstance(scheme, fu.schemes.FISTA), isinstance(scheme, fu.schemes.ADMM)
        v = now + beta * (now - before) if is_fista else now - dual
        z = v + 0.3 * (y - v @ A.mT) @ A
        before, now = now, operator.prox(z + dual, THETA / 5)
        dual = dual + 0.9 * (z - now) if is_admm else dual
    assert isinstance(x, Tensor)
    assert relative_error(x, now) < 1e-12


def test_elastic_net_is_compiled_with_a_number_for_each_layer() -> None:
    y, A = torch.randn(3, 7, dtype=torch.float64), torch.randn(7, 12, dtype=torch.float64) / 4
    theta = [torch.tensor(0.1 * (k + 1), dtype=torch.float64) for k in range(3)]
    found = fu.unrolled(y, fu.GradientStep(A, step=0.3), prox.ElasticNet(0.5), theta, layers=3, gain=0.9)
    x = torch.zeros(3, 12, dtype=torch.float64)
    for t in theta:
        x = 0.9 * soft(x + 0.3 * (y - x @ A.mT) @ A, t) / (1 + 0.5 * t)
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found, x)


def test_total_variation_of_a_step() -> None:
    """Two flat halves come nearer to each other by 2θ over the width, and stay flat."""
    z = torch.cat([torch.zeros(1, 6, 4), torch.ones(1, 6, 4)], dim=2).double()
    found = prox.TotalVariation(2000).prox(z, torch.tensor(0.3, dtype=torch.float64))
    wanted = torch.cat([torch.full((1, 6, 4), 0.3 / 4), torch.full((1, 6, 4), 1 - 0.3 / 4)], dim=2).double()
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert torch.equal(prox.TotalVariation().prox(z, torch.zeros(())), z)


def test_a_denoiser_gets_the_level_of_the_noise() -> None:
    seen = []

    def denoise(z: Tensor, sigma: Tensor) -> Tensor:
        seen.append(float(sigma))
        return z

    operator, z = prox.Denoiser(denoise, noise_level=True), torch.randn(2, 3)
    assert torch.equal(operator.prox(z, torch.tensor(0.25)), z)
    assert seen == [0.5]


A, Y = torch.randn(4, 6), torch.randn(2, 4)
BAD: dict[str, Refused] = {
    "no prox": (lambda: Proximal().prox(THETA, THETA), NotImplementedError, "Proximal must define prox(z, theta)"),
    "no value": (lambda: prox.SupportSelection(2).value(THETA), NotImplementedError, "must define value"),
    "gamma": (lambda: prox.Firm(1.0), ValueError, "gamma must be a finite number > 1, got 1.0"),
    "ridge": (lambda: prox.ElasticNet(-1), ValueError, "gamma must be a finite number ≥ 0, got -1"),
    "bounds": (lambda: prox.Box(1, 0), ValueError, "Box needs low ≤ high, got low = 1 and high = 0"),
    "NaN bound": (lambda: prox.Box(math.nan), ValueError, "Box needs low ≤ high"),
    "group": (
        lambda: prox.GroupL1(3).prox(torch.zeros(2, 4), THETA), ValueError,
        "the group size must divide the last dimension of x, but x is (2, 4) and groups have 3",
    ),
    "selection of a box": (lambda: prox.SupportSelection(2, prox.Box()), TypeError, "prox must be L1"),
    "sizes without a layer": (
        lambda: prox.SupportSelection((1, 2)).prox(torch.zeros(2, 4), THETA), ValueError,
        "support_sizes must be one number outside of a network, got (1, 2): use prox.at_layer",
    ),
    "pixels": (lambda: prox.TotalVariation().prox(torch.zeros(4), THETA), ValueError, "of pictures"),
    "no denoise": (lambda: prox.Denoiser(3), TypeError, "a denoiser must be a module or a function"),  # type: ignore[arg-type]
    "another shape": (
        lambda: prox.Denoiser(lambda z: z[:1])(torch.zeros(2, 4), THETA), ValueError,
        "Denoiser.prox must return the shape of z, (2, 4), got (1, 4)",
    ),
    "a tuple": (
        lambda: prox.Denoiser(lambda z: (z, z))(torch.zeros(2, 4), THETA), TypeError,  # type: ignore[arg-type,return-value]
        "Denoiser.prox must return a tensor, got tuple",
    ),
    "another dtype": (
        lambda: prox.Denoiser(lambda z: z.double())(torch.zeros(2, 4), THETA), TypeError,
        "Denoiser.prox must return the dtype of z, torch.float32, got torch.float64",
    ),
    "another shape in a network": (
        lambda: fu.nn.Unrolled(fu.schemes.FISTA(), A, prox.Denoiser(lambda z: z[..., :2]), 3)(Y), ValueError,
        "Denoiser.prox must return the shape of z, (2, 6), got (2, 2)",
    ),
    "a list in a solve": (
        lambda: fu.solvers.fista(A, Y, 0.1, prox=prox.Denoiser(lambda z: [z])), TypeError,  # type: ignore[arg-type,return-value]
        "Denoiser.prox must return a tensor, got list",
    ),
    "density": (lambda: prox.BernoulliGaussian(1.5), ValueError, "density must be in (0, 1)"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    check_refused(BAD[name])
