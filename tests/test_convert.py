"""Converted networks against twins in plain PyTorch, each written as its source computes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import fastunroll as fu
import numpy as np
import pytest
import torch
from fastunroll import convert
from sources import (
    ADOPTY,
    SIZES,
    ada_lista,
    ada_lista_lista,
    agree,
    copied,
    copied_one_iteration,
    copied_one_threshold,
    copied_thresholds,
    draw,
    hyperlista_alista,
    hyperlista_alista_plain,
    hyperlista_lista,
    na_alista,
    na_alista_at,
    na_alista_at_plain,
    na_alista_plain,
    own,
    own_tied,
    sparse_representation,
)
from sources_tensorflow import (
    onsager_lamp,
    onsager_lista,
    onsager_lista_coordinates,
    vita_alista,
    vita_cp,
    vita_lamp,
    vita_lista,
)

CASES: dict[str, tuple[Any, type]] = {
    "own": (own, fu.nn.LISTA),
    "own, tied": (own_tied, fu.nn.LISTA),
    "the copied LISTA": (copied, fu.nn.LISTA),
    "the copied LISTA, one iteration": (copied_one_iteration, fu.nn.LISTA),
    "the copied LISTA, thresholds": (copied_thresholds, fu.nn.LISTA),
    "the copied LISTA, one threshold": (copied_one_threshold, fu.nn.LISTA),
    "HyperLISTA, LISTA": (hyperlista_lista, fu.nn.LISTA),
    "HyperLISTA, ALISTA": (hyperlista_alista, fu.nn.ALISTA),
    "HyperLISTA, ALISTA without selection": (hyperlista_alista_plain, fu.nn.ALISTA),
    "na-alista": (na_alista, fu.nn.ALISTA),
    "na-alista without selection": (na_alista_plain, fu.nn.ALISTA),
    "na-alista, ALISTA-AT": (na_alista_at, fu.nn.ALISTA),
    "na-alista, ALISTA-AT without selection": (na_alista_at_plain, fu.nn.ALISTA),
    "AdaLISTA, LISTA": (ada_lista_lista, fu.nn.LISTA),
    "AdaLISTA": (ada_lista, fu.nn.LISTA),
    "sparse-representation": (sparse_representation, fu.nn.LISTA),
    "onsager, LISTA": (onsager_lista, fu.nn.LISTA),
    "onsager, LISTA by coordinates": (onsager_lista_coordinates, fu.nn.LISTA),
    "onsager, LAMP": (onsager_lamp("soft"), fu.nn.LAMP),
    "onsager, LAMP untied": (onsager_lamp("soft", untied=True), fu.nn.LAMP),
    "onsager, LAMP without scale": (onsager_lamp(None), fu.nn.LAMP),
    "onsager, LAMP Bernoulli-Gaussian": (onsager_lamp("bernoulli-gaussian"), fu.nn.LAMP),
    "LISTA-CPSS, LISTA": (vita_lista(True), fu.nn.LISTA),
    "LISTA-CPSS, LISTA untied": (vita_lista(False), fu.nn.LISTA),
    "LISTA-CPSS, LISTA-SS": (vita_lista(True, (10.0, 25.0)), fu.nn.LISTASS),
    "LISTA-CPSS, CP": (vita_cp(True), fu.nn.LISTACP),
    "LISTA-CPSS, CP untied": (vita_cp(False), fu.nn.LISTACP),
    "LISTA-CPSS, ALISTA": (vita_alista, fu.nn.ALISTA),
    "LISTA-CPSS, LAMP": (vita_lamp(True), fu.nn.LAMP),
    "LISTA-CPSS, LAMP untied": (vita_lamp(False), fu.nn.LAMP),
} | {
    f"adopty, {name}": (
        build,
        fu.nn.LISTA if "lista" in name[:5] else fu.nn.StepLISTA if name == "step"
        else fu.nn.ALISTA if "alista" in name else fu.nn.LISTACP,
    )
    for name, build in ADOPTY.items()
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_computes_the_same(name: str, size: tuple[int, int]) -> None:
    build, kind = CASES[name]
    m, n = size
    s, options, twin = build(m, n)
    net = convert.load_lista(s, **options)
    assert isinstance(net, kind)
    assert (net.m, net.n) == size
    agree(net, twin, m)
    arrays = {key: v.numpy() for key, v in s.items()}
    single = convert.load_lista({key: v.astype(np.float32) for key, v in arrays.items()}, **options)
    assert {p.dtype for p in single.parameters()} == {torch.float32}
    again = convert.load_lista(arrays, **options)
    y = draw(4, m)
    assert torch.equal(again(y), net(y))
    lazy = {key: torch._neg_view(-v) for key, v in s.items()}
    assert torch.equal(convert.load_lista(lazy, **options)(y), net(y))


@pytest.mark.parametrize("tied", [True, False])
def test_cpss(tied: bool) -> None:
    """Where percentages round to as many of n as of n − 1."""
    s, options, twin = vita_cp(tied, (10.0, 20.0))(20, 51)
    net = convert.load_lista(s, **options)
    assert isinstance(net, fu.nn.LISTACPSS)
    agree(net, twin, 20)


@pytest.mark.parametrize("name", [name for name in CASES if "LAMP" not in name])  # where b is differentiated otherwise
def test_gradients_with_respect_to_samples(name: str) -> None:
    s, options, twin = CASES[name][0](20, 51)
    net = convert.load_lista(s, **options)
    y = draw(13, 20).requires_grad_()
    weight = draw(13, 51)
    (found,) = torch.autograd.grad((net(y) * weight).sum(), y)
    (wanted,) = torch.autograd.grad((twin(y) * weight).sum(), y)
    assert (found - wanted).norm() <= 1e-10 * (1 + wanted.norm())


def test_what_the_source_shares_stays_shared() -> None:
    """The gradient of a shared tensor is that of the source; constants do not learn."""
    s, options, twin = hyperlista_lista(5, 9)
    net = convert.load_lista(s, **options)
    assert net.W1[0] is net.W1[1] is net.W1[2]
    assert len(list(net.parameters())) == 7
    s["B"].requires_grad_()
    y = draw(6, 5)
    net(y).square().sum().backward()
    twin(y).square().sum().backward()
    assert torch.allclose(net.W1[0].grad, s["B"].grad, rtol=1e-10)
    assert copy.deepcopy(net).W1[0] is not net.W1[0]
    plain = fu.nn.LISTA(m=5, n=9, layers=3, dtype=torch.float64)
    plain.load_state_dict(net.state_dict())
    assert torch.allclose(plain(y), net(y), rtol=1e-12)

    s, options, twin = sparse_representation(5, 9)
    net = convert.load_lista(s, **options)
    assert net.theta[0] is net.theta[2]
    s, options, twin = copied(5, 9)
    assert not any(t.requires_grad for t in convert.load_lista(s, **options).theta)


def test_a_threshold_of_zero() -> None:
    s, options, twin = na_alista(5, 9)
    s["theta.1"] = torch.zeros(1, dtype=torch.float64)
    net = convert.load_lista(s, **options)
    agree(net, twin, 5)
    assert net.layers_summary()[1]["threshold"] == 0


def test_files(tmp_path: Path) -> None:
    s, options, twin = copied(5, 9)
    for name, content in (("w.pt", s), ("w.pth", {"state_dict": s, "epoch": 3}), ("checkpoint", s)):
        torch.save(content, tmp_path / name)
        agree(convert.load_lista(tmp_path / name, **options), twin, 5)
        agree(convert.load_lista(str(tmp_path / name), **options), twin, 5)
    s, options, twin = onsager_lista(5, 9)
    records = {"done": np.array(["LISTA T=1"]), "log": np.array("nmse")}
    np.savez(tmp_path / "w.npz", **{k: v.numpy() for k, v in s.items()}, **records)
    agree(convert.load_lista(tmp_path / "w.npz", **options), twin, 5)


@pytest.mark.parametrize("prefix", ["module.", "model.encoder.", "scope/"])
def test_prefixes(prefix: str) -> None:
    for build in (copied, hyperlista_alista, onsager_lista, own, ADOPTY["coupled"]):
        s, options, twin = build(5, 9)
        agree(convert.load_lista({prefix + name: v for name, v in s.items()}, **options), twin, 5)
