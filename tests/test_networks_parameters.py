"""Parameters of every network that PyTorch computes, that differ in type, or that have other shapes than before."""

from __future__ import annotations

import copy
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll import prox, schemes
from fastunroll.nn.adaptive import AdaptiveNetwork
from networks import ALL, B, M, Network, matrix, moved
from refusals import check_refused
from torch import Tensor, nn
from torch.nn.utils import prune

DOUBLE = torch.float64


def unrolled(scheme: schemes.Scheme) -> fu.nn.Unrolled:
    return fu.nn.Unrolled(scheme, nn.Parameter(matrix()), prox.L1(), 3, lam=0.05)


UNROLLED = {
    "FISTA": schemes.FISTA(),
    "ADMM": schemes.ADMM(),
    "primal dual": schemes.PrimalDual(),
    "ISTA": schemes.ProximalGradient(),
}
MODULES: dict[str, Any] = {
    **{name: lambda build=build: moved(build(matrix())) for name, build in ALL.items()},
    **{f"Unrolled, {name}": lambda scheme=scheme: unrolled(scheme) for name, scheme in UNROLLED.items()},
}


def lists(net: nn.Module) -> dict[str, nn.ParameterList]:
    return {name: part for name, part in net.named_children() if isinstance(part, nn.ParameterList) and len(part)}


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PyTorch, about its old normalisations
@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("HyperLISTA")])  # which has no lists
def test_pruned_entries_follow_what_they_are_made_of(name: str) -> None:
    """PyTorch multiplies with the mask before a call of the list, and nothing calls a list."""
    torch.manual_seed(1)
    net: Network = MODULES[name]()
    plain = copy.deepcopy(net)
    y = torch.randn(B, M, dtype=DOUBLE)
    pruned = []
    for label, entries in lists(net).items():
        last = str(len(entries) - 1)
        prune.random_unstructured(entries, last, amount=0.5)
        pruned.append((entries, getattr(plain, label), last))
    if isinstance(net, fu.nn.Unrolled):
        prune.random_unstructured(net.operator, "A", amount=0.5)
        pruned.append((net.operator, plain.operator, "A"))
    assert pruned
    for factor in (1.0, 0.9):  # an optimiser's step
        with torch.no_grad():
            for part, own, entry in pruned:
                original = getattr(part, f"{entry}_orig").mul_(factor)
                own._parameters[entry].copy_(original * getattr(part, f"{entry}_mask"))
            assert torch.equal(net(y), plain(y))
        assert torch.equal(net(y, return_layers=True), plain(y, return_layers=True))
        net(y).square().sum().backward()  # the graph of this call, and not of the one before
        plain(y).square().sum().backward()
    for part, own, entry in pruned:
        found, wanted = getattr(part, f"{entry}_orig").grad, own._parameters[entry].grad
        assert (found is None) == (wanted is None)
        if found is not None:
            assert torch.allclose(found, wanted * getattr(part, f"{entry}_mask"), rtol=1e-9, atol=1e-12)
    for part, _, entry in pruned:
        prune.remove(part, entry)
    assert torch.equal(net(y), plain(y))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("normalise", [torch.nn.utils.weight_norm, torch.nn.utils.spectral_norm])
def test_old_normalisations_follow_what_they_are_made_of(normalise: Any) -> None:
    net = moved(fu.nn.LISTA(matrix(), layers=3)).eval()
    y = torch.randn(B, M, dtype=DOUBLE)
    normalise(net.W2, "1")
    before = net(y)
    with torch.no_grad():
        for value in net.W2.parameters():
            value.add_(0.1 * torch.randn_like(value))
    entries = [net.W2[0], net.W2[1], net.W2[2]]
    wanted = fu.unrolled(y, fu.AffineStep([*net.W1], entries), prox.L1(), [*net.theta], layers=3)
    assert torch.equal(net(y), wanted)
    assert not torch.allclose(net(y), before)


@pytest.mark.parametrize("name", ALL)
def test_parameters_of_two_types_are_refused(name: str) -> None:
    """Each parameter in turn, unless the network converts it, as those do that compute matrices and rows from it."""
    y = torch.randn(B, M, dtype=DOUBLE)
    net = moved(ALL[name](matrix()))
    refused = []
    for label, parameter in net.named_parameters():
        single = parameter.data.float()
        parameter.data = single.double()
        wanted = net(y)
        parameter.data = single
        for given in (y, y.clone().requires_grad_()):
            try:
                found = net(given)
            except TypeError:
                check_refused((lambda given=given: net(given), TypeError, "must have one dtype, but "))
                refused.append(label)
            else:
                assert torch.allclose(found, wanted, rtol=1e-6, atol=1e-7)
                assert found.dtype == DOUBLE
        parameter.data = single.double()
    assert refused or isinstance(net, AdaptiveNetwork)


@pytest.mark.parametrize("name", UNROLLED)
def test_summaries_show_the_numbers_of_a_vector(name: str) -> None:
    net = unrolled(UNROLLED[name])
    wanted = net.layers_summary()[1]["theta"]
    entries = [nn.Parameter(torch.full((17,), float(t.detach()), dtype=DOUBLE)) for t in net.log_theta]
    net.log_theta = nn.ParameterList(entries)
    row = net.layers_summary()[1]
    assert [row[f"theta[{i}]"] for i in range(17)] == pytest.approx(17 * [wanted])
    assert net(torch.randn(B, M, dtype=DOUBLE)).shape == (B, 17)


def nan_matrix() -> Tensor:
    return torch.full((M, 17), torch.nan, dtype=DOUBLE, requires_grad=True)


NOT_FINITE = {
    "a matrix that learns": lambda: fu.operators.Dense.of(nan_matrix()),
    "its adjoint": lambda: fu.operators.Dense.of(nan_matrix().mT).H,
    "a matrix for each sample": lambda: fu.operators.Dense.of(nan_matrix().expand(3, M, 17)),
    "infinity": lambda: fu.operators.Dense.of(nan_matrix() * 0 + torch.inf),
    "a linear layer": lambda: fu.operators.as_operator(nn.Linear(17, M, bias=False).requires_grad_(False).double()),
}


@pytest.mark.parametrize("scheme", UNROLLED)
@pytest.mark.parametrize("name", NOT_FINITE)
def test_a_matrix_that_is_not_finite_is_refused(name: str, scheme: str) -> None:
    op = NOT_FINITE[name]()
    if name == "a linear layer":
        op.layer.weight.fill_(torch.nan)
    call = lambda: fu.nn.Unrolled(UNROLLED[scheme], op, prox.L1(), 2)  # noqa: E731
    check_refused((call, ValueError, "A must be finite, but it holds NaN or infinity"))


def test_norms_of_the_largest_and_smallest_numbers() -> None:
    """Squares would overflow or vanish."""
    A = matrix()
    wanted = float(torch.linalg.matrix_norm(A, 2))
    for scale in (1e-300, 1e-160, 1.0, 1e160, 1e300):
        assert fu.operators.Dense(scale * A).norm() == pytest.approx(scale * wanted, rel=1e-12)
    assert fu.operators.Dense(0 * A).norm() == 0


@pytest.mark.parametrize("name", MODULES)
def test_networks_without_values(name: str) -> None:
    """On the meta device, of which PyTorch asks the shape of a result."""
    net = MODULES[name]().to("meta")
    for learns in (True, False):
        found = net.requires_grad_(learns)(torch.empty(3, M, dtype=DOUBLE, device="meta"))
        assert found.shape == (3, 17)
        assert found.is_meta
