"""Volumes in priors, solvers, networks and losses equal plain loops over dense matrices."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll import training
from fastunroll.operators.restricted import restricted
from refusals import Refused, check_refused
from torch import Tensor, nn
from torch.autograd import gradcheck

lin, S = fu.operators, fu.solvers
DOUBLE, COMPLEX = torch.float64, torch.complex128
SIZE, BATCH, LAM, INNER = (3, 4, 5), 2, 0.05, 6


def random(*shape: int, seed: int = 1, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


OPERATORS: dict[str, Callable[..., Any]] = {
    "blur": lambda dtype=DOUBLE, size=SIZE: lin.Blur(random(2, 3, 3).abs().to(dtype) / 9, dims=3),
    "reflected blur": lambda dtype=DOUBLE, size=SIZE: lin.Blur(
        random(3, 2, 3).abs().to(dtype) / 9, "reflect", dims=3
    ),
    "valid blur of each sample": lambda dtype=DOUBLE, size=SIZE: lin.Blur(
        random(BATCH, 2, 2, 3).abs().to(dtype) / 9, "valid", dims=3
    ),
    "scan": lambda dtype=DOUBLE, size=SIZE: lin.Fourier((random(*size[1:]) > -0.5).to(dtype), dims=3),
    "coils": lambda dtype=DOUBLE, size=SIZE: lin.MultiCoilFourier(
        random(*size).abs().to(dtype), random(2, *size, dtype=COMPLEX).to(dtype.to_complex()) / 2, dims=3
    ),
    "mask": lambda dtype=DOUBLE, size=SIZE: lin.Mask(random(*size).to(dtype), dims=3),
}  # fmt: skip


def measured(name: str) -> tuple[Any, Tensor]:
    A = OPERATORS[name]()
    y = A(random(BATCH, *SIZE, seed=2, dtype=COMPLEX if name in ("scan", "coils") else DOUBLE))
    return A, y + 0.1 * random(*y.shape, seed=3, dtype=y.dtype)


class Plain:
    """A as a dense matrix for each sample, (B, m, n), with flat x and y."""

    def __init__(self, A: Any, like: Tensor) -> None:
        n = like[0].numel()
        eye = torch.eye(n, dtype=like.dtype).reshape(n, 1, *SIZE).expand(n, BATCH, *SIZE)
        self.matrix = A(eye).detach().reshape(n, BATCH, -1).permute(1, 2, 0)

    def __call__(self, x: Tensor) -> Tensor:
        return (self.matrix @ x[..., None])[..., 0]

    def adjoint(self, y: Tensor) -> Tensor:
        return (self.matrix.mH @ y[..., None])[..., 0]

    def solve(self, b: Tensor, rho: float) -> Tensor:
        eye = torch.eye(b.shape[-1], dtype=b.dtype)
        return torch.linalg.solve(self.matrix.mH @ self.matrix + rho * eye, b[..., None])[..., 0]


def differences() -> Tensor:
    """D as a dense matrix (3, n, n), by Kronecker products of the differences of one axis."""

    def of_axis(n: int) -> Tensor:
        D = torch.diag(torch.ones(n - 1, dtype=DOUBLE), 1) - torch.eye(n, dtype=DOUBLE)
        D[-1] = 0
        return D

    eyes = [torch.eye(n, dtype=DOUBLE) for n in SIZE]
    factors = [[of_axis(n) if i == axis else eyes[i] for i, n in enumerate(SIZE)] for axis in range(3)]
    return torch.stack([torch.kron(torch.kron(a, b), c) for a, b, c in factors])


def variation(z: Tensor, theta: Any, iterations: int = INNER) -> Tensor:
    """z − Dᵀp of flat volumes, with p by FISTA on min ½‖z − Dᵀp‖² over ‖p‖₂ ≤ θ at each voxel."""
    D = differences().to(z.dtype)
    p = q = torch.zeros(3, *z.shape, dtype=z.dtype)
    t = 1.0
    for _ in range(iterations):
        rest = z - torch.einsum("aij,abi->bj", D, q)
        found = q + torch.einsum("aij,bj->abi", D, rest) / 12
        found = found * (theta / torch.linalg.vector_norm(found, dim=0).clamp(min=1e-300)).clamp(max=1)
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        p, q, t = found, found + (t - 1) / following * (found - p), following
    return z - torch.einsum("aij,abi->bj", D, p)


def assert_near(found: Tensor, flat: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found.detach(), flat.reshape(found.shape), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [DOUBLE, COMPLEX], ids=str)
@pytest.mark.parametrize("iterations", [1, 2, 30])
def test_total_variation_is_a_plain_loop(dtype: torch.dtype, iterations: int) -> None:
    z, prior = random(BATCH, *SIZE, dtype=dtype), fu.prox.TotalVariation(iterations, dims=3)
    for theta in (0.0, 0.3, 2.0):
        assert_near(prior(z, theta), variation(z.flatten(1), theta, iterations), 1e-12)
    each = torch.tensor([0.2, 0.7], dtype=DOUBLE)
    assert_near(prior(z, each[:, None, None, None]), variation(z.flatten(1), each[:, None], iterations), 1e-12)
    lengths = torch.linalg.vector_norm(torch.einsum("aij,bj->abi", differences().to(dtype), z.flatten(1)), dim=0)
    torch.testing.assert_close(prior.value(z), lengths.sum(1), rtol=1e-12, atol=0)


def test_total_variation_lets_the_dual_variable_converge() -> None:
    """‖D‖² < 12, so that steps of 1/12 converge; ‖D‖² > 8, so that those of pictures are not sure to."""
    size = (10, 10, 10)
    assert 8 < lin.Gradient(3, shape=size).norm() ** 2 < 12
    z = random(1, *size)
    few, many = (fu.prox.TotalVariation(n, dims=3)(z, 0.5) for n in (300, 3000))
    torch.testing.assert_close(few, many, rtol=0, atol=2e-3)


def by_formula(solver: str, A: Plain, y: Tensor, iterations: int, t: float, rho: float) -> Tensor:
    y = y.flatten(1)
    x = before = z = torch.zeros_like(A.adjoint(y))
    w, u, momentum = torch.zeros_like(z), torch.zeros_like(y), 1.0
    if solver == "primal_dual":
        u = -rho / (1 + rho) * y
    for _ in range(iterations):
        if solver == "ista":
            x = variation(x - t * A.adjoint(A(x) - y), LAM * t)
        elif solver == "fista":
            x = variation(z - t * A.adjoint(A(z) - y), LAM * t)
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            z = x + (momentum - 1) / following * (x - before)
            before, momentum = x, following
        elif solver == "admm":
            solved = A.solve(A.adjoint(y) + rho * (x - w), rho)
            x = variation(solved + w, LAM / rho)
            w = w + solved - x
        else:
            before, x = x, variation(x - t * A.adjoint(u), LAM * t)
            u = (u + rho * (A(2 * x - before) - y)) / (1 + rho)
    return x


@pytest.mark.parametrize("solver", ["ista", "fista", "admm", "primal_dual"])
@pytest.mark.parametrize("name", OPERATORS)
def test_solvers_are_plain_loops(name: str, solver: str) -> None:
    A, y = measured(name)
    step, rho = 0.8 / A.norm() ** 2, 1 if solver == "primal_dual" else 0.4
    numbers: dict[str, Any] = {
        "admm": {"rho": rho, "adaptive": False, "relaxation": 1.0, "inner_iterations": 60},
        "primal_dual": {"tau": step, "sigma": rho},
    }.get(solver, {"step": step})  # fmt: skip
    prior = fu.prox.TotalVariation(INNER, dims=3)
    found = getattr(S, solver)(A, y, LAM, prox=prior, iterations=7, **numbers)
    assert found.shape == (BATCH, *SIZE)
    assert_near(found, by_formula(solver, Plain(A, found), y, 7, step, rho), 1e-8)
    if "each sample" not in name:
        assert_near(getattr(S, solver)(A, y[:1], LAM, prox=prior, iterations=7, **numbers), found[0], 1e-9)


@pytest.mark.parametrize("scheme", [fu.schemes.ProximalGradient(), fu.schemes.HQS()], ids=["gradient", "data"])
@pytest.mark.parametrize("name", OPERATORS)
def test_networks_are_plain_loops(name: str, scheme: fu.schemes.Scheme) -> None:
    """Layer by layer, which they say, with gradients."""
    A, y = measured(name)
    prior = fu.prox.TotalVariation(INNER, dims=3)
    net = fu.nn.Unrolled(scheme, A, prior, layers=3, lam=LAM, step=0.8 / A.norm() ** 2, dtype=DOUBLE)
    assert net.explain(y) == "The 3 layers run one by one in PyTorch, because layers over volumes are not compiled."
    found, values = net(y), {name: [float(t.detach()) for t in of] for name, of in net.values().items()}
    plain, flat, x = Plain(A, found), y.flatten(1), torch.zeros_like(found).flatten(1)
    for k in range(3):
        if "step" in values:
            z = x - values["step"][k] * plain.adjoint(plain(x) - flat)
        else:
            z = plain.solve(plain.adjoint(flat) + values["rho"][k] * x, values["rho"][k])
        x = variation(z, values["theta"][k])
    assert_near(found, x, 1e-8)
    with torch.no_grad():
        assert_near(net(y), found.flatten(1), 1e-12)
    gradients = torch.autograd.grad(found.abs().square().sum(), [*net.parameters()])
    assert all(bool(g.abs().max() > 0) for g in gradients)


LEARNED: dict[str, tuple[Callable[[Tensor], Any], Tensor, torch.dtype]] = {
    "kernel": (lambda t: lin.Blur(t, "reflect", dims=3), random(2, 2, 1) / 3, DOUBLE),
    "mask": (lambda t: lin.Fourier(t, dims=3), random(3, 3), COMPLEX),
    "maps": (
        lambda t: lin.MultiCoilFourier(torch.ones(3, dtype=DOUBLE), t, dims=3), random(2, 2, 3, 3, dtype=COMPLEX) / 4,
        COMPLEX,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEARNED)
def test_gradients_of_networks(name: str) -> None:
    """In y, in what the operator is made of, and in all numbers."""
    make, t, dtype = LEARNED[name]
    y = make(t)(random(BATCH, 2, 3, 3, dtype=dtype)).detach().requires_grad_()
    prior = fu.prox.TotalVariation(3, dims=3)

    def run(t: Tensor, y: Tensor, step: Tensor, theta: Tensor) -> Tensor:
        return fu.unrolled(
            y,
            fu.steps.GradientStep(make(t), step=[*step]),
            prior,
            [*theta],
            layers=2,
            scheme=fu.schemes.FISTA([0.0, 0.5]),
        )

    numbers = (torch.tensor([0.3, 0.4], dtype=DOUBLE), torch.tensor([0.05, 0.1], dtype=DOUBLE))
    assert gradcheck(run, (t.clone().requires_grad_(), y, *(n.requires_grad_() for n in numbers)), fast_mode=True)


def test_pictures_of_a_stack_share_a_prior_of_volumes() -> None:
    """A blur of each picture of a stack, whose sample is the stack: not by the kernels of pictures."""
    kernel, y = random(3, 3).abs() / 9, random(BATCH, *SIZE)
    of_pictures, of_volumes = lin.Blur(kernel, shape=SIZE), lin.Blur(kernel[None], dims=3)
    prior = fu.prox.TotalVariation(INNER, dims=3)
    for solver in (S.fista, S.admm, S.primal_dual):
        found, wanted = (solver(A, y, LAM, prox=prior, iterations=5) for A in (of_pictures, of_volumes))
        assert_near(found, wanted, 1e-6)
    nets = [
        fu.nn.Unrolled(fu.schemes.FISTA(), A, prior, layers=2, lam=LAM, dtype=DOUBLE)
        for A in (of_pictures, lin.Blur(kernel[None], dims=3, shape=SIZE))
    ]
    assert "layers over volumes are not compiled" in nets[0].explain(y)
    assert_near(nets[0](y), nets[1](y), 1e-8)


def test_wavelet_coefficients_of_volumes() -> None:
    """Sparse coefficients of a blurred stack, as fista with the dense matrix finds them."""
    blur, W = lin.Blur(random(2, 3, 3).abs() / 9, dims=3), lin.Wavelet("haar", 1, dims=3)
    A, y = blur @ W.H, random(BATCH, 4, 4, 6)
    eye = torch.eye(96, dtype=DOUBLE).reshape(96, 4, 4, 6)
    step = 0.9 / blur.norm() ** 2
    found = S.fista(A, y, LAM, iterations=20, step=step)
    assert_near(found, S.fista(A(eye).flatten(1).mT, y.flatten(1), LAM, iterations=20, step=step), 1e-9)


@pytest.mark.parametrize("name", ["blur", "scan", "mask"])
def test_losses(name: str) -> None:
    A, y = measured(name)
    x = random(BATCH, *SIZE, seed=5, dtype=A.adjoint(y).dtype)
    plain = Plain(A, x)
    slope = plain.adjoint(plain(x.flatten(1)) - y.flatten(1))
    shrunk = x.flatten(1) - slope
    shrunk = torch.sgn(shrunk) * torch.relu(shrunk.abs() - LAM)
    wanted = torch.linalg.vector_norm(x.flatten(1) - shrunk, dim=1)
    wanted = wanted / torch.linalg.vector_norm(plain.adjoint(y.flatten(1)), dim=1)
    torch.testing.assert_close(fu.losses.kkt_residual(x, y, A, LAM), wanted, rtol=1e-9, atol=1e-9)
    error = training.measurement_error(A)
    assert error(x, y, None) == pytest.approx(float((A(x) - y).abs().square().mean()))


@pytest.mark.parametrize("name", ["scan", "coils", "mask"])
def test_measurements_are_left_out(name: str) -> None:
    """By an operator of the same kind, as a part of its mask."""
    A, y = measured(name)
    keep = (random(*[1 if d == y.dim() - 4 else n for d, n in enumerate(y.shape)], seed=7) > 0).double()
    less = restricted(A, keep)
    assert type(less) is type(A)
    x = random(BATCH, *SIZE, seed=6, dtype=A.adjoint(y).dtype)
    assert_near(less(x), keep * A(x), 1e-12)
    assert_near(less.adjoint(y), A.adjoint(keep * y), 1e-12)
    net = fu.nn.Unrolled(fu.schemes.FISTA(), A, fu.prox.L1(), layers=2, lam=LAM, dtype=DOUBLE)
    training.splitting(net, A)(None, y, None).backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("name", [name for name in OPERATORS if "each" not in name])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [SIZE, (8, 12, 10)])
def test_a_volume_has_the_same_bits_in_every_batch(name: str, dtype: torch.dtype, size: tuple[int, ...]) -> None:
    """torch.fft by itself rounds a real volume by the batch that it is in."""
    A = OPERATORS[name](dtype, size)
    x = random(5, *size, dtype=DOUBLE).to(dtype.to_complex() if name in ("scan", "coils") else dtype)
    y = A(x)
    for call, given in ((A, x), (A.adjoint, y), (A.normal, x), (lambda v: A.gradient(v, A(v)), x)):
        whole = call(given)
        for i in (0, 2, 4):
            assert torch.equal(call(given[i]), whole[i])
            assert torch.equal(call(given[i : i + 1].clone())[0], whole[i])


@pytest.mark.filterwarnings("ignore:load_state_dict replaces")
@pytest.mark.parametrize("name", OPERATORS)
def test_copies_and_state_dicts(name: str) -> None:
    A, y = measured(name)
    fields = {f: nn.Parameter(t * 2) for f, t in A.named_buffers()}
    for same in (copy.deepcopy(A), pickle.loads(pickle.dumps(A))):
        assert repr(same) == repr(A)
        assert "dims=3" in repr(A)
        assert torch.equal(same.adjoint(y), A.adjoint(y))
    doubled = OPERATORS[name]()
    doubled.load_state_dict(fields)
    for field, t in fields.items():
        assert torch.equal(getattr(doubled, field), t.detach())
    assert lin.as_operator(A) is A


REFUSED: dict[str, Refused] = {
    "four axes": (lambda: fu.prox.TotalVariation(dims=4), ValueError, "dims must be 2 for pictures or 3 for volumes"),
    "a picture": (
        lambda: fu.prox.TotalVariation(dims=3)(torch.ones(4, 4), 0.1), ValueError,
        r"total variation is of volumes (..., D, H, W), got shape (4, 4)",
    ),
    "pictures in a solver": (
        lambda: S.fista(lin.Blur(torch.ones(3, 3)), torch.ones(4, 8, 8), 0.1, prox=fu.prox.TotalVariation(dims=3)),
        ValueError,
        "this TotalVariation is of volumes (D, H, W), but a sample of x has the shape (8, 8): give an operator with "
        "dims=3",
    ),
    "a picture for a blur of volumes": (
        lambda: S.fista(lin.Blur(torch.ones(1, 3, 3), dims=3), torch.ones(8, 8), 0.1), ValueError,
        "y must have 3 dimensions for a sample of Blur",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    check_refused(REFUSED[name])
