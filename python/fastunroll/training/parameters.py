"""The parameters that a stage trains, with their learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .. import _checks
from ..nn import Unrolled, UnrolledNetwork
from ..prox import PerLayer
from .schedule import Stage

WEIGHT_RATE, NUMBER_RATE = 1e-3, 1e-2
_PIECES = "operator", "prox"  # whose parameters are weights and no numbers of a scheme

Network: TypeAlias = UnrolledNetwork | Unrolled


def _kinds(name: str) -> list[str]:
    """Returns the attributes that hold a parameter, the nearest first: log_alpha and shrinkage for
    "shrinkage.log_alpha.0".
    """
    return [part for part in reversed(name.split(".")) if not part.isdecimal()]


def layer_of(model: Network, name: str) -> int | None:
    """Returns the index of the layer that a parameter belongs to, counted from 0, or None if all layers share it."""
    owner: Any = model
    before: Any = None  # the owner of the owner
    for part in name.split("."):
        is_of_layer = isinstance(owner, nn.ParameterList) and len(owner) == model.layers
        if part.isdecimal() and (is_of_layer or isinstance(before, PerLayer)) and model.layers > 1:
            return int(part)
        before, owner = owner, getattr(owner, part)
    return None


def learning_rates(model: Network, given: Mapping[str, float] | None) -> dict[str, float]:
    """Returns the learning rate of each parameter that requires a gradient, by name.

    Args:
        model: the network.
        given: the user's rates, by an attribute that holds the parameters. The nearest attribute decides. Other
            parameters have the default rates.

    Raises:
        ValueError: ``given`` names something that is not a parameter.
    """
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"rates must map names of parameters to numbers, or be None, got {_checks.shown(given)}")
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    holders = {kind for name in named for kind in _kinds(name)}
    for kind in given or {}:
        if kind not in holders:
            learned = sorted({_kinds(name)[0] for name in named})
            raise ValueError(
                f"rates names {_checks.shown(kind)}, but {type(model).__name__} learns {', '.join(learned)}"
            )
    given = {kind: _checks.positive(f"rates[{kind!r}]", rate) for kind, rate in (given or {}).items()}
    return {name: _rate(name, p, given) for name, p in named.items()}


def _rate(name: str, p: Tensor, given: Mapping[str, float]) -> float:
    """Returns the learning rate of a parameter."""
    is_weight = p.dim() >= 2 or name.split(".")[0] in _PIECES
    default = WEIGHT_RATE if is_weight else NUMBER_RATE
    return next((given[kind] for kind in _kinds(name) if kind in given), default)


def parameter_groups(model: Network, stage: Stage, rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """Returns the parameters of a stage as the groups of a PyTorch optimiser, with one group for each rate."""
    depth = stage.depth or model.layers
    by_rate: dict[float, list[Tensor]] = {}
    for name, p in model.named_parameters():
        layer = layer_of(model, name)
        distance = 0 if layer is None else depth - 1 - layer  # from the layer whose output is trained
        if name in rates and distance >= 0 and not (stage.alone and distance > 0):
            by_rate.setdefault(rates[name] * stage.fade**distance, []).append(p)
    return [{"params": tensors, "lr": rate, "initial_lr": rate} for rate, tensors in by_rate.items()]


@torch.no_grad()
def inherit(model: Network, stage: Stage) -> None:
    """Copies parameters of the layer before to the stage's layer, times the factors of ``stage.inherit``, in place.

    Raises:
        ValueError: the network has no list of that name with one parameter for each layer.
    """
    depth = stage.depth or model.layers
    lists = {name.rpartition(".")[2]: m for name, m in model.named_modules() if isinstance(m, nn.ParameterList)}
    for name, factor in stage.inherit.items():
        if name not in lists or len(lists[name]) != model.layers:
            raise ValueError(f"inherit names {name!r}, but {type(model).__name__} has no such parameter in each layer")
        before, own = lists[name][depth - 2], lists[name][depth - 1]
        if own.requires_grad:
            own.copy_(before + math.log(factor) if name.startswith("log_") else before * factor)
