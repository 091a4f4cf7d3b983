"""Loads networks of ``fastunroll.nn`` from their state dicts. Options that a state dict lacks must be given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor

from .. import _checks, nn
from ..nn import UnrolledNetwork
from .build import empty
from .source import AskedSelection, Source, as_tensor, is_finite

N = TypeVar("N", bound=UnrolledNetwork)


class OwnSource(Source):
    """The tensors of a network of ``nn``. Each keeps its dtype, may be complex, and may hold the logarithm of zero."""

    def __init__(self, values: Mapping[str, object], convention: str) -> None:
        self._tensors = {name: as_tensor(name, value) for name, value in values.items()}
        self.convention = convention
        for name, t in self._tensors.items():
            if not is_finite(name, t):
                raise ValueError(f"{name} must be finite, but it holds NaN or infinity: check how it was computed")

    def count(self, template: str) -> int:
        """Returns the number of layers that have a tensor of this name."""
        return len(self.layers(template))

    def is_tied(self, layers: int) -> bool:
        """Returns whether all layers share one matrix."""
        return self.count("W.{k}" if "W.0" in self else "W1.{k}") == 1 < layers

    def options(self, n: int) -> dict[str, Any]:
        """Returns the options of a network with thresholds: its layers, whether they share a matrix, and their kind."""
        layers = self.count("log_theta.{k}")
        threshold = "vector" if self["log_theta.0"].numel() == n > 1 else "scalar"
        return {"layers": layers, "tied": self.is_tied(layers), "threshold": threshold}


def _filled(source: OwnSource, net: N) -> N:
    """Returns ``net`` with the tensors of the source, after a check that names, shapes and dtypes are the same."""
    expected = net.state_dict()
    matrix = source["A" if "A" in source else "W1.0"]
    real = matrix.real.dtype if matrix.is_complex() else matrix.dtype
    found: dict[str, Tensor] = {}
    for name, like in expected.items():
        t = source[name]
        if t.numel() != like.numel() or (t.numel() > 1 and t.shape != like.shape):
            raise ValueError(
                f"{name} must be {_checks.shape_text(like.shape)} to fit the other tensors, got "
                f"{_checks.shape_text(t.shape)}"
            )
        if t.dtype not in (matrix.dtype, real):
            raise TypeError(f"all tensors must have one dtype, but {name} is {t.dtype} and the matrices {matrix.dtype}")
        found[name] = t.reshape(like.shape).clone().contiguous()
    if extra := [name for name in source.names if name not in expected]:
        raise ValueError(
            f"the mapping must not hold {extra[0]}, which no {type(net).__name__} of {net.layers} layers has: remove it"
        )
    net.load_state_dict(found, assign=True)
    return net


def load_lista_ss(source: OwnSource, *, selection: AskedSelection = ...) -> nn.LISTASS:
    A, chosen = source.matrix("W1.0").mT, source.selection(selection)
    return _filled(source, empty(nn.LISTASS, A, selection=chosen, **source.options(A.shape[1])))


def load_lfista(source: OwnSource) -> nn.LFISTA:
    A = source.matrix("W1.0").mT
    return _filled(source, empty(nn.LFISTA, A, **source.options(A.shape[1])))


def load_step_lista(source: OwnSource, *, lam: float | None = None) -> nn.StepLISTA:
    if lam is None:
        raise ValueError(f"{source.convention} does not store λ: give lam=")
    return _filled(source, nn.StepLISTA(source.matrix("A"), layers=source.count("log_step.{k}"), lam=lam))


def load_lista_cp(source: OwnSource, *, selection: AskedSelection = ...) -> nn.LISTACP:
    """Loads LISTACP, or LISTACPSS if ``selection`` is given."""
    A, chosen = source.matrix("A"), source.selection(selection)
    options = source.options(A.shape[1])
    return _filled(source, nn.LISTACP(A, **options) if chosen is None else nn.LISTACPSS(A, selection=chosen, **options))


def load_alista(
    source: OwnSource, *, network: str | None = None, selection: AskedSelection = ...
) -> nn.ALISTA | nn.TiLISTA:
    """Loads ALISTA, whose W is constant, or TiLISTA, whose W learns."""
    network = source.choice("network", network, "ALISTA", "TiLISTA")
    chosen = source.selection(selection)
    layers, A = source.count("log_step.{k}"), source.matrix("A")
    if network == "TiLISTA":
        return _filled(source, nn.TiLISTA(A, layers=layers, selection=chosen))
    return _filled(source, nn.ALISTA(A, layers=layers, selection=chosen, W=source.matrix("W", *A.shape)))


def load_glista(source: OwnSource, *, gain: Any = ..., selection: AskedSelection = ...) -> nn.GLISTA:
    if gain is ...:
        raise ValueError(
            f'{source.convention} does not store its gain: give gain=, "relu", "inverse", "exponential" or "sigmoid"'
        )
    A, chosen = source.matrix("A"), source.selection(selection)
    return _filled(source, nn.GLISTA(A, gain=gain, selection=chosen, **source.options(A.shape[1])))


def load_hyperlista(source: OwnSource, *, layers: int | None = None) -> nn.HyperLISTA:
    if layers is None:
        raise ValueError(f"{source.convention} does not store its number of layers: give layers=")
    return _filled(source, nn.HyperLISTA(source.matrix("A"), layers=layers))


def load_admm_net(source: OwnSource) -> nn.ADMMNet:
    solve: Any = "exact" if "U" in source else "factorised" if "log_rho.0" in source else "learned"
    return _filled(source, nn.ADMMNet(source.matrix("A"), layers=source.count("log_theta.{k}"), solve=solve))


def load_lamp(source: OwnSource) -> nn.LAMP:
    shrinkage, layers = _shrinkage(source)
    return _filled(
        source,
        nn.LAMP(source.matrix("A"), layers=layers, shrinkage=shrinkage, tied=source.is_tied(layers)),
    )


def load_lvamp(source: OwnSource) -> nn.LVAMP:
    shrinkage, layers = _shrinkage(source)
    return _filled(source, nn.LVAMP(source.matrix("A"), layers=layers, shrinkage=shrinkage))


def _shrinkage(source: OwnSource) -> tuple[Any, int]:
    """Returns the name of the shrinkage and the number of layers."""
    if "shrinkage.log_alpha.0" in source:
        return "soft", source.count("shrinkage.log_alpha.{k}")
    return "bernoulli-gaussian", source.count("shrinkage.log_power.{k}")
