"""Fused modules that replace modules of a user and take over their parameters, attributes and hooks."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from ..nn import SoftThreshold
from ..prox import L1, soft_threshold
from ..steps import AffineStep
from ..unrolling import unrolled

# Names of attributes that may hold the number of layers.
_LAYER_ATTRIBUTES = ("max_iter", "max_iters", "max_iterations", "num_iter", "numIter", "n_iter", "num_layers",
                     "n_layers", "layers", "T", "K")  # fmt: skip
_MAX_LAYERS = 10_000  # a larger number counts something else, such as steps of training
_L1 = L1()
_THRESHOLD_WORDS = ("shrink", "soft", "theta", "thr", "lamb")


def with_contents_of(old: nn.Module, kind: type[nn.Module]) -> Any:
    """Returns a module of the class ``kind`` with the parameters, buffers, children, hooks and attributes of ``old``.

    A parameter or child that is registered later belongs to one of the two modules only.
    """
    new = kind.__new__(kind)
    new.__dict__.update(old.__dict__)
    for name in ("_parameters", "_buffers", "_modules"):
        new.__dict__[name] = dict(old.__dict__[name])
    return new


class FusedLISTA(nn.Module):
    """Runs x⁺ = S_θ(_W y + _S x) from x = 0 for a number of layers, in one native call.

    Attributes:
        _W: a linear layer with weight (n, m).
        _S: a linear layer with weight (n, n).
    """

    _W: nn.Linear
    _S: nn.Linear
    _threshold: str | float
    _layers: int
    _return_layers: bool
    _cached_theta: list[Tensor]

    @classmethod
    def of(cls, old: nn.Module, threshold: str | float, layers: int, return_layers: bool) -> FusedLISTA:
        """Returns a fused LISTA with the contents of ``old``.

        Args:
            old: the module to replace.
            threshold: a number, or the name of a tensor of 1 or K values.
            layers: the number K of layers.
            return_layers: whether ``forward`` returns a list of the outputs of all layers.
        """
        new: FusedLISTA = with_contents_of(old, cls)
        new._threshold, new._layers, new._return_layers, new._cached_theta = threshold, layers, return_layers, []
        return new

    def forward(self, y: Tensor) -> Tensor | list[Tensor]:
        """Maps y (..., m) to x (..., n), or to a list of the outputs of all layers."""
        linear, keep = AffineStep(self._W.weight, self._S.weight), self._return_layers
        out = unrolled(y, linear, _L1, self._theta(), layers=self._layers, return_layers=keep)
        assert isinstance(out, Tensor)  # and not a pair with a state
        return list(out) if keep else out

    def _theta(self) -> list[Tensor]:
        """Returns 1 or K thresholds.

        Thresholds that do not learn are the same tensors in every call, so the packed weights of the last call stay
        valid.
        """
        stored = self._threshold
        theta = self._W.weight.new_full((), stored) if isinstance(stored, float) else getattr(self, stored)
        if torch.compiler.is_compiling() or (theta.requires_grad and torch.is_grad_enabled()):
            return [*theta.reshape(-1)]
        if not self._cached_theta or not self._is_cached(theta):
            self._cached_theta = [*theta.detach().reshape(-1)]
        return self._cached_theta

    def _is_cached(self, theta: Tensor) -> bool:
        """Returns whether the cached thresholds equal θ and can be used in the current autograd mode."""
        cached = self._cached_theta[0]
        same_values = isinstance(self._threshold, float) or cached.data_ptr() == theta.data_ptr()
        usable = torch.is_inference_mode_enabled() or not cached.is_inference()
        return same_values and usable and cached.dtype == theta.dtype and cached.device == theta.device

    def extra_repr(self) -> str:
        return f"layers={self._layers}"


class FusedSoftThreshold(nn.Module):
    """Computes sign(x)·max(|x| − θ, 0), where θ is the only parameter of the module and has any name."""

    _threshold: str
    _clamped: bool

    @classmethod
    def of(cls, old: nn.Module, threshold: str, clamped: bool) -> FusedSoftThreshold:
        """Returns a fused soft threshold with the contents of ``old``. If ``clamped``, it uses max(θ, 0)."""
        new: FusedSoftThreshold = with_contents_of(old, cls)
        new._threshold, new._clamped = threshold, clamped
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Shrinks ``x``, which has any shape that θ broadcasts with."""
        theta = self.get_parameter(self._threshold)
        return soft_threshold(x, torch.relu(theta) if self._clamped else theta)


def is_copied_lista(module: nn.Module) -> bool:
    """Returns whether a module has linear layers ``_W`` and ``_S``, and at most one more parameter, a threshold."""
    W, S = (getattr(module, name, None) for name in ("_W", "_S"))
    if not (_is_plain_linear(W) and _is_plain_linear(S)) or isinstance(module, FusedLISTA):
        return False
    n = len(W.weight)
    others = [p for p in module.parameters() if p is not W.weight and p is not S.weight]
    return S.weight.shape == (n, n) and len(others) <= 1


def _is_plain_linear(layer: Any) -> TypeGuard[nn.Linear]:
    """Returns whether a layer is a linear layer without bias, hooks and parametrisations.

    A fused product would ignore hooks and parametrisations.
    """
    hooked = type(layer) is not nn.Linear or layer._forward_hooks or layer._forward_pre_hooks
    return not hooked and layer.bias is None and isinstance(layer.weight, Tensor) and layer.weight.dim() == 2


def is_soft_threshold(module: nn.Module) -> bool:
    """Returns whether a module may be a soft threshold: it has one parameter, and a name that suggests a threshold."""
    if isinstance(module, (FusedSoftThreshold, SoftThreshold)) or len(module._parameters) != 1:
        return False
    name = f"{type(module).__name__} {next(iter(module._parameters))}".lower()
    plain = all(isinstance(child, (nn.ReLU, nn.Identity)) for child in module.children())
    return plain and any(word in name for word in _THRESHOLD_WORDS) and not list(module.buffers())


def lista_candidates(module: nn.Module, output: object) -> Iterator[tuple[str | float, int, bool]]:
    """Yields the arguments (threshold, layers, return_layers) of :meth:`FusedLISTA.of` that may fit a module."""
    return_layers = isinstance(output, (list, tuple))
    counts = [count for name in _LAYER_ATTRIBUTES if isinstance(count := getattr(module, name, None), int)]
    depths = dict.fromkeys(depth for count in counts for depth in (count + 1, count) if 0 < depth <= _MAX_LAYERS)
    thresholds: list[str | float] = [name for name, p in module._parameters.items() if p is not None]
    thresholds += [name for name, b in module._buffers.items() if b is not None and b.is_floating_point()]
    thresholds += [float(c.lambd) for c in module.children() if isinstance(c, nn.Softshrink)]
    numbers = (getattr(module, name, None) for name in ("theta", "thr", "lambd"))
    thresholds += [float(v) for v in numbers if isinstance(v, Real)]
    for threshold in thresholds:
        size = getattr(module, threshold).numel() if isinstance(threshold, str) else 1
        for depth in (depth for depth in depths if size in (1, depth)):
            yield threshold, depth, return_layers
