"""The state dict of every network of ``nn`` loads; what it does not hold is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll import convert
from networks import ALL, COMPLEX, B, K, M, matrix, moved
from torch import Tensor

# What a state dict does not hold, by the kind of network: options of load_lista that are taken from the network.
ASKED: dict[str, tuple[str, ...]] = {
    "ALISTA": ("network", "selection"), "TiLISTA": ("network", "selection"), "GLISTA": ("gain", "selection"),
    "HyperLISTA": ("layers",), "LISTACP": ("selection",), "LISTACPSS": ("selection",), "LISTASS": ("selection",),
    "StepLISTA": ("lam",), "LISTA": (), "LFISTA": (), "ADMMNet": (), "LAMP": (), "LVAMP": (),
}  # fmt: skip


def options_of(net: Any) -> dict[str, Any]:
    return {name: type(net).__name__ if name == "network" else getattr(net, name) for name in ASKED[type(net).__name__]}


def build(label: str, dtype: torch.dtype = torch.float64) -> Any:
    return moved(ALL[label](matrix(dtype=dtype)))


def shaped(state: dict[str, Tensor], shape: tuple[int, ...]) -> dict[str, Tensor]:
    """With numbers in this shape: versions have kept them as () and (1,)."""
    return {name: t.reshape(shape) if t.numel() == 1 and t.dim() < 2 else t for name, t in state.items()}


def test_the_table_has_every_network() -> None:
    kinds = {name for name in fu.nn.__all__ if isinstance(getattr(fu.nn, name), type)}
    assert ASKED.keys() == kinds - {"DnCNN", "ISTALayer", "SoftThreshold", "Unrolled", "UnrolledNetwork"}
    assert ASKED.keys() == {label.split("-")[0] for label in ALL}


@pytest.mark.parametrize("label", ALL)
def test_loads_to_the_same_bits(label: str, tmp_path: Path) -> None:
    net = build(label)
    state, options = net.state_dict(), options_of(net)
    y = torch.randn(B, M, dtype=torch.float64)
    wanted = net(y)
    torch.save(state, tmp_path / "w.pt")
    arrays = {name: t.numpy() for name, t in state.items()}
    prefixed = {f"module.{name}": t for name, t in state.items()}
    for given in (state, tmp_path / "w.pt", arrays, prefixed, shaped(state, ()), shaped(state, (1,))):
        found = convert.load_lista(given, **options)
        assert type(found) is type(net)
        assert torch.equal(found(y), wanted)
        assert repr(found) == repr(net)
        assert {name for name, _ in found.named_parameters()} == {name for name, _ in net.named_parameters()}
        assert all(p.requires_grad for p in found.parameters())
        assert {k: v.shape for k, v in found.state_dict().items()} == {k: v.shape for k, v in state.items()}
    next(iter(found.parameters())).data.zero_()
    assert torch.equal(net(y), wanted)  # they share no memory


@pytest.mark.parametrize("label", COMPLEX)
def test_complex_networks(label: str) -> None:
    net = build(label, torch.complex64)
    found = convert.load_lista(net.state_dict(), **options_of(net))
    y = torch.randn(B, M, dtype=torch.complex64)
    assert torch.equal(found(y), net(y))


@pytest.mark.parametrize("label", ALL)
def test_what_it_does_not_hold_is_asked_for(label: str) -> None:
    net = build(label)
    options = options_of(net)
    for name in options:
        others = {k: v for k, v in options.items() if k != name}
        with pytest.raises(ValueError, match=f"give {name}=") as raised:
            convert.load_lista(net.state_dict(), **others)
        assert "\n" not in str(raised.value)
    with pytest.raises(TypeError, match=r"takes .*, got max_iter"):
        convert.load_lista(net.state_dict(), max_iter=3, **options)


# Without these a state dict is that of a network with a layer less, and nothing tells.
FEWER_LAYERS = {
    f"StepLISTA log_step.{K - 1}", f"LISTA-tied=True-threshold=vector theta.{K - 1}",
    f"LISTACP-tied=True-threshold=vector log_theta.{K - 1}",
}  # fmt: skip


@pytest.mark.parametrize("label", ALL)
def test_damaged_state_dicts(label: str) -> None:
    """Each tensor in turn is missing, of another shape, another dtype, not finite, or no tensor."""
    net = build(label)
    state, options = net.state_dict(), options_of(net)
    for name, t in state.items():
        damages: list[Any] = [
            torch.zeros(2, 3, 4), t.to(torch.int64), torch.full_like(t, torch.nan), torch.full_like(t, torch.inf), "x",
            None, t.to("meta"), torch.zeros(0),
        ]  # fmt: skip
        if not isinstance(net, fu.nn.LISTA):  # which is brought to the widest type, as other sources are
            damages.append(t.to(torch.float16))
        wrong = [state | {name: damage} for damage in damages] + [state | {f"{name}.more": t}]
        if f"{label} {name}" not in FEWER_LAYERS:
            wrong.append({k: v for k, v in state.items() if k != name})
        for given in wrong:
            with pytest.raises((TypeError, ValueError)) as raised:
                convert.load_lista(given, **options)
            assert "\n" not in str(raised.value), name
            assert Path(raised.traceback[-1].path).is_relative_to(Path(convert.__file__).parents[1]), raised.value


def test_thresholds_of_zero_stay() -> None:
    net = fu.nn.LISTACP(matrix(), layers=2, lam=0.0)
    assert net.log_theta[0].item() == -torch.inf
    found = convert.load_lista(net.state_dict(), selection=None)
    y = torch.randn(B, M, dtype=torch.float64)
    assert torch.equal(found(y), net(y))
