"""How each network of the table starts and is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from .. import nn
from ..data import SparseRecovery
from ..training import Stage, end_to_end, layerwise
from .settings import LARGER, LAYERS, SIZE

Build: TypeAlias = Callable[[SparseRecovery, nn.UnrolledNetwork | None], nn.UnrolledNetwork]
Schedule: TypeAlias = Callable[[float | None], Sequence[Stage]]


@dataclass(frozen=True)
class Recipe:
    """A network of the table.

    build: from the problem, and the network named ``after`` if there is one, trained before.
    schedule: for a signal-to-noise ratio; no stages for a network whose numbers are searched.
    """

    build: Build
    schedule: Schedule
    rates: Mapping[str, float] = field(default_factory=dict)
    size: tuple[int, int] = SIZE
    after: str | None = None


@torch.no_grad()
def _fill(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for p, value in zip(parameters, values, strict=True):
        p.copy_(value)


def _is_noisy(snr: float | None) -> bool:
    """Whether errors end so high that thresholds have no way to fall."""
    return snr is not None and snr < 30


def _always(stages: Sequence[Stage]) -> Schedule:
    return lambda snr: stages


def _alista(selects: bool) -> Build:
    def build(p: SparseRecovery, _: nn.UnrolledNetwork | None) -> nn.UnrolledNetwork:
        selection = (1.2, 13.0) if selects else None
        lam, decay = (0.6, 0.9) if selects and _is_noisy(p.snr) else (0.4, 0.8)
        return nn.ALISTA(p.A, layers=LAYERS, lam=lam, decay=decay, selection=selection)

    return build


def _coupled(
    make: Callable[[Tensor], nn.LISTACP | nn.GLISTA],
) -> Build:
    """From ALISTA, its steps in the matrices."""

    def build(p: SparseRecovery, alista: nn.UnrolledNetwork | None) -> nn.UnrolledNetwork:
        assert isinstance(alista, nn.ALISTA)
        net = make(p.A)
        _fill([*net.W], [step.exp() * alista.W for step in alista.log_step])
        _fill([*net.log_theta], [*alista.log_theta])
        return net

    return build


def _direct(
    make: Callable[[Tensor], nn.LISTA | nn.LISTASS | nn.LFISTA],
) -> Build:
    """From ALISTA, W₁ = t Wᵀ, W₂ = I − t WᵀA: the coupling that a good network needs. Without momentum."""

    def build(p: SparseRecovery, alista: nn.UnrolledNetwork | None) -> nn.UnrolledNetwork:
        assert isinstance(alista, nn.ALISTA)
        net = make(p.A)
        A, W, steps = alista.A, alista.W, [step.exp() for step in alista.log_step]
        _fill([*net.W1], [step * W.mT for step in steps])
        _fill([*net.W2], [torch.eye(A.shape[1]) - step * (W.mT @ A) for step in steps])
        if isinstance(net, nn.LISTA):
            _fill([*net.theta], [log.exp() for log in alista.log_theta])
        else:
            _fill([*net.log_theta], [*alista.log_theta])
        if isinstance(net, nn.LFISTA):
            _fill([*net.beta], [torch.zeros(())] * LAYERS)
        return net

    return build


def _tilista(p: SparseRecovery, alista: nn.UnrolledNetwork | None) -> nn.UnrolledNetwork:
    assert isinstance(alista, nn.ALISTA)
    net = nn.TiLISTA(p.A, layers=LAYERS)
    net.load_state_dict(alista.state_dict())
    return net


Shrinkage = Literal["soft", "bernoulli-gaussian"]


def _lvamp(shrinkage: Shrinkage) -> Build:
    def build(p: SparseRecovery, _: nn.UnrolledNetwork | None) -> nn.UnrolledNetwork:
        return nn.LVAMP(p.A, layers=LAYERS, shrinkage=shrinkage, noise=max(p.noise**2, 1e-7))

    return build


def _lamp(p: SparseRecovery, _: nn.UnrolledNetwork | None) -> nn.UnrolledNetwork:
    """One matrix, and the analytic one, where there is little noise; else matrices of each layer, from A."""
    if _is_noisy(p.snr):
        return nn.LAMP(p.A, layers=LAYERS)
    return nn.LAMP(p.A, layers=LAYERS, tied=True, start="analytic")


def _bernoulli_gaussian(layers: int) -> Build:
    def build(p: SparseRecovery, _: nn.UnrolledNetwork | None) -> nn.UnrolledNetwork:
        return nn.LAMP(p.A, layers=layers, shrinkage="bernoulli-gaussian", start="analytic")

    return build


_NUMBERS = {"log_step": 5e-2, "log_theta": 5e-2}


def _layerwise(inherits: bool) -> list[Stage]:
    """Two numbers a layer: layer after layer, each perhaps from 0.8 times the threshold before."""
    return [*layerwise(LAYERS, 60, 30, inherit={"log_theta": 0.8} if inherits else {}), *end_to_end(600, 0.2)]


def _from_alista(steps: int) -> Schedule:
    """At rates that gain where there is noise, then at such that gain where there is none: a stage never loses."""
    return _always([stage for rate in (4.0, 1.0, 0.25) for stage in end_to_end(steps, rate)])


_PLAIN = "ALISTA (no selection)"

RECIPES: dict[str, Recipe] = {
    "StepLISTA": Recipe(lambda p, _: nn.StepLISTA(p.A, layers=LAYERS), _always(end_to_end(300)), {"log_step": 3e-2}),
    _PLAIN: Recipe(_alista(False), _always(_layerwise(True)), _NUMBERS, LARGER),
    "LISTA": Recipe(
        _direct(lambda A: nn.LISTA(A, layers=LAYERS)),
        _from_alista(150),
        {"W1": 2e-5, "W2": 2e-5, "theta": 3e-5},
        LARGER,
        after=_PLAIN,
    ),
    "LISTACP": Recipe(
        _coupled(lambda A: nn.LISTACP(A, layers=LAYERS)),
        _from_alista(150),
        {"W": 5e-5, "log_theta": 5e-3},
        LARGER,
        after=_PLAIN,
    ),
    "LFISTA": Recipe(
        _direct(lambda A: nn.LFISTA(A, layers=LAYERS)),
        _from_alista(150),
        {"W1": 2e-5, "W2": 2e-5, "log_theta": 3e-3, "beta": 3e-3},
        LARGER,
        after=_PLAIN,
    ),
    "ALISTA": Recipe(_alista(True), lambda snr: _layerwise(not _is_noisy(snr)), _NUMBERS),
    "TiLISTA": Recipe(_tilista, _from_alista(200), {"W": 3e-5, "log_step": 5e-3, "log_theta": 5e-3}, after="ALISTA"),
    "LISTACPSS": Recipe(
        _coupled(lambda A: nn.LISTACPSS(A, layers=LAYERS)),
        _from_alista(150),
        {"W": 3e-5, "log_theta": 3e-3},
        after="ALISTA",
    ),
    "LISTASS": Recipe(
        _direct(lambda A: nn.LISTASS(A, layers=LAYERS)),
        _from_alista(150),
        {"W1": 2e-5, "W2": 2e-5, "log_theta": 3e-3},
        after="ALISTA",
    ),
    "GLISTA": Recipe(
        _coupled(lambda A: nn.GLISTA(A, layers=LAYERS)),
        _from_alista(100),
        {"W": 3e-5, "log_theta": 5e-3},
        after="ALISTA",
    ),
    "HyperLISTA": Recipe(lambda p, _: nn.HyperLISTA(p.A, layers=LAYERS), _always([])),
    "LAMP": Recipe(_lamp, _always(end_to_end(800)), {"W": 1e-3}),
    "LAMP-BG (6 layers)": Recipe(_bernoulli_gaussian(6), _always(end_to_end(1200)), {"W": 1e-3}),
    "LAMP-BG": Recipe(_bernoulli_gaussian(LAYERS), _always(end_to_end(500)), {"W": 5e-4}),
    "LVAMP": Recipe(_lvamp("soft"), _always(end_to_end(500)), {}),
    "LVAMP-BG": Recipe(_lvamp("bernoulli-gaussian"), _always(end_to_end(200)), {}),
    "ADMMNet": Recipe(
        lambda p, _: nn.ADMMNet(p.A, layers=LAYERS, rho=0.3, lam=0.1),
        _always(end_to_end(800)),
        {"log_rho": 5e-2, "log_theta": 5e-2, "log_eta": 2e-2},
    ),
}
