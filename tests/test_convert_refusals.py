"""What load_lista refuses, and in which words."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fastunroll import convert
from sources import (
    ADOPTY,
    Arrays,
    ada_lista,
    ada_lista_lista,
    copied,
    copied_thresholds,
    draw,
    hyperlista_alista,
    na_alista,
    own,
    positive,
    sparse_representation,
)
from sources_tensorflow import (
    onsager_lamp,
    vita_alista,
    vita_cp,
    vita_lista,
)


def bad(build: Any, change: Arrays | None = None, drop: tuple[str, ...] = (), **options: Any) -> Callable[[], object]:
    """A conversion with some weights or options changed, and some left out."""

    def run() -> object:
        s, given, _ = build(5, 9)
        s, given = s | (change or {}), given | options
        return convert.load_lista(
            {k: v for k, v in s.items() if k not in drop}, **{k: v for k, v in given.items() if k not in drop}
        )

    return run


NAN = torch.full((9, 5), math.nan, dtype=torch.float64)
NEGATIVE = torch.full((1,), -0.1, dtype=torch.float64)
BAD: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "no mapping": (
        lambda: convert.load_lista(3), TypeError,
        "mapping must be a state dict, or the path of a .pt, .pth or .npz file, got int",
    ),
    "not a tensor": (
        bad(own, {"theta.0": 0.3}), TypeError,
        "theta.0 must be a torch.Tensor, got float: use torch.as_tensor(theta.0)",
    ),
    "whole numbers": (
        bad(own, {"theta.0": torch.tensor(1)}), TypeError,
        "theta.0 must be floating point, got torch.int64: use theta.0.float()",
    ),
    "not finite": (
        bad(own, {"W1.1": NAN}), ValueError,
        "W1.1 must be finite, but it holds NaN or infinity: check how it was computed",
    ),
    "complex": (
        bad(na_alista, A=draw(5, 9).to(torch.complex128)), TypeError,
        "A must be real, got torch.complex128: this operation is defined for real data",
    ),
    "AdaLISTA, no steps": (
        bad(ada_lista_lista, {"etas": draw(0, 1, 1)}), ValueError,
        "the number of etas must be a whole number ≥ 1, got 0",
    ),
    "a gap": (
        bad(own, drop=("W2.1",)), ValueError, "W2.1 is missing: layers are numbered from 0 to 2, without a gap",
    ),
    "the first is missing": (
        bad(own, drop=("theta.0",)), ValueError,
        "theta.0 is missing: layers are numbered from 0 to 2, without a gap",
    ),
    "the last is missing": (
        bad(own, drop=("W2.2",)), ValueError,
        "the mapping must hold 1 or 3 W2.{k}, as it holds 3 theta.{k}, got 2: add the missing layers",
    ),
    "one of a pair is missing": (
        bad(na_alista, drop=("theta.3",)), ValueError,
        "each layer must have both gamma.{k} and theta.{k}, got 4 and 3: add the missing layers",
    ),
    "a shape": (
        bad(own, {"W1.2": draw(9, 6)}), ValueError, "W1.2 must be (9, 5) to fit the other tensors, got (9, 6)",
    ),
    "not a matrix": (
        bad(copied, {"_W.weight": draw(9)}), ValueError,
        "_W.weight must be a matrix (m, n) with m, n ≥ 1, got shape (9,)",
    ),
    "not square": (
        bad(copied, {"_S.weight": draw(9, 8)}), ValueError,
        "_S.weight must be (9, 9) to fit the other tensors, got (9, 8)",
    ),
    "a threshold's shape": (
        bad(own, {"theta.1": positive(4)}), ValueError, "theta.1 must hold 1 or 9 value(s), got shape (4,)",
    ),
    "an unknown option": (
        bad(own, max_iter=3), TypeError, "fastunroll's LISTA takes no options, got max_iter",
    ),
    "an option of another": (
        bad(copied, lam=3), TypeError, "the _W/_S LISTA takes layers, max_iter, theta, got lam",
    ),
    "A of another size": (
        bad(own, A=draw(4, 9)), ValueError, "A is (4, 9), but the mapping holds a network of m = 5 and n = 9",
    ),
    "copied, no threshold": (
        bad(copied, drop=("theta",)), ValueError, "the _W/_S LISTA does not store its threshold: give theta=",
    ),
    "copied, a negative threshold": (
        bad(copied, theta=-0.1), ValueError, "theta must be a finite number ≥ 0, got -0.1",
    ),
    "copied, no layers": (
        bad(copied, drop=("max_iter",)), ValueError,
        "the _W/_S LISTA does not store its number of layers: give either layers=, the number of shrinkages, "
        "or max_iter=, which stands for max_iter + 1 shrinkages, or for 1 if it is 1",
    ),
    "copied, layers twice": (
        bad(copied, layers=3), ValueError,
        "the _W/_S LISTA does not store its number of layers: give either layers=, the number of shrinkages, "
        "or max_iter=, which stands for max_iter + 1 shrinkages, or for 1 if it is 1",
    ),
    "copied, layers": (
        bad(copied, drop=("max_iter",), layers=0), ValueError, "layers must be a whole number ≥ 1, got 0",
    ),
    "copied, two thresholds": (
        bad(copied_thresholds, theta=0.1), ValueError,
        "theta must not be given, because the mapping stores it as thr: leave out theta=",
    ),
    "copied, thr's shape": (
        bad(copied_thresholds, {"thr": positive(4, 2)}), ValueError,
        "thr must hold one value, or K values in the shape (K, 1), got shape (4, 2)",
    ),
    "copied, thr is negative": (
        bad(copied_thresholds, {"thr": NEGATIVE}), ValueError,
        "thr must be ≥ 0, but it is negative in layer 0, where the _W/_S LISTA doubles small values and no "
        "network of fastunroll does: retrain with thr ≥ 0",
    ),
    "copied, thr and layers": (
        bad(copied_thresholds, layers=3), ValueError,
        "layers and max_iter must not be given, because thr has 4 layers: leave them out",
    ),
    "copied, some of thr are negative": (
        bad(copied_thresholds, {"thr": torch.tensor([[0.1], [-0.1], [0.2], [-0.3]])}), ValueError,
        "thr must be ≥ 0, but it is negative in layer 1, 3, where the _W/_S LISTA doubles small values and no"
        " network of fastunroll does: retrain with thr ≥ 0",
    ),
    "HyperLISTA, no selection": (
        bad(hyperlista_alista, drop=("selection",)), ValueError,
        "HyperLISTA's ALISTA does not store its support selection: give selection=, two percentages (growth "
        "per layer, maximum), or None if all elements are shrunk",
    ),
    "HyperLISTA, selection": (
        bad(hyperlista_alista, selection=3.0), ValueError,
        "selection must be two percentages, (growth per layer, maximum), or None, got 3.0: the literature uses "
        "(1.2, 13.0)",
    ),
    "na-alista, no A": (bad(na_alista, drop=("A",)), ValueError, "na-alista does not store A: give A="),
    "na-alista, no network": (
        bad(na_alista, drop=("network",)), ValueError,
        'na-alista does not tell which network it is: give network=, "ALISTA" or "ALISTA-AT"',
    ),
    "na-alista, an unknown network": (
        bad(na_alista, network="AGLISTA"), ValueError, 'network must be "ALISTA" or "ALISTA-AT", got \'AGLISTA\'',
    ),
    "na-alista, no W": (
        bad(na_alista, drop=("W",)), ValueError,
        "na-alista does not store W: give W=, such as fastunroll.nn.analytic_weights(A)",
    ),
    "na-alista, no p": (
        bad(na_alista, drop=("p",)), ValueError,
        "na-alista does not store p, the support size of each layer: give p=, or p=0 to shrink all",
    ),
    "na-alista, p": (
        bad(na_alista, p=[1, 2]), ValueError,
        "p must be an integer from 0 to n = 9, or a list of 4 such integers, got [1, 2]",
    ),
    "na-alista, W": (
        bad(na_alista, W=draw(9, 5)), ValueError, "W must be (5, 9) to fit the other tensors, got (9, 5)",
    ),
    "adopty, no lambda": (
        bad(ADOPTY["coupled"], drop=("lam",)), ValueError, "adopty does not store λ: give lam=",
    ),
    "adopty, no A": (bad(ADOPTY["coupled"], drop=("A",)), ValueError, "adopty does not store A: give A="),
    "adopty, no A for the threshold": (
        bad(ADOPTY["lista, thresholds not learned"], drop=("A",)), ValueError,
        "adopty without thresholds uses λ/‖A‖² as threshold, but does not store A: give A=",
    ),
    "adopty, a gap": (
        bad(ADOPTY["step"], drop=("layer1-step_size",)), ValueError,
        "layer1 is missing: layers are numbered from 0 to 3, without a gap",
    ),
    "adopty, half a layer": (
        bad(ADOPTY["lista"], drop=("layer2-Wz",)), ValueError, "layer2-Wz is missing: each layer needs Wx and Wz",
    ),
    "adopty, a layer far away": (
        bad(ADOPTY["step"], {"layer987654321-step_size": positive(1)}), ValueError,
        "layer4 is missing: layers are numbered from 0 to 987654321, without a gap",
    ),
    "adopty, square": (
        lambda: convert.load_lista(ADOPTY["lista"](5, 5)[0], lam=0.1), ValueError,
        'adopty does not tell which of its square matrices multiplies y: give of_y=, "Wx" or "Wz"',
    ),
    "adopty, A is zero": (
        bad(ADOPTY["step"], A=torch.zeros(5, 9)), ValueError,
        "A must not be zero: the step size 1/‖A‖² would be infinite",
    ),
    "AdaLISTA, no lambda": (
        bad(ada_lista_lista, drop=("lam",)), ValueError, "AdaLISTA's LISTA does not store λ, its lambd: give lam=",
    ),
    "AdaLISTA, steps": (
        bad(ada_lista_lista, {"gammas": positive(3, 1, 1)}), ValueError,
        "gammas must hold 4 value(s), got shape (3, 1, 1)",
    ),
    "Ada-LISTA, no A": (bad(ada_lista, drop=("A",)), ValueError, "Ada-LISTA does not store A: give A="),
    "Ada-LISTA, reversed": (
        bad(ada_lista, {"W1.weight": draw(5, 9)}), ValueError,
        "W1.weight must be (5, 5) to fit the other tensors, got (5, 9)",
    ),
    "sparse-representation, no layers": (
        bad(sparse_representation, drop=("layers",)), ValueError,
        "sparse-representation does not store its number of layers: give layers=, its n_folds",
    ),
    "LAMP, no A": (
        bad(onsager_lamp("soft"), drop=("A",)), ValueError, "onsager_deep_learning's LAMP does not store A: give A=",
    ),
    "LAMP, no shrinkage": (
        bad(onsager_lamp("soft"), drop=("shrinkage",)), ValueError,
        "onsager_deep_learning's LAMP does not tell which shrinkage it has: give shrinkage=, "
        '"soft" or "bernoulli-gaussian"',
    ),
    "LAMP, an unknown shrinkage": (
        bad(onsager_lamp("soft"), shrinkage="spline"), ValueError,
        "shrinkage must be \"soft\" or \"bernoulli-gaussian\", got 'spline'",
    ),
    "LAMP, another shrinkage": (
        bad(onsager_lamp("soft"), {"theta_1:0": positive(5)}), ValueError,
        "theta_1:0 must hold 1 or 2 values for the soft shrinkage, or 2 for the Bernoulli-Gaussian shrinkage,"
        " got 5: LAMP of fastunroll has no other shrinkage",
    ),
    "LAMP, one value": (
        bad(onsager_lamp(None), shrinkage="bernoulli-gaussian"), ValueError,
        "the Bernoulli-Gaussian shrinkage must have 2 values in each layer, but some layers have 1: use "
        'shrinkage="soft"',
    ),
    "LAMP, matrices": (
        bad(onsager_lamp("soft", untied=True), drop=("B_3:0",)), ValueError,
        "the mapping must hold 1 or 4 matrices B, got 3: add the missing layers",
    ),
    "LISTA-CPSS, matrices": (
        bad(vita_cp(False), drop=("W_3:0",)), ValueError,
        "the mapping must hold 1 or 3 matrices W, got 2: add the missing layers",
    ),
    "LISTA-CPSS, no W for ALISTA": (
        bad(vita_alista, drop=("W",)), ValueError, "LISTA-CPSS's ALISTA does not store W: give W=",
    ),
    "LISTA-CPSS, no selection": (
        bad(vita_cp(True), drop=("selection",)), ValueError,
        "LISTA-CPSS's LISTA-CP does not store its support selection: give selection=, two percentages (growth"
        " per layer, maximum), or None if all elements are shrunk",
    ),
    "LISTA-CPSS, no selection for LISTA": (
        bad(vita_lista(True), drop=("selection",)), ValueError,
        "LISTA-CPSS's LISTA does not store its support selection: give selection=, two percentages (growth "
        "per layer, maximum), or None if all elements are shrunk",
    ),
    "LISTA-CPSS, no selection for ALISTA": (
        bad(vita_alista, drop=("selection",)), ValueError,
        "LISTA-CPSS's ALISTA does not store its support selection: give selection=, two percentages (growth "
        "per layer, maximum), or None if all elements are shrunk",
    ),
    "Ada-LISTA, no network": (
        bad(ada_lista, drop=("network",)), ValueError,
        'Ada-LISTA does not tell which network it is: give network=, "Ada-LISTA" or "Ada-LFISTA"',
    ),
    "Ada-LFISTA": (
        bad(ada_lista, network="Ada-LFISTA"), ValueError,
        "Ada-LFISTA cannot be converted: its thresholds follow a momentum that no network of fastunroll has",
    ),
    "a converted network": (
        lambda: convert.load_lista(convert.load_lista(na_alista(5, 9)[0], **na_alista(5, 9)[1]).state_dict()),
        ValueError,
        "a network that load_lista has made cannot be converted: its state dict lacks a part of the network, "
        "so load its source again",
    ),
    "overflow": (
        bad(ada_lista_lista, {"gammas": 1e300 * positive(4, 1, 1), "A.weight": 1e100 * draw(9, 5)}), ValueError,
        "W1.0 must be finite, but it overflows torch.float64 in the conversion: scale weights down",
    ),
    "NA-ALISTA": (
        lambda: convert.load_lista({"regressor.hidden": draw(3), "regressor.lstm.bias_hh": draw(3)}), ValueError,
        "NA-ALISTA cannot be converted: its steps and thresholds come from an LSTM, which no network of "
        "fastunroll has",
    ),
    "AGLISTA": (
        bad(na_alista, {f"{name}.0": positive(1) for name in ("a", "v", "vu", "theta_initial")}), ValueError,
        "AGLISTA cannot be converted: its gain multiplies x in the residual only, and the gain of GLISTA "
        "multiplies x everywhere",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refusals(name: str) -> None:
    call, kind, message = BAD[name]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], "no names"),
        (["conv1.weight", "conv1.bias"], "conv1.bias, conv1.weight"),
        (["W1.0", "W2.0", "theta.0", "gate.0"], "W1.0, W2.0, gate.0, theta.0"),
        (
            [f"l.{k}" for k in range(20)],
            "l.0, l.1, l.10, l.11, l.12, l.13, l.14, l.15, l.16, l.17, l.18, l.19 and 8 more",
        ),
    ],
)
def test_an_unknown_mapping(names: list[str], found: str) -> None:
    with pytest.raises(ValueError, match="the names of the mapping must be") as caught:
        convert.load_lista({name: draw(3) for name in names})
    assert str(caught.value) == (
        "the names of the mapping must be those of a network that help(fastunroll.convert.load_lista) lists, got "
        f"{found}: rename the tensors, or build the network with fastunroll.nn"
    )


def test_a_file_with_more_than_tensors(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(5, 9), tmp_path / "w.pt")
    with pytest.raises(ValueError, match="holds more than tensors") as caught:
        convert.load_lista(tmp_path / "w.pt")
    assert str(caught.value).endswith("save the weights alone with torch.save(model.state_dict(), path)")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        convert.load_lista(tmp_path / "w.pt")
