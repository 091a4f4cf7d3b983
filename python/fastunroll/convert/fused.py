"""Modules that take the place of others: with their parameters, attributes and hooks, and a fused forward."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from ..functional import lista
from ..nn import SoftThreshold
from ..prox import soft_threshold

_COUNTS = ("max_iter", "max_iters", "max_iterations", "num_iter", "numIter", "n_iter", "num_layers", "n_layers",
           "layers", "T", "K")  # fmt: skip
_MOST_LAYERS = 10_000  # a larger number counts something else, such as steps of training
_WORDS = ("shrink", "soft", "theta", "thr", "lamb")


def adopted(kind: type[nn.Module], old: nn.Module) -> Any:
    """A module of a kind, with all that another holds; what either registers later is its own."""
    new = kind.__new__(kind)
    new.__dict__.update(old.__dict__)
    for name in ("_parameters", "_buffers", "_modules"):
        new.__dict__[name] = dict(old.__dict__[name])
    return new


class FusedLISTA(nn.Module):
    """x = S_θ(_W y + _S x), as many times as there are layers, from zero; all in one call.

    Attributes:
        _W, _S: linear layers of weights (n, m) and (n, n).
    """

    _W: nn.Linear
    _S: nn.Linear
    _threshold: str | float
    _layers: int
    _every: bool
    _kept: list[Tensor]

    @classmethod
    def of(cls, old: nn.Module, threshold: str | float, layers: int, every: bool) -> FusedLISTA:
        """``threshold`` is a number, or the name of a tensor of 1 or K values; ``every``: return a list of layers."""
        new: FusedLISTA = adopted(cls, old)
        new._threshold, new._layers, new._every, new._kept = threshold, layers, every, []
        return new

    def forward(self, y: Tensor) -> Tensor | list[Tensor]:
        """``y`` (..., m) to x, (..., n), or to a list of every layer's."""
        weights = [self._W.weight], [self._S.weight], self._theta()
        out = lista(y, *weights, layers=self._layers, return_layers=self._every)
        return list(out) if self._every else out

    def _theta(self) -> list[Tensor]:
        """1 threshold, or K; unless they learn the same tensors from call to call, so that packed weights stay good."""
        held = self._threshold
        theta = self._W.weight.new_full((), held) if isinstance(held, float) else getattr(self, held)
        if torch.compiler.is_compiling() or (theta.requires_grad and torch.is_grad_enabled()):
            return [*theta.reshape(-1)]
        if not self._kept or not self._is_kept(theta):
            self._kept = [*theta.detach().reshape(-1)]
        return self._kept

    def _is_kept(self, theta: Tensor) -> bool:
        """Whether what is kept is a view of θ, or equal to it where it is a constant; and can serve for gradients."""
        kept = self._kept[0]
        same = isinstance(self._threshold, float) or kept.data_ptr() == theta.data_ptr()
        serves = torch.is_inference_mode_enabled() or not kept.is_inference()
        return same and serves and kept.dtype == theta.dtype and kept.device == theta.device

    def extra_repr(self) -> str:
        return f"layers={self._layers}"


class FusedSoftThreshold(nn.Module):
    """sign(x)·max(|x| − θ, 0), where θ is a parameter of any name."""

    _threshold: str
    _clamped: bool

    @classmethod
    def of(cls, old: nn.Module, threshold: str, clamped: bool) -> FusedSoftThreshold:
        """``clamped``: by max(θ, 0)."""
        new: FusedSoftThreshold = adopted(cls, old)
        new._threshold, new._clamped = threshold, clamped
        return new

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape that θ broadcasts with."""
        theta = self.get_parameter(self._threshold)
        return soft_threshold(x, torch.relu(theta) if self._clamped else theta)


def is_copied_lista(module: nn.Module) -> bool:
    """Whether a module has the linear layers of the copied idiom, and nothing else that learns but a threshold."""
    W, S = (getattr(module, name, None) for name in ("_W", "_S"))
    if not (_is_plain_linear(W) and _is_plain_linear(S)) or isinstance(module, FusedLISTA):
        return False
    n = len(W.weight)
    others = [p for p in module.parameters() if p is not W.weight and p is not S.weight]
    return S.weight.shape == (n, n) and len(others) <= 1


def _is_plain_linear(layer: Any) -> TypeGuard[nn.Linear]:
    """A matrix and no more: no bias, and neither hooks nor parametrisations, which a fused product would pass by."""
    hooked = type(layer) is not nn.Linear or layer._forward_hooks or layer._forward_pre_hooks
    return not hooked and layer.bias is None and isinstance(layer.weight, Tensor) and layer.weight.dim() == 2


def is_soft_threshold(module: nn.Module) -> bool:
    """Whether a module has one parameter, is called a threshold or has one, and no children but activations."""
    if isinstance(module, (FusedSoftThreshold, SoftThreshold)) or len(module._parameters) != 1:
        return False
    name = f"{type(module).__name__} {next(iter(module._parameters))}".lower()
    plain = all(isinstance(child, (nn.ReLU, nn.Identity)) for child in module.children())
    return plain and any(word in name for word in _WORDS) and not list(module.buffers())


def lista_candidates(module: nn.Module, output: object) -> Iterator[tuple[str | float, int, bool]]:
    """Thresholds, numbers of layers, and whether it returns them all, that a copied LISTA may have."""
    every = isinstance(output, (list, tuple))
    counts = [count for name in _COUNTS if isinstance(count := getattr(module, name, None), int)]
    depths = dict.fromkeys(depth for count in counts for depth in (count + 1, count) if 0 < depth <= _MOST_LAYERS)
    thresholds: list[str | float] = [name for name, p in module._parameters.items() if p is not None]
    thresholds += [name for name, b in module._buffers.items() if b is not None and b.is_floating_point()]
    thresholds += [float(c.lambd) for c in module.children() if isinstance(c, nn.Softshrink)]
    numbers = (getattr(module, name, None) for name in ("theta", "thr", "lambd"))
    thresholds += [float(v) for v in numbers if isinstance(v, Real)]
    for threshold in thresholds:
        size = getattr(module, threshold).numel() if isinstance(threshold, str) else 1
        for depth in (depth for depth in depths if size in (1, depth)):
            yield threshold, depth, every
