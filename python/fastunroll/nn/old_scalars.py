"""Loads old state dicts, in which scalars have the shape (). Modules now store scalars in the shape (1,)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def accept_old_scalars(module: nn.Module) -> None:
    """Makes ``load_state_dict`` accept a tensor of shape () for each parameter of shape (1,), also in submodules.

    Versions before 0.2 stored scalars in the shape (), which libraries that shard parameters refuse.
    """
    module.register_load_state_dict_pre_hook(_reshape)


def _reshape(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, parameter in module.named_parameters(remove_duplicate=False):
        entry = state_dict.get(prefix + name)
        if isinstance(entry, Tensor) and not entry.dim() and parameter.shape == (1,):
            state_dict[prefix + name] = entry.reshape(1)
