"""Reports of numbers that are hard to look at: infinite, not a number, far from 1, of half precision."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll.diagnostics import Report, report
from reports import LAM, NETWORKS, N, needs_matplotlib, problem
from torch import Tensor, nn


def readable(found: Report, plot: bool = True) -> str:
    """The text; it is not asked what a figure shows, but that there is one."""
    json.dumps(found.as_dict(), allow_nan=False)
    if plot:
        found.plot()
    return str(found)


def edited(name: str, edit: Callable[[Any], object]) -> nn.Module:
    net: nn.Module = getattr(fu.nn, name)(problem()[0], layers=3)
    with torch.no_grad():
        edit(net)
    return net


@needs_matplotlib
@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda net: net.log_theta[1].fill_(math.inf), "The threshold of layer 2 is infinite, so the output is zero."),
        (
            lambda net: [t.fill_(math.inf) for t in net.log_theta],
            "The thresholds of layers 1–3 are infinite, so the output is zero.",
        ),
        (lambda net: net.log_theta[1].fill_(-math.inf), "The threshold of layer 2 is practically zero."),
        (
            lambda net: [t.fill_(-math.inf) for t in net.log_theta],
            "All thresholds are zero, so no layer shrinks anything.",
        ),
    ],
    ids=["one infinite", "all infinite", "one zero", "all zero"],
)
def test_thresholds_at_the_ends(edit: Callable[[Any], object], words: str) -> None:
    _, y, x_true = problem(6)
    assert words in readable(report(edited("LISTACP", edit), y, x_true, lam=LAM))


@needs_matplotlib
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_parameter_without_effect(value: float) -> None:
    """The last dual step of ADMM changes no output."""
    _, y, x_true = problem(6)
    found = report(edited("ADMMNet", lambda net: net.log_eta[2].fill_(value)), y, x_true, lam=LAM)
    assert found.layers[-1]["nmse_db"] < 0
    readable(found)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_first_layer_that_breaks_is_named(name: str, value: float) -> None:
    A, y, _ = problem(4)
    net = getattr(fu.nn, name)(A, layers=3)
    y[2, 5] = value
    with pytest.raises(ValueError, match="y must be finite, but it holds NaN or infinity"):
        report(net, y)
    with torch.no_grad():
        for t in [*net.parameters(), *net.buffers()]:
            t.fill_(math.nan)
    with pytest.raises(ValueError, match="layer 1 of 3 is the first whose output holds NaN or infinity"):
        report(net, torch.ones_like(y).nan_to_num())


@needs_matplotlib
@pytest.mark.parametrize("exponent", [-900, -500, 500, 900])
@pytest.mark.parametrize("known", [False, True], ids=["lasso", "truth"])
def test_any_scale(known: bool, exponent: int) -> None:
    """Squares vanish or overflow, even in double precision; what is relative stays."""
    _, y, x_true = problem(6)
    found = []
    for s in (1.0, 2.0**exponent):
        net = edited("LISTACP", lambda net, s=s: [t.add_(math.log(s)) for t in net.log_theta])
        found.append(report(net, s * y, s * x_true if known else None, lam=s * LAM))
    for row, wanted in zip(found[1].layers, found[0].layers, strict=True):
        for name in ("density", "update", "kkt_residual", *(("nmse_db", "mean_db") if known else ())):
            assert row[name] == pytest.approx(wanted[name], rel=1e-6)
    for a, b in zip(found[1].decomposition.layers, found[0].decomposition.layers, strict=True):  # type: ignore[union-attr]
        assert a["rate"] == pytest.approx(b["rate"], rel=1e-4)
    assert found[1].findings[0] == found[0].findings[0]  # what moves
    readable(found[1])


class Diverging(nn.Module):
    """Layer k returns 10^(100 k), or ``most`` where that is less."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most = most

    def forward(self, y: Tensor, return_layers: bool = False) -> Tensor:
        sizes = [min(10.0 ** (100 * k), self.most) for k in (1, 2, 3)]
        every = torch.stack([y.new_full((*y.shape[:-1], N), size) for size in sizes])
        return every if return_layers else every[-1]


@needs_matplotlib
@pytest.mark.parametrize("most", [1e150, 1e200, 1e300])
def test_a_network_that_diverges(most: float) -> None:
    A, y, x_true = problem(6)
    for truth in (x_true, None):
        text = readable(report(Diverging(most), y, truth, A=A, lam=LAM))
        assert "it worse." in text or "There is no finite bound" in text


@needs_matplotlib
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NETWORKS)
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    A, y, x_true = problem(4)
    found = report(getattr(fu.nn, name)(A, layers=3).to(dtype), y.to(dtype), x_true, A=A, lam=LAM)
    wanted = report(getattr(fu.nn, name)(A, layers=3), y, x_true, A=A, lam=LAM)
    assert found.layers[-1]["nmse_db"] == pytest.approx(wanted.layers[-1]["nmse_db"], abs=0.5)
    readable(found, plot=False)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_lambda_as_a_tensor(shape: tuple[int, ...]) -> None:
    A, y, x_true = problem(4)
    net = fu.nn.LISTACP(A, layers=3)
    found = report(net, y, x_true, lam=torch.full(shape, LAM, dtype=torch.float64))
    assert found.layers == report(net, y, x_true, lam=LAM).layers


def test_a_figure_that_cannot_be_written_is_refused_first() -> None:
    def never(y: Tensor, return_layers: bool = False) -> Tensor:
        raise AssertionError

    with pytest.raises(FileNotFoundError, match=r"^plot must be in a folder that exists, got 'nowhere/found\.png'$"):
        report(never, problem(2)[1], plot="nowhere/found.png")
