"""Diagnostics: every number against its formula, the bound, every network, and what is refused."""

from __future__ import annotations

import json
import math

import fastunroll as fu
import pytest
import torch
from fastunroll.diagnostics import report
from fastunroll.diagnostics.findings import numbered
from hypothesis import given
from hypothesis import strategies as st
from reports import (
    COMPLEX,
    LAM,
    MEASURES,
    NETWORKS,
    M,
    N,
    Plain,
    ista_step,
    matrix,
    perturbed,
    problem,
)
from torch import Tensor


@pytest.mark.parametrize("batch", [(6,), (2, 3), (1,), ()], ids=str)
def test_every_number_against_its_formula(batch: tuple[int, ...]) -> None:
    A, y, x_true = problem(*batch)
    net = perturbed(fu.nn.TiLISTA(A, layers=5, lam=LAM))
    found = report(net, y, x_true, lam=LAM)
    layers = [torch.zeros_like(x_true), *net(y, return_layers=True).detach()]
    d = found.decomposition
    assert d is not None
    targets = [ista_step(x, y, A) for x in layers[:-1]]
    rates = [(t - x_true).norm() / (x - x_true).norm() for t, x in zip(targets, layers, strict=False)]
    ideal = torch.zeros_like(x_true)
    start, accumulated, own = x_true.norm(), torch.tensor(0.0), x_true.norm()
    assert d.rho == pytest.approx(max(rates).item())
    assert d.rho_median == pytest.approx(torch.tensor(rates).double().median().item(), rel=1e-6)
    assert d.start_error == pytest.approx(x_true.norm().item())
    for k, (row, parts) in enumerate(zip(found.layers, d.layers, strict=True)):
        x, before = layers[k + 1], layers[k]
        error, power = (x - x_true).square().sum(-1), x_true.square().sum(-1)
        wanted = {
            "density": (x != 0).double().mean(),
            "update": (x - before).norm() / x.norm(),
            "nmse_db": 10 * torch.log10(error.sum() / power.sum()),
            "mean_db": (10 * torch.log10(error / power)).mean(),
            "kkt_residual": fu.losses.kkt_residual(x, y, A, LAM).mean(),
            "objective": ((x @ A.mT - y).square().sum(-1) / 2 + LAM * x.abs().sum(-1)).mean(),
        }
        assert set(wanted) == MEASURES
        assert {name: row[name] for name in wanted} == pytest.approx({n: v.item() for n, v in wanted.items()})
        assert row["layer"] == parts["layer"] == k + 1
        assert row["step"] == pytest.approx(net.log_step[k].exp().item())
        assert row["threshold"] == pytest.approx(net.log_theta[k].exp().item())
        ideal, deviation = ista_step(ideal, y, A), (x - targets[k]).norm()
        start, accumulated = d.rho * start, d.rho * accumulated + deviation
        own = rates[k] * own + deviation
        wanted = {
            "error": (x - x_true).norm(),
            "ideal_error": (ideal - x_true).norm(),
            "rate": rates[k],
            "deviation": deviation,
            "start": start,
            "accumulated": accumulated,
            "bound": start + accumulated,
            "bound/error": (start + accumulated) / (x - x_true).norm(),
            "own_bound": own,
        }
        assert {name: parts[name] for name in wanted} == pytest.approx({n: v.item() for n, v in wanted.items()})
    K = len(layers) - 1
    closed = d.rho**K * d.start_error + sum(d.rho ** (K - 1 - k) * row["deviation"] for k, row in enumerate(d.layers))
    assert d.layers[-1]["bound"] == pytest.approx(closed)
    assert found.parameters == ("step", "threshold", "support_size")


@given(
    name=st.sampled_from(NETWORKS),
    layers=st.integers(1, 6),
    batch=st.integers(1, 4),
    size=st.floats(0, 0.5),
    lam=st.sampled_from([0.0, 0.01, 0.3]),
    known=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_bound_holds(name: str, layers: int, batch: int, size: float, lam: float, known: bool, seed: int) -> None:
    torch.manual_seed(seed)
    A, y, x_true = problem(batch, seed=seed)
    net = perturbed(getattr(fu.nn, name)(A, layers=layers), size)
    reference = (lambda x, y: ista_step(x, y, A, lam)) if known else None  # else it is made by the report
    d = report(net, y, x_true, A=A, lam=lam, ideal=reference).decomposition
    assert d is not None
    assert len(d.layers) == layers
    for row in d.layers:
        if row["bound"] is None:  # starts at the truth, and the ideal step leads away
            assert x_true.norm() == 0
            continue
        assert row["error"] <= row["own_bound"] * (1 + 1e-12)
        assert row["own_bound"] <= row["bound"] * (1 + 1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128])
def test_ista_as_a_network_deviates_by_rounding(dtype: torch.dtype) -> None:
    A, y, _ = problem(5, dtype=dtype)
    for name in ("StepLISTA", "LISTACP") + (() if dtype.is_complex else ("LISTA",)):
        d = report(getattr(fu.nn, name)(A, layers=6, lam=LAM), y, A=A, lam=LAM).decomposition
        assert d is not None
        for row in d.layers:
            assert row["deviation"] <= (1e-6 if dtype == torch.float32 else 1e-13) * d.start_error
            assert row["error"] == pytest.approx(row["ideal_error"], rel=1e-5)
        assert d.rho <= 1 + 1e-9  # towards a fixed point, proximal gradient steps do not increase the distance
        assert d.ideal_rho == pytest.approx(d.rho, rel=1e-4)
        assert d.ideal_rho_median == pytest.approx(d.rho_median, rel=1e-4)


def test_the_reference_without_truth_is_the_lasso_solution() -> None:
    A, y, _ = problem(4)
    d = report(fu.nn.LISTACP(A, layers=3), y, lam=LAM).decomposition
    assert d is not None
    assert d.reference == "lasso"
    assert d.reference_kkt is not None
    assert d.reference_kkt <= 1e-10
    solution = fu.solvers.fista(A, y, LAM, iterations=20000)
    assert d.start_error == pytest.approx(solution.norm().item(), rel=1e-8)


def test_an_ideal_step_of_ones_own() -> None:
    A, y, x_true = problem(4)

    def halves(x: Tensor, y: Tensor) -> Tensor:
        return (x + x_true) / 2

    found = report(Plain(A), y, x_true, ideal=halves)
    d = found.decomposition
    assert d is not None
    assert [d.rho, d.ideal_rho, d.rho_median] == pytest.approx([0.5, 0.5, 0.5])
    assert d.layers[2]["ideal_error"] == pytest.approx(x_true.norm().item() / 8)
    assert "kkt_residual" not in found.layers.columns
    assert "Give A and lam" in str(found)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network(name: str) -> None:
    A, y, x_true = problem(2, 3, dtype=torch.float32)
    net = getattr(fu.nn, name)(A, layers=4)
    found = report(net, y, x_true, A=A, lam=LAM)
    assert found.model == name
    assert found.samples == 6
    assert len(found.layers) == 4
    assert [set(row) for row in found.layers] == [{"layer", *found.parameters} | MEASURES] * 4
    for row, learned in zip(found.layers, net.layers_summary(), strict=True):
        assert {n: row[n] for n in found.parameters} == {n: v for n, v in learned.items() if n != "layer"}
    assert str(found).startswith(f"{name}: 4 layers, 6 samples\n\nlayer  ")
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_data(name: str) -> None:
    A, y, x_true = problem(3, dtype=torch.complex64)
    found = report(getattr(fu.nn, name)(A, layers=3), y, x_true, A=A, lam=LAM)
    row = found.layers[-1]
    assert all(isinstance(row[n], float) and math.isfinite(row[n]) for n in MEASURES)
    json.dumps(found.as_dict(), allow_nan=False)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("known", [False, True], ids=["lasso", "truth"])
def test_no_signal(name: str, known: bool) -> None:
    """y = 0, one sample, one layer: every iterate and the solution are zero, and nothing is NaN."""
    A, y = matrix(), torch.zeros(1, M, dtype=torch.float64)
    found = report(getattr(fu.nn, name)(A, layers=1), y, torch.zeros(1, N).double() if known else None, A=A, lam=LAM)
    row, d = found.layers[0], found.decomposition
    assert d is not None
    assert row["density"] == row["update"] == row["kkt_residual"] == row["objective"] == 0
    if known:
        assert row["nmse_db"] is None
        assert row["mean_db"] is None
    assert d.rho == 0
    assert [d.layers[0][n] for n in ("error", "deviation", "bound", "own_bound", "bound/error")] == [0, 0, 0, 0, 1]
    assert "nan" not in str(found)
    assert "Every iterate is zero, so no layer changes anything." in str(found)


def test_bound_from_the_truth_itself() -> None:
    """x_0 = x* = 0, which the ideal step leaves: its rate is infinite and the bound undefined, not NaN."""
    A, y, _ = problem(2)
    found = report(fu.nn.LISTACP(A, layers=2, lam=LAM), y, torch.zeros(2, N).double(), lam=LAM)
    d = found.decomposition
    assert d is not None
    assert d.rho == math.inf
    assert [row["bound"] for row in d.layers] == [None, None]
    assert found.as_dict()["decomposition"]["rho"] is None
    assert "nan" not in str(found)
    assert "There is no finite bound." in str(found)
    json.dumps(found.as_dict(), allow_nan=False)


def test_samples_without_truth_count_in_the_pooled_error_alone() -> None:
    A, y, x_true = problem(3)
    x_true[1] = 0
    net = fu.nn.LISTACP(A, layers=2)
    row, x = report(net, y, x_true, lam=LAM).layers[-1], net(y).detach()
    assert row["nmse_db"] == pytest.approx(fu.losses.nmse_db(x, x_true).item())
    assert row["mean_db"] == pytest.approx(fu.losses.nmse_db(x[[0, 2]], x_true[[0, 2]], pooled=False).item())


def test_a_parameter_with_the_name_of_a_measure() -> None:
    A, y, _ = problem(2)
    found = report(fu.nn.LAMP(A, layers=2, shrinkage="bernoulli-gaussian", density=0.25), y)
    assert found.parameters == ("power", "learned density")
    assert found.layers[0]["learned density"] == pytest.approx(0.25)
    assert found.layers[0]["density"] == 1


def test_a_model_of_ones_own() -> None:
    A, y, x_true = problem(2, 3)
    found = report(Plain(A), y, x_true, A=A, lam=LAM)
    assert found.parameters == ()
    assert found.model == "Plain"
    assert set(found.layers.columns) == {"layer"} | MEASURES
    assert found.decomposition is not None
    assert found.decomposition.layers[-1]["deviation"] < 1e-12


@pytest.mark.parametrize("batch", [(3,), (2, 2), ()], ids=str)
def test_an_unrolled_network_knows_its_operator(batch: tuple[int, ...]) -> None:
    """Its A need not be given. Over a matrix it is reported as the network of the same layers is."""
    A, y, x_true = problem(*batch)
    net = fu.nn.Unrolled(fu.schemes.ProximalGradient(), A, fu.prox.L1(), layers=4, lam=LAM)
    found, given = report(net, y, x_true, lam=LAM), report(net, y, x_true, A=A, lam=LAM)
    assert found.as_dict() == given.as_dict()
    assert found.parameters == ("step", "theta")
    same = report(fu.nn.StepLISTA(A, layers=4, lam=LAM), y, x_true)
    for row, wanted in zip(found.layers, same.layers, strict=True):
        assert {name: row[name] for name in MEASURES} == pytest.approx({name: wanted[name] for name in MEASURES})
    assert not found.remarks


def test_an_unrolled_network_over_pictures() -> None:
    """The Lasso problem of a report is not that of another prior, and the report says so."""
    x_true = torch.rand(2, 12, 10, dtype=torch.float64)
    blur = fu.operators.Blur(torch.ones(3, 3, dtype=torch.float64) / 9)
    y = blur(x_true)
    for prior, says in ((fu.prox.TotalVariation(), True), (fu.prox.WaveletL1("haar", 1), True), (fu.prox.L1(), False)):
        net = fu.nn.Unrolled(fu.schemes.FISTA(), blur, prior, layers=3, lam=0.01)
        found = report(net, y, x_true, lam=0.01)
        wanted = fu.losses.lasso_objective(net(y), y, blur, 0.01).mean().item()
        assert found.samples == 2
        assert found.layers[-1]["objective"] == pytest.approx(wanted)
        assert any("in the place of the prior" in remark for remark in found.remarks) is says
        assert "kkt_residual" not in report(net, y, x_true).layers.columns


def test_what_is_known_decides_what_is_shown() -> None:
    A, y, _ = problem(3)
    step = fu.nn.StepLISTA(A, layers=2, lam=LAM)
    assert report(step, y).layers == report(step, y, A=A, lam=LAM).layers  # it knows both
    assert report(step, y, lam=0.3).layers != report(step, y).layers  # what is given counts
    each = report(step, y, lam=torch.full((N,), LAM, dtype=torch.float64))
    assert each.layers[-1]["objective"] == pytest.approx(report(step, y).layers[-1]["objective"])
    found = report(fu.nn.ALISTA(A, layers=2), y)  # λ is not known
    assert set(found.layers.columns) == {"layer", *found.parameters, "density", "update"}
    assert found.decomposition is None
    assert "Give lam for" in str(found)
    assert found.as_dict()["decomposition"] is None


def test_nothing_is_changed() -> None:
    A, y, x_true = problem(3)
    y.requires_grad_()
    net = fu.nn.LISTACP(A, layers=2)
    net(y).sum().backward()
    before = {name: (p.detach().clone(), p.grad.clone()) for name, p in net.named_parameters()}
    for training in (True, False):
        net.train(training)
        report(net, y, x_true, A=A.clone().requires_grad_(), lam=LAM)
        assert net.training is training
        assert torch.is_grad_enabled()
    for name, p in net.named_parameters():
        assert torch.equal(p, before[name][0])
        assert torch.equal(p.grad, before[name][1])
        assert p.requires_grad


def test_precision() -> None:
    """A single-precision network is measured in double precision."""
    A, y, x_true = problem(3, dtype=torch.float32)
    net = fu.nn.LISTACP(A, layers=2)
    x = net(y).detach().double()
    wanted = fu.losses.lasso_objective(x, y.double(), A.double(), LAM).mean().item()
    assert report(net, y, x_true.double(), lam=LAM).layers[-1]["objective"] == pytest.approx(wanted, rel=1e-14)


def test_findings_tell_what_is_wrong() -> None:
    A, y, x_true = problem(50)
    net = fu.nn.LISTACP(A, layers=6, lam=LAM)
    with torch.no_grad():
        net.log_theta[2].fill_(-40)  # no threshold: density explodes
        net.W[4].zero_()  # a layer that only shrinks
        net.log_theta[4].fill_(-1)
        net.W[5].zero_()  # a layer that does nothing
        net.log_theta[5].fill_(-40)
        net.log_theta[0].fill_(math.log(0.2))
        net.log_theta[1].fill_(math.log(0.2))
    text = str(report(net, y, x_true, lam=LAM))
    assert "The density explodes at layer 3." in text
    assert "The thresholds of layers 3 and 6 are practically zero." in text
    assert "Layers 1" in text
    assert "layer 6 changes it by less than 1 %" in text
    assert "layer 5 makes it worse" in text
    assert "and is best" in text
    gone = fu.nn.LISTACP(A, layers=2, lam=0.0)
    assert "All thresholds are zero" in str(report(gone, y))


def test_layers_by_number() -> None:
    assert numbered([4]) == "layer 4"
    assert numbered([1, 2]) == "layers 1–2"
    assert numbered([1, 2, 3, 7]) == "layers 1–3 and 7"
    assert numbered([1, 3, 5, 6]) == "layers 1, 3 and 5–6"
