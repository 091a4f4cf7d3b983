"""Parameters that are one number: of shape (1,), while state dicts of before, with shape (), still load."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from networks import ALL, B, M, N, matrix, moved
from torch import Tensor, nn

MODULES: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda name=name: moved(ALL[name](matrix())) for name in ALL},  # type: ignore[misc]
    "ISTALayer": lambda: fu.nn.ISTALayer(matrix()),
    "SoftThreshold": lambda: fu.nn.SoftThreshold(0.3, dtype=torch.float64),
    "in a sequence": lambda: nn.Sequential(moved(ALL["LFISTA"](matrix())), fu.nn.SoftThreshold(0.3).double()),
}


def inputs(name: str) -> tuple[Tensor, ...]:
    x, y = torch.randn(B, N, dtype=torch.float64), torch.randn(B, M, dtype=torch.float64)
    return {"ISTALayer": (x, y), "SoftThreshold": (x,)}.get(name, (y,))


def old(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict as it was before."""
    return {name: t.reshape(()) if t.shape == (1,) else t for name, t in state.items()}


def copied(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module)


def pickled(module: nn.Module) -> nn.Module:
    found: nn.Module = pickle.loads(pickle.dumps(module))
    return found


@pytest.mark.parametrize("name", MODULES)
def test_no_parameter_is_without_dimensions(name: str) -> None:
    assert all(p.dim() for p in MODULES[name]().parameters())


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("how", [lambda module: module, copied, pickled], ids=["itself", "copied", "pickled"])
def test_old_state_dicts_load(name: str, how: Any) -> None:
    trained, module, arguments = MODULES[name](), how(MODULES[name]()), inputs(name)
    state = old(trained.state_dict())
    before = {name: t.shape for name, t in state.items()}
    shapes = [p.shape for p in module.parameters()]
    module.load_state_dict(state, strict=True)
    assert {name: t.shape for name, t in state.items()} == before
    assert [p.shape for p in module.parameters()] == shapes
    assert torch.equal(module(*arguments), trained(*arguments))


def test_new_parameters_load_with_assign() -> None:
    trained, module = moved(ALL["LFISTA"](matrix())), ALL["LFISTA"](matrix())
    module.load_state_dict(old(trained.state_dict()), assign=True)
    assert all(p.dim() for p in module.parameters())
    module(*inputs("LFISTA")).sum().backward()


def test_thresholds_of_every_shape() -> None:
    for shape, value in (
        ((), torch.randn(())),
        ((1,), torch.randn(())),
        (1, torch.randn(3, 4)),
        ((4,), torch.randn(4)),
    ):
        layer = fu.nn.SoftThreshold(0.3, shape)
        wanted = torch.sign(value) * torch.relu(value.abs() - 0.3)
        assert torch.equal(layer(value), wanted)
        assert layer(value).shape == value.shape
        layer.load_state_dict(old(layer.state_dict()))
        layer.load_state_dict(layer.state_dict())


def test_weights_of_another_size_are_still_refused() -> None:
    layer = fu.nn.SoftThreshold(0.3, (4,))
    with pytest.raises(RuntimeError, match="size mismatch for theta"):
        layer.load_state_dict({"theta": torch.tensor(0.1)})
