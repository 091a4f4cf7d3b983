"""Priors of pictures in unrolled networks and solvers, from one table, against the same in plain PyTorch."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from fastunroll import prox, schemes
from torch import Tensor
from torch.nn.functional import conv2d, mse_loss

DOUBLE, LAYERS, SIZE = torch.float64, 3, (12, 20)  # sides that are multiples of 4, for wavelets of two levels
Formula = Callable[[Any, int, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Prior:
    """A prior, the same in plain PyTorch as a function of the prior, the layer, z and θ, and what is known of it.

    takes: the pictures that it takes. thresholds: how many a layer has. is_identity: whether it starts as prox(z) = z.
    """

    make: Callable[[], prox.Proximal]
    formula: Formula
    takes: str = "either"
    thresholds: int = 1
    is_identity: bool = False


def soft(z: Tensor, theta: Tensor) -> Tensor:
    return torch.sgn(z) * torch.relu(z.abs() - theta)


def wavelet(prior: Any, k: int, z: Tensor, theta: Tensor, name: str = "db2", levels: int = 2) -> Tensor:
    """Wᵀ S_θ(W z) with a threshold for each coefficient, on the grid of layer k."""
    W, (rows, columns) = fu.operators.Wavelet(name, levels), z.shape[-2:]
    moves = torch.randint(2**levels, (1024, 2), generator=torch.Generator().manual_seed(prior.seed))
    down, right = moves[k].tolist() if prior.shift else (0, 0)
    every = theta.reshape(levels if len(theta) > 1 else 1, -1).expand(levels, 3)
    thresholds = torch.zeros(rows, columns, dtype=theta.dtype)
    for level in range(levels):
        h, w = rows >> level + 1, columns >> level + 1
        thresholds[h : 2 * h, :w] = every[level, 0]
        thresholds[:h, w : 2 * w] = every[level, 1]
        thresholds[h : 2 * h, w : 2 * w] = every[level, 2]
    c = W(z.roll((down, right), (-2, -1)))
    return W.adjoint(torch.where(thresholds > 0, soft(c, thresholds), c)).roll((-down, -right), (-2, -1))


def filter_bank(prior: Any, k: int, z: Tensor, theta: Tensor) -> Tensor:
    """Filters and their adjoints, patch by patch."""
    f = (prior.copies[k] if isinstance(prior, prox.PerLayer) else prior).filters
    h = f.shape[-1]
    patches = z.unfold(-2, h, 1).unfold(-2, h, 1)
    c = torch.einsum("...ijab,nab->...nij", patches, f.to(z.dtype))
    clipped = c - soft(c, theta[:, None, None])
    x = z.clone()
    rows, columns = c.shape[-2:]
    for a in range(h):
        for b in range(h):
            x[..., a : a + rows, b : b + columns] -= torch.einsum("...nij,n->...ij", clipped, f[:, a, b].to(z.dtype))
    return x


def channels(z: Tensor) -> Tensor:
    return torch.stack([z.real, z.imag], -3).flatten(0, -4) if z.is_complex() else z.reshape(-1, 1, *z.shape[-2:])


def pictures(x: Tensor, z: Tensor) -> Tensor:
    return (torch.complex(x[:, 0], x[:, 1]) if z.is_complex() else x).reshape(z.shape)


def padded(x: Tensor, convolution: Any) -> Tensor:
    return conv2d(x, convolution.weight, padding=1)


def dncnn(prior: Any, k: int, z: Tensor, theta: Tensor) -> Tensor:
    first, second, last = prior.module.convolutions
    x = channels(z)
    if prior.noise_level:
        x = torch.cat([x, theta.sqrt().reshape(1, 1, 1, 1).expand(len(x), 1, *x.shape[-2:])], 1)
    return z - pictures(padded(padded(padded(x, first).relu(), second).relu(), last), z)


def learned_transform(prior: Any, k: int, z: Tensor, theta: Tensor) -> Tensor:
    F, F_inverse = prior.transform, prior.inverse
    u = channels(z)
    u = padded(u, prior.extract) if prior.residual else u
    c = soft(padded(padded(u, F[0]).relu(), F[2]), theta)
    u = padded(padded(c, F_inverse[0]).relu(), F_inverse[2])
    return z + pictures(padded(u, prior.restore), z) if prior.residual else pictures(u, z)


def tanh(prior: Any, k: int, z: Tensor, theta: Tensor) -> Tensor:
    return torch.tanh(z)


class Shrinking(torch.nn.Module):
    """A denoiser with the arguments of those of DeepInverse: pictures (N, C, H, W) and σ, () or (N,)."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        assert x.dim() == 4
        assert sigma.shape in ((), (len(x),))
        return x / (1 + sigma.reshape(-1, 1, 1, 1))


PRIORS: dict[str, Prior] = {
    "wavelet of bands": Prior(lambda: prox.WaveletL1("db2", 2), wavelet, thresholds=6),
    "wavelet of levels": Prior(lambda: prox.WaveletL1("db2", 2, "level", seed=3), wavelet, thresholds=2),
    "wavelet of one threshold": Prior(lambda: prox.WaveletL1("db2", 2, "all"), wavelet),
    "wavelet on a fixed grid": Prior(lambda: prox.WaveletL1("db2", 2, shift=False), wavelet, thresholds=6),
    "filter bank": Prior(lambda: prox.FilterBank(5, 3), filter_bank, thresholds=5),
    "large filters": Prior(lambda: prox.FilterBank(), filter_bank, thresholds=24),
    "a filter bank for each layer": Prior(
        lambda: prox.PerLayer(prox.FilterBank(4, 4), LAYERS), filter_bank, thresholds=4
    ),
    "learned transform": Prior(lambda: prox.LearnedTransform(1, 3), learned_transform, "real", is_identity=True),
    "learned transform of ISTA-Net": Prior(
        lambda: prox.LearnedTransform(1, 3, residual=False), learned_transform, "real"
    ),
    "learned transform of complex pictures": Prior(
        lambda: prox.LearnedTransform(2, 3), learned_transform, "complex", is_identity=True
    ),
    "DnCNN": Prior(lambda: prox.Denoiser(fu.nn.DnCNN(1, 3, 3)), dncnn, "real", 0, True),
    "DnCNN of complex pictures": Prior(lambda: prox.Denoiser(fu.nn.DnCNN(2, 3, 3)), dncnn, "complex", 0, True),
    "DnCNN with a level": Prior(
        lambda: prox.Denoiser(fu.nn.DnCNN(1, 3, 3, noise_level=True), 0.3), dncnn, "real", 1, True
    ),
    "denoiser of another library": Prior(
        lambda: prox.Denoiser(Shrinking(), True, channels=1), lambda p, k, z, t: z / (1 + t.sqrt()), "real"
    ),
    "its complex pictures": Prior(
        lambda: prox.Denoiser(Shrinking(), 0.2, channels=2), lambda p, k, z, t: z / (1 + t.sqrt()), "complex"
    ),
    "a function": Prior(lambda: prox.Denoiser(torch.tanh), tanh, thresholds=0),
}
SCHEMES = {
    "FISTA": schemes.FISTA(), "ADMM": schemes.ADMM(0.9), "HQS": schemes.HQS(), "VN": schemes.VariationalNetwork(),
}  # fmt: skip
FIELDS = [
    (name, field) for name, prior in PRIORS.items() for field in ("real", "complex") if prior.takes in ("either", field)
]


def randomised(module: torch.nn.Module) -> Any:
    """The module with parameters that are random numbers, as after training."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=DOUBLE) / p[0].numel() ** 0.5)
    return module


def operator(field: str, dtype: torch.dtype = DOUBLE) -> Any:
    generator = torch.Generator().manual_seed(1)
    if field == "complex":
        return fu.operators.Fourier((torch.rand(SIZE[1], generator=generator) < 0.6).to(dtype))
    return fu.operators.Blur(torch.rand(3, 3, generator=generator, dtype=dtype) / 6)


def data(field: str, dtype: torch.dtype = DOUBLE, batch: tuple[int, ...] = (2,)) -> Tensor:
    kind = dtype.to_complex() if field == "complex" else dtype
    x = torch.randn(*batch, *SIZE, generator=torch.Generator().manual_seed(2), dtype=torch.promote_types(kind, DOUBLE))
    return operator(field, dtype)(x.to(kind))


def network(name: str, field: str, scheme: str = "FISTA", dtype: torch.dtype = DOUBLE, **options: Any) -> Any:
    prior = randomised(PRIORS[name].make()).to(dtype)
    return fu.nn.Unrolled(SCHEMES[scheme], operator(field, dtype), prior, LAYERS, lam=0.1, dtype=dtype, **options)


def moved(net: Any) -> Any:
    """The network with numbers that differ from layer to layer and from band to band."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.split(".")[0] in ("log_theta", "log_step", "beta"):
                p.add_(0.3 * torch.rand(p.shape, generator=generator, dtype=p.dtype))
    return net


def by_hand(name: str, net: Any, y: Tensor) -> Tensor:
    A, formula, values = net.operator, PRIORS[name].formula, net.values()
    x = before = dual = torch.zeros_like(A.adjoint(y))
    theta = values.get("theta", [torch.zeros(1, dtype=DOUBLE)] * LAYERS)
    for k in range(LAYERS):
        if isinstance(net.scheme, schemes.VariationalNetwork):
            slope = A.adjoint(A(x) - y)
            x = formula(net.prox, k, x, theta[k]) - values["step"][k] * slope
            continue
        if isinstance(net.scheme, schemes.FISTA):
            v = x + values["beta"][k] * (x - before)
            z = v - values["step"][k] * A.adjoint(A(v) - y)
            before = x
        else:
            rho = values["rho"][k]
            z = A.solve(A.adjoint(y) + rho * (x - dual), rho)
        x = formula(net.prox, k, z + dual, theta[k])
        dual = dual + values["eta"][k] * (z - x) if isinstance(net.scheme, schemes.ADMM) else dual
    return x


def gradients(x: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(6), dtype=x.dtype)
    return torch.autograd.grad((weights * x).abs().square().sum(), leaves, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_values_and_gradients(name: str, field: str, scheme: str) -> None:
    net, y = moved(network(name, field, scheme)), data(field).requires_grad_()
    found, wanted = net(y), by_hand(name, net, y)
    assert relative_error(found, wanted) < 1e-11
    leaves = [y, *(p for p in net.parameters() if p.requires_grad)]
    of_found, of_wanted = gradients(found, leaves), gradients(wanted, leaves)
    for a, b, c in zip(of_found, of_wanted, gradients(net(y, keep_every=1), leaves), strict=True):
        assert (a - b).abs().max() <= 1e-8 * (1 + b.abs().max())
        assert torch.equal(c, a)


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_every_call_has_the_same_bits(name: str, field: str) -> None:
    """So do a copy, a network that was pickled, and one that loads its weights."""
    net, y = moved(network(name, field)), data(field)
    wanted = net(y)
    other = network(name, field)
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    for again in (net, copy.deepcopy(net), pickle.loads(pickle.dumps(net)), other):
        assert torch.equal(again(y), wanted)
    assert torch.equal(net(y, return_layers=True)[-1], wanted)


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_thresholds(name: str, field: str) -> None:
    net, count = network(name, field), PRIORS[name].thresholds
    if not count:
        assert not hasattr(net, "log_theta")
        return
    assert [p.shape for p in net.log_theta] == [(count,)] * LAYERS
    level = getattr(net.prox, "noise_level", True)
    start = level**2 if level is not True else 0.1 * net.log_step[0].exp().item()
    assert torch.allclose(net.values()["theta"][1], torch.full((count,), start, dtype=DOUBLE))
    columns = net.layers_summary().columns
    assert ("theta" in columns) if count == 1 else (f"theta[{count - 1}]" in columns)


@pytest.mark.parametrize("name", [name for name, prior in PRIORS.items() if prior.is_identity])
def test_a_network_starts_as_a_gradient_method(name: str) -> None:
    field = PRIORS[name].takes
    A, y = operator(field), data(field)
    prior = PRIORS[name].make().double()
    net = fu.nn.Unrolled(schemes.FISTA(), A, prior, LAYERS, dtype=DOUBLE)
    gradient_method = fu.nn.Unrolled(schemes.FISTA(), A, prox.Identity(), LAYERS, dtype=DOUBLE)
    assert torch.allclose(net(y), gradient_method(y), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_any_batch(name: str, field: str) -> None:
    net, y = network(name, field), data(field, batch=(2, 3))
    whole = net(y)
    assert torch.allclose(net(y[1, 2]), whole[1, 2], rtol=1e-12, atol=1e-12)
    assert torch.allclose(net(y.flatten(0, 1)), whole.flatten(0, 1), rtol=1e-12, atol=1e-12)
    assert torch.allclose(net(y.transpose(0, 1)), whole.transpose(0, 1), rtol=1e-12, atol=1e-12)
    assert net(y[:0]).shape == y[:0].shape
    broken = y.clone()
    broken[1, 0, 3, 4] = math.nan
    found = net(broken)
    assert found[1, 0].isnan().any()
    assert torch.equal(found[0], whole[0])
    assert torch.equal(found[1, 1:], whole[1, 1:])


class Precisions(fu.operators.LinearOperator):
    """The identity, which notes the precision of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.shape_in = self.shape_out = SIZE
        self.seen: set[torch.dtype] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen |= {x.dtype, (x.new_ones(2, 2) @ x.new_ones(2, 2)).dtype}
        return x * 1

    def adjoint(self, y: Tensor) -> Tensor:
        return self(y)


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_autocast_leaves_operators_alone(name: str, field: str) -> None:
    A, y, single = Precisions(), data(field, torch.float32), network(name, field, dtype=torch.float32)
    net = fu.nn.Unrolled(schemes.FISTA(), A, single.prox, LAYERS, step=0.5)
    wanted = net(y)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(y)
        found.abs().sum().backward()
    assert A.seen == {y.dtype}
    assert found.dtype == y.dtype
    convolves = any(isinstance(m, torch.nn.Conv2d) for m in net.modules())  # a bank has a kernel, in single precision
    assert torch.equal(found, wanted) != convolves
    assert relative_error(found, wanted) < 0.05


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_in_a_solver(name: str, field: str) -> None:
    """Iterations have the operators of the layers of a network."""
    prior, A, y = randomised(PRIORS[name].make()).double(), operator(field), data(field)
    if isinstance(prior, prox.PerLayer):
        with pytest.raises(ValueError, match="an operator for each layer of a network"):
            fu.solvers.fista(A, y, 0.1, prox=prior)
        return
    step = 1 / A.norm() ** 2
    net = fu.nn.Unrolled(schemes.FISTA(), A, prior, LAYERS, lam=0.1, dtype=DOUBLE)
    if prior.has_threshold:
        with torch.no_grad():
            for p in net.log_theta:
                p.fill_(math.log(0.1 * step))
    found = fu.solvers.fista(A, y, 0.1, prox=prior, iterations=LAYERS, step=step)
    assert relative_error(found, net(y)) < 1e-11
    net = fu.nn.Unrolled(schemes.ADMM(), A, prior, LAYERS, lam=0.1, dtype=DOUBLE)
    if prior.has_threshold:
        with torch.no_grad():
            for p in net.log_theta:
                p.fill_(math.log(0.1 * step))
    found = fu.solvers.admm(
        A, y, 0.1, prox=prior, iterations=LAYERS, rho=1 / step, relaxation=1.0, adaptive=False, solve=A.solve
    )
    assert relative_error(found, net(y)) < 1e-10


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_transforms(name: str, field: str) -> None:
    """Batches and gradients of torch.func."""
    net, y = moved(network(name, field)), data(field).requires_grad_()
    assert relative_error(torch.func.vmap(net)(y), net(y)) < 1e-12

    def energy(y: Tensor) -> Tensor:
        return net(y).abs().square().sum()

    (wanted,) = torch.autograd.grad(energy(y), y)
    assert relative_error(torch.func.grad(energy)(y.detach()), wanted) < 1e-12
    of_samples = torch.func.vmap(torch.func.grad(energy))(y.detach())
    assert relative_error(of_samples, wanted) < 1e-12


# One of each class; of those that make real channels, one of complex pictures too.
TRACED = ["wavelet of bands", "filter bank", "a filter bank for each layer", "learned transform",
          "learned transform of complex pictures", "DnCNN with a level", "DnCNN of complex pictures",
          "denoiser of another library"]  # fmt: skip


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize("name", TRACED)
def test_compiled(name: str) -> None:
    field = "complex" if PRIORS[name].takes == "complex" else "real"
    net, y = moved(network(name, field)), data(field)
    prior, theta = net.prox.at_layer(1), net.values().get("theta", [y.real.new_zeros(1)] * 2)[1]
    assert relative_error(torch.compile(prior, backend="eager")(y, theta), prior(y, theta)) < 1e-12


@pytest.mark.usefixtures("_quiet_torch")
def test_a_compiled_network() -> None:
    net, y = moved(network("filter bank", "real")), data("real")
    assert relative_error(torch.compile(net, backend="eager")(y), net(y)) < 1e-12


LEARNING = [name for name, prior in PRIORS.items() if prior.takes != "complex" and name != "a function"]


@pytest.mark.parametrize("name", LEARNING)
def test_it_learns(name: str) -> None:
    torch.manual_seed(0)
    x = torch.rand(6, *SIZE).cumsum(-1).cumsum(-2) / 40
    A = operator("real", torch.float32)
    y = A(x) + 0.1 * torch.randn(x.shape)
    net = fu.nn.Unrolled(SCHEMES["FISTA"], A, PRIORS[name].make(), LAYERS, lam=0.01)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = mse_loss(net(y), x)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]
