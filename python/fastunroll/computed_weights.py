"""Weights that PyTorch computes before a module's forward: pruned ones, and those of old normalisations.

Networks read the entries of their lists, and operators their tensors in ``adjoint`` or ``solve``, without a call of the
module that holds them. So they ask for these weights here.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

_METHODS = BasePruningMethod, WeightNorm, SpectralNorm


def compute_weights(module: nn.Module) -> None:
    """Computes the weights of a module anew from what they are made of, as a call of it does first."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, _METHODS):
            hook(module, ())


class ComputesLists(nn.Module):
    """A module that computes the entries of its lists of parameters anew where PyTorch prunes or normalises them."""

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if isinstance(found, nn.ParameterList):
            compute_weights(found)
        return found
