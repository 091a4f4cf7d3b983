"""State dicts in which a number is a tensor of shape (): modules now hold it as a parameter of shape (1,)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def accept_old_scalars(module: nn.Module) -> None:
    """Lets ``load_state_dict`` take a tensor of shape () for each parameter of shape (1,), of submodules too.

    Libraries that shard parameters refuse those of shape (), which versions before 0.2 had.
    """
    module.register_load_state_dict_pre_hook(_reshape)


def _reshape(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, parameter in module.named_parameters(remove_duplicate=False):
        entry = state_dict.get(prefix + name)
        if isinstance(entry, Tensor) and not entry.dim() and parameter.shape == (1,):
            state_dict[prefix + name] = entry.reshape(1)
