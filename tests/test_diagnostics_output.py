"""Reports as text, figure and data; and what is refused."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import fastunroll as fu
import pytest
import torch
from fastunroll.diagnostics import Report, report
from reports import (
    LAM,
    N,
    Plain,
    needs_matplotlib,
    problem,
)
from torch import nn


def test_as_dict_has_it_all() -> None:
    A, y, x_true = problem(3)
    found = report(fu.nn.LISTACP(A, layers=2), y, x_true, lam=LAM)
    data = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert data["layers"] == found.layers
    assert data["decomposition"]["layers"] == found.decomposition.layers
    assert data["decomposition"]["rho"] == found.decomposition.rho
    assert data["findings"] == found.findings
    assert set(data) == {"model", "samples", "layers", "parameters", "decomposition", "remarks", "findings"}


def test_columns_are_aligned() -> None:
    A, y, x_true = problem(3)
    _, table, _, parts, _ = str(report(fu.nn.LFISTA(A, layers=11), y, x_true, A=A, lam=LAM)).split("\n\n")
    for text in (table, parts):
        assert len({len(line) for line in text.splitlines()}) == 1


@needs_matplotlib
@pytest.mark.parametrize("case", ["full", "without truth", "bare", "no signal, one layer", "start at truth"])
def test_plot(case: str, tmp_path: Path) -> None:
    A, y, x_true = problem(3)
    net = fu.nn.GLISTA(A, layers=1 if "one" in case else 4)
    found = {
        "full": lambda: report(net, y, x_true, lam=LAM),
        "without truth": lambda: report(net, y, lam=LAM),
        "bare": lambda: report(Plain(A), y),
        "no signal, one layer": lambda: report(net, 0 * y, 0 * x_true, lam=LAM),
        "start at truth": lambda: report(net, y, 0 * x_true, lam=LAM),
    }[case]()
    path = tmp_path / "layers.png"
    figure = found.plot(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    titles = {axes.get_title() for axes in figure.axes}
    assert ("error, NMSE in dB" in titles) == ("nmse_db" in found.layers.columns)
    assert any(title.startswith("distance") for title in titles) == (case != "bare")


@needs_matplotlib
def test_plot_at_once(tmp_path: Path) -> None:
    A, y, _ = problem(3)
    report(fu.nn.LFISTA(A, layers=2), y, plot=str(tmp_path / "layers.png"))
    assert (tmp_path / "layers.png").stat().st_size > 0


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    A, y, _ = problem(3)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    found = report(fu.nn.LISTACP(A, layers=2), y)  # needs none
    for make in (found.plot, lambda: report(fu.nn.LISTACP(A, layers=2), y, plot="x.png")):
        with pytest.raises(ImportError, match="pip install matplotlib"):
            make()


def _broken(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        net.log_theta[1].fill_(math.nan)
    return net


A0, Y0, X0 = problem(4)
NET = fu.nn.LISTACP(A0, layers=3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: report(NET, Y0[:, :-1]), ValueError, r"y has 10 columns but A is \(11, 17\)"),
        (lambda: report(NET, Y0[:0]), ValueError, r"at least one sample, got shape \(0, 11\)"),
        (lambda: report(NET, Y0.tolist()), TypeError, "y must be a torch.Tensor"),
        (lambda: report(NET, Y0 * math.nan), ValueError, "y must be finite"),
        (lambda: report(NET, Y0, X0[:-1]), ValueError, r"x_true must have the shape .* \(4, 17\), got \(3, 17\)"),
        (lambda: report(NET, Y0, X0 / 0), ValueError, "x_true must be finite"),
        (lambda: report(NET, Y0, X0.int()), TypeError, "x_true must be floating point"),
        (lambda: report(fu.nn.LISTA(A0), Y0, lam=0.1), ValueError, "but A is not known: give A too"),
        (lambda: report(NET, Y0, A=A0), ValueError, "but lam is not known: give lam too"),
        (lambda: report(NET, Y0, A=A0[:-1], lam=0.1), ValueError, r"y has 11 columns but A is \(10, 17\)"),
        (lambda: report(NET, Y0, A=A0[:, 1:], lam=0.1), ValueError, r"model has 17 columns but A is \(11, 16\)"),
        (lambda: report(NET, Y0, A=0 * A0, lam=0.1), ValueError, "A must not be zero"),
        (lambda: report(NET, Y0, lam=-1), ValueError, "lam must be a finite number ≥ 0"),
        (lambda: report(NET, Y0, lam=-torch.ones(N)), ValueError, "lam must be a number ≥ 0 .* got negative numbers"),
        (lambda: report(NET, Y0, lam=torch.ones(3)), ValueError, r"\(17,\) numbers ≥ 0, got shape \(3,\)"),
        (lambda: report(NET, Y0, lam=torch.tensor(math.inf)), ValueError, "lam must be finite"),
        (lambda: report(NET, Y0, ideal=lambda x, y: x), ValueError, "ideal needs a reference solution"),
        (lambda: report(NET, Y0, X0, ideal=lambda x, y: y), ValueError, r"shape of x, \(4, 17\), got \(4, 11\)"),
        (lambda: report(NET, Y0, X0, ideal=lambda x, y: x / 0), ValueError, "ideal must return finite values, got NaN"),
        (lambda: report(_broken(fu.nn.LISTACP(A0, layers=3)), Y0), ValueError, "layer 2 of 3 is the first whose"),
        (
            lambda: report(fu.nn.Unrolled(fu.schemes.ProximalGradient(), A0, fu.prox.L1(), None), Y0),
            ValueError,
            "model must have K layers, but an equilibrium network has none: make it with layers=K",
        ),
        (lambda: report(lambda y, return_layers: y[0], Y0), ValueError, r"shape \(K, 4, n\), got \(11,\)"),
        (lambda: report(lambda y, return_layers: [y], Y0), TypeError, "the output of the model must be a torch.Tensor"),
    ],
)
def test_refused(call: Callable[[], Report], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
