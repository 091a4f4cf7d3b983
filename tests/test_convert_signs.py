"""Trained weights may hold negative steps and thresholds: their networks compute what the source computes with them."""

from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll import convert
from fastunroll.convert.converted import Converted
from sources import Arrays, agree, draw
from sources_tensorflow import onsager_lamp, vita_cp, vita_lista
from test_convert import CASES
from torch import Tensor

# The last part of a name, by what it is. A power and a density of Bernoulli-Gaussian LAMP have these names too.
STEPS = r"(gammas?|etas|alpha_\d+:0|step_size|lr)"
THRESHOLDS = r"(theta|threshold|soft_shrink\.lambd|lam_\d+:0|theta_\d+:0)"
PARTS = {"steps": STEPS, "thresholds": THRESHOLDS, "both": f"({STEPS}|{THRESHOLDS})"}
EVERY = {name: build for name, (build, _) in CASES.items() if name != "own, tied"} | {  # whose twin is a solver
    "LISTA-CPSS, LISTA-SS untied": vita_lista(False, (10.0, 25.0)),
    "LISTA-CPSS, CPSS": vita_cp(True, (10.0, 25.0)),
    "LISTA-CPSS, CPSS untied": vita_cp(False, (10.0, 25.0)),
    "LISTA-CPSS, CPSS, other counts": vita_cp(True, (17.0, 100.0)),
}


def names_of(s: Arrays, part: str) -> list[str]:
    end = re.compile(rf"(.*[/-])?{PARTS[part]}(\.\d+)?")
    return [name for name in s if end.fullmatch(name)]


def turn(s: Arrays, part: str) -> bool:
    """Turns the signs of half of the numbers in place, which the twin sees; whether there are any."""
    names = names_of(s, part)
    for i, name in enumerate(names):
        sign = torch.ones_like(s[name])
        sign.view(-1)[i % 2 :: 2] = -1
        s[name].mul_(sign)
    return bool(names)


WITH = [(name, part) for name, build in EVERY.items() for part in PARTS if names_of(build(5, 9)[0], part)]


@pytest.mark.parametrize(("name", "part"), WITH)
def test_negative_numbers_give_the_same_function(name: str, part: str) -> None:
    build: Any = EVERY[name]
    for m, n in ((5, 9), (9, 4), (20, 51)):
        s, options, twin = build(m, n)
        assert turn(s, part)
        net = convert.load_lista(s, **options)
        agree(net, twin, m)
        assert isinstance(net, CASES[name][1] if name in CASES else fu.nn.UnrolledNetwork)
        y = draw(4, m)
        assert torch.equal(copy.deepcopy(net)(y), net(y))
        assert torch.equal(pickle.loads(pickle.dumps(net))(y), net(y))
        assert torch.equal(net(y, return_layers=True)[-1], net(y))
        if "LAMP" not in name:  # where Onsager's term is differentiated otherwise
            y = draw(7, m).requires_grad_()
            weight = draw(7, n)
            (found,) = torch.autograd.grad((net(y) * weight).sum(), y)
            (wanted,) = torch.autograd.grad((twin(y) * weight).sum(), y)
            assert (found - wanted).norm() <= 1e-10 * (1 + wanted.norm())


def test_every_kind_of_number_is_in_the_table() -> None:
    without = {  # the copied LISTA, whose negative thresholds are refused, and what has constants
        "the copied LISTA", "the copied LISTA, one iteration", "the copied LISTA, thresholds",
        "the copied LISTA, one threshold", "adopty, lista, thresholds not learned",
        "adopty, coupled, thresholds not learned",
    }  # fmt: skip
    assert {name for name, _ in WITH} == EVERY.keys() - without
    kinds = {type(convert.load_lista(s, **options)) for s, options in (_turned(name, part) for name, part in WITH)}
    assert {kind.__name__ for kind in kinds if issubclass(kind, Converted)} == {
        "ConvertedALISTA", "ConvertedLISTACP", "ConvertedLISTACPSS", "ConvertedLISTASS", "ConvertedStepLISTA",
        "TopALISTA", "AdaptiveALISTA",
    }  # fmt: skip


def _turned(name: str, part: str) -> tuple[Arrays, Arrays]:
    build: Any = EVERY[name]
    s, options, _ = build(5, 9)
    turn(s, part)
    return s, options


@pytest.mark.parametrize(
    "name", ["na-alista", "na-alista without selection", "HyperLISTA, ALISTA", "LISTA-CPSS, CPSS", "adopty, step"]
)
def test_logarithms_learn_as_magnitudes_do(name: str) -> None:
    """dL/d log|t| = t·dL/dt, of the source."""
    s, options, twin = EVERY[name](8, 13)  # type: ignore[operator]
    turn(s, "both")
    net = convert.load_lista(s, **options)
    numbers = [s[k] for k in names_of(s, "thresholds" if name != "adopty, step" else "steps")]
    learned: Any = net.log_theta if name != "adopty, step" else net.log_step
    y, weight = draw(7, 8), draw(7, 13)
    found = torch.autograd.grad((net(y) * weight).sum(), list(learned))
    for t in numbers:
        t.requires_grad_()
    wanted = torch.autograd.grad((twin(y) * weight).sum(), numbers)
    for f, w, t in zip(found, wanted, numbers, strict=True):
        assert torch.allclose(f.reshape(-1), (w * t).reshape(-1), rtol=1e-9, atol=1e-12)


def test_signs_do_not_change_in_training() -> None:
    s, options, _ = EVERY["na-alista without selection"](8, 13)  # type: ignore[operator]
    turn(s, "both")
    net = convert.load_lista(s, **options)
    before = net.layers_summary()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        net(draw(7, 8)).square().sum().backward()
        optimizer.step()
    for row, old in zip(net.layers_summary(), before, strict=True):
        for name in ("step", "threshold"):
            assert row[name] * old[name] > 0
            assert row[name] != old[name]


def test_a_negative_scale_of_lamp_moves_and_learns() -> None:
    s, options, twin = onsager_lamp("soft")(5, 9)
    for k in (0, 2):
        s[f"theta_{k}:0"][1] *= -1
    net = convert.load_lista(s, **options)
    agree(net, twin, 5)
    assert [row["gain"] < 0 for row in net.layers_summary()] == [True, False, True, False]
    net(draw(3, 5)).square().sum().backward()
    assert all(isinstance(p.grad, Tensor) for p in net.parameters())
    assert net.float()(draw(3, 5).float()).dtype == torch.float32


@pytest.mark.parametrize("name", ["na-alista", "adopty, step"])
@pytest.mark.usefixtures("_quiet_torch")
def test_compiled_and_exported(name: str) -> None:
    s, options, _ = EVERY[name](5, 9)  # type: ignore[operator]
    turn(s, "both")
    net, y = convert.load_lista(s, **options), draw(4, 5)
    assert torch.equal(torch.compile(net, fullgraph=True, backend="aot_eager")(y), net(y))
    assert torch.equal(torch.export.export(net, (y,)).module()(y), net(y))
