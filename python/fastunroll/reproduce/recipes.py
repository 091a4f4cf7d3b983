"""The starting values and the training schedule of each network of the table."""

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
    """The recipe for a network of the table.

    Attributes:
        build: makes the network from the problem and the trained network that ``after`` names, or None.
        schedule: makes the stages for a signal-to-noise ratio. A network whose numbers are searched has no stages.
        rates: the learning rates by the names of parameters.
        size: the size (m, n) of the problem.
        after: the name of the network that starts this network.
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
    """Returns whether the noise is so large that the errors of late layers hardly fall."""
    return snr is not None and snr < 30


def _for_any_noise(stages: Sequence[Stage]) -> Schedule:
    return lambda snr: stages


def _alista(selects: bool) -> Build:
    def build(p: SparseRecovery, _: nn.UnrolledNetwork | None) -> nn.UnrolledNetwork:
        selection = (1.2, 13.0) if selects else None
        lam, decay = (0.6, 0.9) if selects and _is_noisy(p.snr) else (0.4, 0.8)
        return nn.ALISTA(p.A, layers=LAYERS, lam=lam, decay=decay, selection=selection)

    return build


def _gradient_step_from_alista(
    make: Callable[[Tensor], nn.LISTACP | nn.GLISTA],
) -> Build:
    """Starts a network with a gradient step from ALISTA. The matrix of each layer is ALISTA's step times its W."""

    def build(p: SparseRecovery, alista: nn.UnrolledNetwork | None) -> nn.UnrolledNetwork:
        assert isinstance(alista, nn.ALISTA)
        net = make(p.A)
        _fill([*net.W], [step.exp() * alista.W for step in alista.log_step])
        _fill([*net.log_theta], [*alista.log_theta])
        return net

    return build


def _affine_step_from_alista(
    make: Callable[[Tensor], nn.LISTA | nn.LISTASS | nn.LFISTA],
) -> Build:
    """Starts a network with an affine step from ALISTA: W₁ = t Wᵀ and W₂ = I − t WᵀA, and momenta of zero."""

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
    return lambda p, _: nn.LVAMP(p.A, layers=LAYERS, shrinkage=shrinkage, noise=max(p.noise**2, 1e-7))


def _lamp(p: SparseRecovery, _: nn.UnrolledNetwork | None) -> nn.UnrolledNetwork:
    """Makes LAMP with a single matrix that starts as the analytic W, or, with much noise, a matrix for each layer."""
    if _is_noisy(p.snr):
        return nn.LAMP(p.A, layers=LAYERS)
    return nn.LAMP(p.A, layers=LAYERS, tied=True, start="analytic")


def _bernoulli_gaussian(layers: int) -> Build:
    return lambda p, _: nn.LAMP(p.A, layers=layers, shrinkage="bernoulli-gaussian", start="analytic")


_NUMBERS = {"log_step": 5e-2, "log_theta": 5e-2}


def _layerwise(inherits: bool) -> list[Stage]:
    """Trains layer after layer. If ``inherits``, the threshold of a layer starts from 0.8 times the one before."""
    return [*layerwise(LAYERS, 60, 30, inherit={"log_theta": 0.8} if inherits else {}), *end_to_end(600, 0.2)]


def _from_alista(steps: int) -> Schedule:
    """Trains at falling rates. High rates help with noise, low rates without, and no stage increases the loss."""
    return _for_any_noise([stage for rate in (4.0, 1.0, 0.25) for stage in end_to_end(steps, rate)])


_PLAIN = "ALISTA (no selection)"

RECIPES: dict[str, Recipe] = {
    "StepLISTA": Recipe(
        lambda p, _: nn.StepLISTA(p.A, layers=LAYERS), _for_any_noise(end_to_end(300)), {"log_step": 3e-2}
    ),
    _PLAIN: Recipe(_alista(False), _for_any_noise(_layerwise(True)), _NUMBERS, LARGER),
    "LISTA": Recipe(
        _affine_step_from_alista(lambda A: nn.LISTA(A, layers=LAYERS)),
        _from_alista(150),
        {"W1": 2e-5, "W2": 2e-5, "theta": 3e-5},
        LARGER,
        after=_PLAIN,
    ),
    "LISTACP": Recipe(
        _gradient_step_from_alista(lambda A: nn.LISTACP(A, layers=LAYERS)),
        _from_alista(150),
        {"W": 5e-5, "log_theta": 5e-3},
        LARGER,
        after=_PLAIN,
    ),
    "LFISTA": Recipe(
        _affine_step_from_alista(lambda A: nn.LFISTA(A, layers=LAYERS)),
        _from_alista(150),
        {"W1": 2e-5, "W2": 2e-5, "log_theta": 3e-3, "beta": 3e-3},
        LARGER,
        after=_PLAIN,
    ),
    "ALISTA": Recipe(_alista(True), lambda snr: _layerwise(not _is_noisy(snr)), _NUMBERS),
    "TiLISTA": Recipe(_tilista, _from_alista(200), {"W": 3e-5, "log_step": 5e-3, "log_theta": 5e-3}, after="ALISTA"),
    "LISTACPSS": Recipe(
        _gradient_step_from_alista(lambda A: nn.LISTACPSS(A, layers=LAYERS)),
        _from_alista(150),
        {"W": 3e-5, "log_theta": 3e-3},
        after="ALISTA",
    ),
    "LISTASS": Recipe(
        _affine_step_from_alista(lambda A: nn.LISTASS(A, layers=LAYERS)),
        _from_alista(150),
        {"W1": 2e-5, "W2": 2e-5, "log_theta": 3e-3},
        after="ALISTA",
    ),
    "GLISTA": Recipe(
        _gradient_step_from_alista(lambda A: nn.GLISTA(A, layers=LAYERS)),
        _from_alista(100),
        {"W": 3e-5, "log_theta": 5e-3},
        after="ALISTA",
    ),
    "HyperLISTA": Recipe(lambda p, _: nn.HyperLISTA(p.A, layers=LAYERS), _for_any_noise([])),
    "LAMP": Recipe(_lamp, _for_any_noise(end_to_end(800)), {"W": 1e-3}),
    "LAMP-BG (6 layers)": Recipe(_bernoulli_gaussian(6), _for_any_noise(end_to_end(1200)), {"W": 1e-3}),
    "LAMP-BG": Recipe(_bernoulli_gaussian(LAYERS), _for_any_noise(end_to_end(500)), {"W": 5e-4}),
    "LVAMP": Recipe(_lvamp("soft"), _for_any_noise(end_to_end(500)), {}),
    "LVAMP-BG": Recipe(_lvamp("bernoulli-gaussian"), _for_any_noise(end_to_end(200)), {}),
    "ADMMNet": Recipe(
        lambda p, _: nn.ADMMNet(p.A, layers=LAYERS, rho=0.3, lam=0.1),
        _for_any_noise(end_to_end(800)),
        {"log_rho": 5e-2, "log_theta": 5e-2, "log_eta": 2e-2},
    ),
}
