"""Every network: values and gradients against plain PyTorch, and where it starts."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from devices import DEVICES, on
from networks import ALL, COMPLEX, B, M, Network, matrix, moved
from torch import Tensor
from twins import twin


@pytest.fixture(params=["host", *DEVICES])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    if request.param == "host":
        yield torch.device("cpu")
        return
    with on(request.param) as found:
        yield found


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


def test_what_hyperlista_keeps_of_its_matrix() -> None:
    A = matrix(8, 20)
    net = fu.nn.HyperLISTA(A)
    torch.testing.assert_close(net.pinv, torch.linalg.pinv(A))
    torch.testing.assert_close(net.coherence, (net.W.mT @ A - torch.diag((net.W * A).sum(0))).abs().max())


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
