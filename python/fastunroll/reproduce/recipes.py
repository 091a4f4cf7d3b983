"""How each network of the table starts and is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .. import nn
from ..data import SparseRecovery
from ..training import Stage, end_to_end, layerwise
from .settings import LARGER, LAYERS, SIZE

_THETA, _DECAY = 0.4, 0.8  # thresholds that networks start with, 0.4·0.8^k


@dataclass(frozen=True)
class Recipe:
    """A network of the table.

    build: from the problem, and the network named ``after`` if there is one, trained before.
    schedule: none for a network whose numbers are searched.
    """

    build: Callable[[SparseRecovery, nn.UnrolledNetwork | None], nn.UnrolledNetwork]
    schedule: Sequence[Stage]
    rates: Mapping[str, float] = field(default_factory=dict)
    size: tuple[int, int] = SIZE
    after: str | None = None


@torch.no_grad()
def _fill(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for p, value in zip(parameters, values, strict=True):
        p.copy_(value)


def _alista(selects: bool) -> Callable[[SparseRecovery, nn.UnrolledNetwork | None], nn.UnrolledNetwork]:
    def build(p: SparseRecovery, _: nn.UnrolledNetwork | None) -> nn.UnrolledNetwork:
        selection = (1.2, 13.0) if selects else None
        return nn.ALISTA(p.A, layers=LAYERS, lam=_THETA, decay=_DECAY, selection=selection)

    return build


def _coupled(
    make: Callable[[Tensor], nn.LISTACP | nn.GLISTA],
) -> Callable[[SparseRecovery, nn.UnrolledNetwork | None], nn.UnrolledNetwork]:
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
) -> Callable[[SparseRecovery, nn.UnrolledNetwork | None], nn.UnrolledNetwork]:
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


def _lvamp(shrinkage: Shrinkage) -> Callable[[SparseRecovery, nn.UnrolledNetwork | None], nn.UnrolledNetwork]:
    def build(p: SparseRecovery, _: nn.UnrolledNetwork | None) -> nn.UnrolledNetwork:
        return nn.LVAMP(p.A, layers=LAYERS, shrinkage=shrinkage, noise=max(p.noise**2, 1e-7))

    return build


def _bernoulli_gaussian(layers: int) -> Callable[[SparseRecovery, nn.UnrolledNetwork | None], nn.UnrolledNetwork]:
    def build(p: SparseRecovery, _: nn.UnrolledNetwork | None) -> nn.UnrolledNetwork:
        return nn.LAMP(p.A, layers=layers, shrinkage="bernoulli-gaussian", start="analytic")

    return build


_NUMBERS = {"log_step": 5e-2, "log_theta": 5e-2}
_LAYERWISE = layerwise(LAYERS, 60, 30, inherit={"log_theta": 0.8})
_PLAIN = "ALISTA, no selection"

RECIPES: dict[str, Recipe] = {
    "StepLISTA": Recipe(lambda p, _: nn.StepLISTA(p.A, layers=LAYERS), end_to_end(300), {"log_step": 3e-2}),
    _PLAIN: Recipe(_alista(False), [*_LAYERWISE, *end_to_end(400, 0.2)], _NUMBERS, LARGER),
    "LISTA": Recipe(
        _direct(lambda A: nn.LISTA(A, layers=LAYERS)),
        end_to_end(400),
        {"W1": 2e-5, "W2": 2e-5, "theta": 3e-5},
        LARGER,
        after=_PLAIN,
    ),
    "LISTACP": Recipe(
        _coupled(lambda A: nn.LISTACP(A, layers=LAYERS)),
        end_to_end(400),
        {"W": 5e-5, "log_theta": 5e-3},
        LARGER,
        after=_PLAIN,
    ),
    "LFISTA": Recipe(
        _direct(lambda A: nn.LFISTA(A, layers=LAYERS)),
        end_to_end(400),
        {"W1": 2e-5, "W2": 2e-5, "log_theta": 3e-3, "beta": 3e-3},
        LARGER,
        after=_PLAIN,
    ),
    "ALISTA": Recipe(_alista(True), [*_LAYERWISE, *end_to_end(400, 0.2)], _NUMBERS),
    "TiLISTA": Recipe(_tilista, end_to_end(600), {"W": 1e-4}, after="ALISTA"),
    "LISTACPSS": Recipe(
        _coupled(lambda A: nn.LISTACPSS(A, layers=LAYERS)), end_to_end(400), {"W": 1e-4}, after="ALISTA"
    ),
    "LISTASS": Recipe(
        _direct(lambda A: nn.LISTASS(A, layers=LAYERS)),
        end_to_end(300),
        {"W1": 2e-5, "W2": 2e-5, "log_theta": 3e-3},
        after="ALISTA",
    ),
    "GLISTA": Recipe(_coupled(lambda A: nn.GLISTA(A, layers=LAYERS)), end_to_end(200), {"W": 1e-4}, after="ALISTA"),
    "HyperLISTA": Recipe(lambda p, _: nn.HyperLISTA(p.A, layers=LAYERS), []),
    "LAMP": Recipe(lambda p, _: nn.LAMP(p.A, layers=LAYERS, tied=True, start="analytic"), end_to_end(800), {"W": 1e-3}),
    "LAMP-BG, 6 layers": Recipe(_bernoulli_gaussian(6), end_to_end(1200), {"W": 5e-4}),
    "LAMP-BG": Recipe(_bernoulli_gaussian(LAYERS), end_to_end(500), {"W": 5e-4}),
    "LVAMP": Recipe(_lvamp("soft"), end_to_end(600), {"log_noise": 5e-2, "log_alpha": 2e-2, "log_scale": 2e-2}),
    "LVAMP-BG": Recipe(_lvamp("bernoulli-gaussian"), end_to_end(200), {}),
    "ADMMNet": Recipe(
        lambda p, _: nn.ADMMNet(p.A, layers=LAYERS, rho=0.3, lam=0.1),
        end_to_end(800),
        {"log_rho": 5e-2, "log_theta": 5e-2, "log_eta": 2e-2},
    ),
}
