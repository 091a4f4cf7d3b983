"""Every network: values and gradients against plain PyTorch, and where it starts."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import fastunroll as fu
import pytest
import torch
from cases import relative_error
from devices import DEVICES, on
from networks import ALL, COMPLEX, B, M, Network, matrix, moved
from torch import Tensor, nn


@pytest.fixture(params=["host", *DEVICES])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    if request.param == "host":
        yield torch.device("cpu")
        return
    with on(request.param) as found:
        yield found


# --- every network once more, in plain PyTorch ------------------------------------------------------------------------


def shrink(z: Tensor, theta: Tensor, passing: int = 0) -> Tensor:
    shrunk = torch.sgn(z) * torch.relu(z.abs() - theta)
    passes = fu.reference.largest(z.abs(), passing) & (z.abs() > theta)
    return torch.where(passes, z, shrunk)


def soft_or_bg(s: nn.Module, k: int, r: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """The shrinkage, and its derivative by autograd."""

    def value(r: Tensor) -> Tensor:
        if hasattr(s, "log_alpha"):
            return s.log_scale[k].exp() * shrink(r, s.log_alpha[k].exp() * variance.sqrt())
        power, density = s.log_power[k].exp(), torch.sigmoid(s.logit[k])
        v = variance
        there = density * torch.exp(-r.square() / (2 * (power + v))) / (power + v).sqrt()
        gone = (1 - density) * torch.exp(-r.square() / (2 * v)) / v.sqrt()
        return there / (there + gone) * power / (power + v) * r

    r = r if r.requires_grad else r.detach().requires_grad_()
    out = value(r)
    (slope,) = torch.autograd.grad(out.sum(), r, create_graph=True)
    return out, slope


def twin(net: Any, y: Tensor) -> Tensor:
    """All layers from zero, (K, ..., n), as the docstrings say it."""
    kind, A = type(net).__name__, getattr(net, "A", None)
    x = before = u = y.new_zeros(*y.shape[:-1], net.n)
    v, passing = y, getattr(net, "_passing", ()) or (0,) * net.layers
    if kind == "LISTACPSS":
        passing = [round(min(10.0 * (k + 1), 30.0) / 100 * net.n) for k in range(net.layers)]
    out = []
    if kind == "LVAMP":
        r2, v2 = x, y.square().sum(-1, keepdim=True) / net.s.square().sum()
    for k in range(net.layers):
        theta = net.log_theta[k].exp() if hasattr(net, "log_theta") else None

        def of(values: Any, k: int = k) -> Tensor:
            return values[min(k, len(values) - 1)]

        if kind in ("LISTA", "LISTASS"):
            theta = net.theta[k] if kind == "LISTA" else theta
            x = shrink(y @ of(net.W1).mT + x @ of(net.W2).mT, theta, passing[k])
        elif kind == "LFISTA":
            z = y @ of(net.W1).mT + (x + net.beta[k] * (x - before)) @ of(net.W2).mT
            x, before = shrink(z, theta), x
        elif kind in ("LISTACP", "LISTACPSS"):
            x = shrink(x + (y - x @ A.mT) @ of(net.W).conj(), theta, passing[k])
        elif kind == "StepLISTA":
            t = net.log_step[k].exp()
            x = shrink(x - t * (x @ A.mT - y) @ A.conj(), net.lam * t)
        elif kind in ("TiLISTA", "ALISTA"):
            x = shrink(x + net.log_step[k].exp() * (y - x @ A.mT) @ net.W.conj(), theta, passing[k])
        elif kind == "ADMMNet":
            if net.solve == "learned":
                W = net.W[k]
            else:
                W = torch.linalg.solve(A @ A.mH + net.log_rho[k].exp() * torch.eye(net.m, dtype=A.dtype), A)
            z = (x - u) + (y - (x - u) @ A.mT) @ W.conj()
            x = shrink(z + u, theta)
            u = u + net.log_eta[k].exp() * (z - x)
        elif kind == "LAMP":
            variance = v.abs().square().mean(-1, keepdim=True)
            r = x + v @ of(net.W).conj()
            if hasattr(net.shrinkage, "log_alpha"):
                scale = net.shrinkage.log_scale[k].exp()
                x = scale * shrink(r, net.shrinkage.log_alpha[k].exp() * variance.sqrt())
                share = scale * (x != 0).sum(-1, keepdim=True) / net.m
            else:
                x, slope = soft_or_bg(net.shrinkage, k, r, variance)
                share = slope.sum(-1, keepdim=True) / net.m
            v = y - x @ A.mT + share * v
        elif kind == "LVAMP":
            noise = net.log_noise[k].exp()
            c = net.s * v2 / (net.s.square() * v2 + noise)
            share = (net.s * c).sum(-1, keepdim=True) / net.n
            r1 = r2 + (c * (y @ net.Ut.mT - net.s * (r2 @ net.Vt.mT))) @ net.Vt / share
            v1 = v2 * (1 - share) / share
            x, slope = soft_or_bg(net.shrinkage, k, r1, v1)
            alpha = slope.mean(-1, keepdim=True).clamp(0.5 / net.n, 1 - 0.5 / net.n)
            r2, v2 = (x - alpha * r1) / (1 - alpha), v1 * alpha / (1 - alpha)
        elif kind == "GLISTA":
            z = net.log_D[k].exp() * x.abs()
            gains = {
                "relu": torch.relu(1 - z), "inverse": 0.2 / (0.001 + z), "exponential": (-z).exp(),
                "sigmoid": 1 / (1 + z.exp()),
            }  # fmt: skip
            larger = x * (1 + net.kappa[k] * gains[net.gain])
            z = larger + (y - larger @ A.mT) @ of(net.W)
            found = shrink(z, theta, passing[k])
            shrunk = ~(fu.reference.largest(z.abs(), passing[k]) & (z.abs() > theta))
            o = 1 - net.overshoot[k] * theta * shrunk / ((found - x).abs() + 0.1)
            x = o * found + (1 - o) * x
        elif kind == "HyperLISTA":
            c1, c2, c3 = net.c.abs()
            mu = (net.W.mT @ A - torch.diag((net.W * A).sum(0))).abs().max()
            r, pinv = x @ A.mT - y, torch.linalg.pinv(A)
            e, e0 = ((t @ pinv.mT).abs().sum(-1, keepdim=True) for t in (r, y))
            z = x - r @ net.W + c2 * mu * (x != 0).sum(-1, keepdim=True) * (x - before)
            count = (c3 * (e0 / e).log()).clamp(0, net.n).floor().long()
            rows = [shrink(a, t, int(p)) for a, t, p in zip(z, c1 * mu * e, count[:, 0], strict=True)]
            x, before = torch.stack(rows), x
        else:
            raise AssertionError(kind)
        out.append(x)
    return torch.stack(out)


@pytest.mark.parametrize("name", ALL)
def test_values_and_gradients(name: str, device: torch.device) -> None:
    net, y = moved(ALL[name](matrix())), torch.randn(B, M, dtype=torch.float64)
    _compare(net, y, device)


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_values_and_gradients(name: str, device: torch.device) -> None:
    net = moved(COMPLEX[name](matrix(dtype=torch.complex128)))
    _compare(net, torch.randn(B, M, dtype=torch.complex128), device)


def _compare(net: Network, y: Tensor, device: torch.device) -> None:
    exact, net = copy.deepcopy(net), net.to(device)
    ours, theirs = y.to(device).requires_grad_(), y.clone().requires_grad_()
    found, wanted = net(ours, return_layers=True), twin(exact, theirs)
    assert found.device.type == device.type
    assert found.dtype == y.dtype
    assert relative_error(found.cpu(), wanted) <= 1e-10
    weight = torch.randn_like(wanted)
    leaves, exact_leaves = [ours, *net.parameters()], [theirs, *exact.parameters()]
    options: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
    a = torch.autograd.grad((found.cpu() * weight).abs().square().sum(), leaves, **options)
    b = torch.autograd.grad((wanted * weight).abs().square().sum(), exact_leaves, **options)
    for f, w in zip(a, b, strict=True):
        assert relative_error(f.cpu(), w) <= 1e-7


def test_the_table_is_complete() -> None:
    classes = {c.__name__ for c in vars(fu.nn).values() if isinstance(c, type) and issubclass(c, Network)}
    assert {name.split("-")[0] for name in ALL} == classes - {"UnrolledNetwork"}


# --- where they start -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LISTA", "StepLISTA", "LISTACP", "LISTACPSS", "LISTASS", "TiLISTA", "GLISTA"])
def test_starts_as_ista(name: str) -> None:
    A, y = matrix(20, 50), torch.randn(6, 20, dtype=torch.float64)
    options: dict[str, Any] = {"selection": None} if name in ("LISTACPSS", "LISTASS", "TiLISTA", "GLISTA") else {}
    net = getattr(fu.nn, name)(A, layers=16, lam=0.3, **options)
    wanted = fu.solvers.ista(A, y, 0.3, iterations=16, return_iterates=True)
    assert relative_error(net(y, return_layers=True), wanted) <= 1e-12


def test_lfista_starts_as_fista() -> None:
    A, y = matrix(20, 50), torch.randn(6, 20, dtype=torch.float64)
    wanted = fu.solvers.fista(A, y, 0.3, iterations=16, return_iterates=True)
    assert relative_error(fu.nn.LFISTA(A, layers=16, lam=0.3)(y, return_layers=True), wanted) <= 1e-12


@pytest.mark.parametrize("solve", ["exact", "factorised", "learned"])
def test_admm_net_starts_as_admm(solve: Any) -> None:
    A, y = matrix(20, 50), torch.randn(6, 20, dtype=torch.float64)
    found = fu.nn.ADMMNet(A, layers=400, lam=0.3, rho=0.7, solve=solve)(y)
    assert relative_error(found, fu.solvers.fista(A, y, 0.3, iterations=4000)) <= 1e-6


def test_analytic_weights_are_the_least_coherent() -> None:
    """Of all W with w_iᵀa_i = 1, by the sum of squares of WᵀA."""
    A = matrix(8, 20)
    W = fu.nn.analytic_weights(A)
    torch.testing.assert_close((W * A).sum(0), torch.ones(20, dtype=A.dtype))
    least = (W.mT @ A).square().sum()
    for _ in range(20):
        step = 1e-2 * torch.randn_like(W)
        other = W + step - A * (step * A).sum(0)  # unit columns: the constraint still holds
        assert (other.mT @ A).square().sum() > least


def test_vamp_is_what_ill_conditioned_matrices_need() -> None:
    A = fu.data.sensing_matrix(125, 250, condition=15.0)
    y, x = fu.data.fixed(fu.data.SparseRecovery(A, snr=40), 200)
    noise = fu.data.SparseRecovery(A, snr=40).noise ** 2
    vamp = fu.nn.LVAMP(A, shrinkage="bernoulli-gaussian", noise=noise)(y)
    amp = fu.nn.LAMP(A, shrinkage="soft")(y)
    assert x is not None
    assert fu.losses.nmse_db(vamp, x).item() < -38
    assert fu.losses.nmse_db(amp, x).item() > -10


def test_what_passes_in_glista_exceeds_a_threshold_of_its_own() -> None:
    """The larger of two lies below its own threshold: nothing passes, and the other one is shrunk."""
    net = fu.nn.GLISTA(torch.eye(2, dtype=torch.float64), layers=1, threshold="vector", selection=(50.0, 50.0))
    with torch.no_grad():
        net.log_theta[0].copy_(torch.tensor([3.0, 0.5]).log())
        net.overshoot[0].fill_(0.2)
        found = net(torch.tensor([2.0, 1.5], dtype=torch.float64))
    o = 1 - 0.2 * 0.5 / 1.1  # where x became 1 and was shrunk by 0.5
    assert torch.allclose(found, torch.tensor([0.0, o], dtype=torch.float64), atol=1e-7)
