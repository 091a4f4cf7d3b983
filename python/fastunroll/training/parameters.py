"""Which parameters a stage trains, and at which rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks
from ..nn import UnrolledNetwork
from .schedule import Stage

MATRIX_RATE, NUMBER_RATE = 1e-3, 1e-2


def _kind(name: str) -> str:
    """The attribute that a parameter belongs to: W1.3 to W1, shrinkage.log_alpha.0 to log_alpha."""
    return [part for part in name.split(".") if not part.isdecimal()][-1]


def layer_of(model: UnrolledNetwork, name: str) -> int | None:
    """The layer, from 0, whose own a parameter is; None for what layers share."""
    path, _, last = name.rpartition(".")
    owner: Any = model.get_submodule(path) if path else model
    own = last.isdecimal() and isinstance(owner, nn.ParameterList) and len(owner) == model.layers
    return int(last) if own and model.layers > 1 else None


def rates_of(model: UnrolledNetwork, given: Mapping[str, float] | None) -> dict[str, float]:
    """The rate of each parameter, by name.

    Raises:
        ValueError: a rate of something that is no parameter.
    """
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"rates must map names of parameters to numbers, or be None, got {_checks.shown(given)}")
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    kinds = {_kind(name) for name in named}
    for kind in given or {}:
        if kind not in kinds:
            raise ValueError(
                f"rates names {_checks.shown(kind)}, but {type(model).__name__} learns {', '.join(sorted(kinds))}"
            )
    given = {kind: _checks.positive(f"rates[{kind!r}]", rate) for kind, rate in (given or {}).items()}
    usual = {name: MATRIX_RATE if p.dim() == 2 else NUMBER_RATE for name, p in named.items()}
    return {name: given.get(_kind(name), rate) for name, rate in usual.items()}


def groups(model: UnrolledNetwork, stage: Stage, rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """What a stage trains, as an optimiser wants it: one group for each rate."""
    depth = stage.depth or model.layers
    found: dict[float, list[Tensor]] = {}
    for name, p in model.named_parameters():
        layer = layer_of(model, name)
        back = 0 if layer is None else depth - 1 - layer
        if name in rates and back >= 0 and not (stage.alone and back > 0):
            found.setdefault(rates[name] * stage.fade**back, []).append(p)
    return [{"params": tensors, "lr": rate, "initial_lr": rate} for rate, tensors in found.items()]


@torch.no_grad()
def inherit(model: UnrolledNetwork, stage: Stage) -> None:
    """Starts the parameters of a layer from those of the layer before.

    Raises:
        ValueError: there is no list of parameters of that name with one for each layer.
    """
    depth = stage.depth or model.layers
    lists = {name.rpartition(".")[2]: m for name, m in model.named_modules() if isinstance(m, nn.ParameterList)}
    for name, factor in stage.inherit.items():
        if name not in lists or len(lists[name]) != model.layers:
            raise ValueError(f"inherit names {name!r}, but {type(model).__name__} has no such parameter in each layer")
        before, own = lists[name][depth - 2], lists[name][depth - 1]
        if own.requires_grad:
            own.copy_(before + math.log(factor) if name.startswith("log_") else before * factor)
