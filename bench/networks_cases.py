"""The networks of the benchmark of all networks, and the thresholds that make their iterates sparse or dense."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import fastunroll as fu
import networks_eager as eager
import torch
from lista_networks import LAYERS, matrix, signals
from torch import Tensor, nn

M, N = 250, 500
BATCHES = 1, 16, 64, 1024
SPARSE = 0.12  # the share of nonzeros, over all layers and samples
CLOSE, NEAR = 2e-3, 1e-2  # largest deviations from that share: for the end of the search, and for other samples
LOGARITHMS, MOST_TRIALS = (
    (-9.0, 9.0),
    60,
)  # range of the logarithms of the factor of thresholds, and steps of its search
GAIN = 0.3  # the gain of AMP and VAMP without thresholds, because they diverge with a gain of 1
NOISE = 0.03  # relative to the size of y; without noise some networks converge until gradients are only rounding
MORE = 15  # fewest extra samples, to replace samples that are too close to a threshold
PERTURBATIONS, ROUNDING, FAR = (
    2,
    1e-6,
    5e-4,
)  # number and relative size of perturbations of y, and allowed change of results
Net = Any  # one of ours, whose attributes depend on its kind


@dataclass(frozen=True)
class Kind:
    """A network of the table.

    make: ours, from A.
    twin: the eager module that shares its parameters.
    scale: multiplies the thresholds of a network, and those of its twin, by a factor from where another one has them;
        None where iterates have no zeros whatever the thresholds.
    dense: what else makes iterates dense and finite.
    """

    make: Callable[[Tensor], Net]
    twin: Callable[[Net], nn.Module]
    scale: Callable[[Net, nn.Module, Net, float], None] | None
    dense: Callable[[Net], None] = lambda net: None


def _logarithms(path: str) -> Callable[[Net, nn.Module, Net, float], None]:
    def scale(net: Net, twin: nn.Module, start: Net, factor: float) -> None:
        for p, q in zip(net.get_submodule(path), start.get_submodule(path), strict=True):
            p.copy_(q + (math.log(factor) if factor else -math.inf))

    return scale


def _thresholds(net: Net, twin: nn.Module, start: Net, factor: float) -> None:
    for p, q in zip(net.theta, start.theta, strict=True):
        p.copy_(factor * q)


def _lam(net: Net, twin: Any, start: Net, factor: float) -> None:
    net.lam = twin.lam = factor * start.lam


def _c1(net: Net, twin: nn.Module, start: Net, factor: float) -> None:
    net.c.copy_(start.c * torch.tensor([factor, 1.0, 1.0]))


def _smaller_gain(net: Net) -> None:
    for p in net.shrinkage.log_scale:
        p.fill_(math.log(GAIN))


def _less_momentum(net: Net) -> None:
    """Lowers the momentum, which grows with the number of nonzeros and would diverge."""
    net.c[1] *= SPARSE


def _gates(A: Tensor) -> fu.nn.GLISTA:
    """Makes GLISTA with slightly open gates, as after training. The gates of an untrained network have no effect."""
    net = fu.nn.GLISTA(A, layers=LAYERS)
    with torch.no_grad():
        for p in (*net.kappa, *net.overshoot):
            p.fill_(0.1)
    return net


def _made(kind: Callable[..., Net], **options: Any) -> Callable[[Tensor], Net]:
    return partial(kind, layers=LAYERS, **options)


_THETA, _ALPHA = _logarithms("log_theta"), _logarithms("shrinkage.log_alpha")
_MIXTURE: dict[str, Any] = {"shrinkage": "bernoulli-gaussian"}
KINDS: dict[str, Kind] = {
    "LISTA": Kind(_made(fu.nn.LISTA), eager.LISTA, _thresholds),
    "LISTASS": Kind(_made(fu.nn.LISTASS), eager.LISTASS, _THETA),
    "LFISTA": Kind(_made(fu.nn.LFISTA), eager.LFISTA, _THETA),
    "LISTACP": Kind(_made(fu.nn.LISTACP), eager.LISTACP, _THETA),
    "LISTACPSS": Kind(_made(fu.nn.LISTACPSS), eager.LISTACPSS, _THETA),
    "StepLISTA": Kind(_made(fu.nn.StepLISTA), eager.StepLISTA, _lam),
    "TiLISTA": Kind(_made(fu.nn.TiLISTA), eager.OneMatrix, _THETA),
    # With thresholds that decay, the last layers change so little that their gradients are rounding.
    "ALISTA": Kind(_made(fu.nn.ALISTA, decay=1.0), eager.OneMatrix, _THETA),
    "LAMP": Kind(_made(fu.nn.LAMP), eager.LAMP, _ALPHA, dense=_smaller_gain),
    "ADMMNet-exact": Kind(_made(fu.nn.ADMMNet), eager.admm_net, _THETA),
    "ADMMNet-factorised": Kind(_made(fu.nn.ADMMNet, solve="factorised"), eager.admm_net, _THETA),
    "ADMMNet-learned": Kind(_made(fu.nn.ADMMNet, solve="learned"), eager.admm_net, _THETA),
    "GLISTA": Kind(_gates, eager.GLISTA, _THETA),
    "HyperLISTA": Kind(_made(fu.nn.HyperLISTA), eager.HyperLISTA, _c1, dense=_less_momentum),
    "LVAMP": Kind(_made(fu.nn.LVAMP), eager.LVAMP, _ALPHA, dense=_smaller_gain),
    "LAMP-BG": Kind(_made(fu.nn.LAMP, **_MIXTURE), eager.LAMP, None),
    "LVAMP-BG": Kind(_made(fu.nn.LVAMP, **_MIXTURE), eager.LVAMP, None),
}


class Problem:
    """A network, its twin, and measurements, for one kind and number of samples.

    Thresholds change in place, so that a program compiled for the twin serves sparse and dense iterates.
    """

    def __init__(self, name: str, batch: int, seed: int) -> None:
        self.kind, self._batch = KINDS[name], batch
        A, random = matrix(M, N, seed), torch.Generator().manual_seed(seed + 1)
        y = signals(batch + max(MORE, batch // 4), N, random) @ A.mT
        self._pool = y + NOISE * y.square().mean().sqrt() * torch.randn(y.shape, generator=random)
        self.target = torch.randn(batch, N, generator=random)
        self.net = self.kind.make(A)
        self.twin = self.kind.twin(self.net)
        self._start = deepcopy(self.net)
        self._made: tuple[str, Tensor] | None = None

    @torch.no_grad()
    def make(self, iterates: str) -> Tensor:
        """Sets thresholds so that iterates are "sparse" or "dense"; returns measurements, (batch, m)."""
        if self._made is None or self._made[0] != iterates:
            self._made = iterates, self._measurements(iterates)
        return self._made[1]

    @torch.no_grad()
    def density(self, y: Tensor) -> float:
        """The share of nonzeros in the iterates of all layers."""
        return float((self.net(y, return_layers=True) != 0).double().mean())

    def _measurements(self, iterates: str) -> Tensor:
        self.net.load_state_dict(self._start.state_dict())
        if iterates == "dense" and self.kind.scale is not None:
            self.kind.dense(self.net)
            self.kind.scale(self.net, self.twin, self._start, 0.0)
        pool = self._pool
        while len(pool) >= self._batch:
            if iterates == "sparse":
                self._thin_out(pool[: self._batch])
            pool = pool[self._clear(pool)]
            y = pool[: self._batch]
            if len(y) == self._batch and (iterates == "dense" or abs(self.density(y) - SPARSE) < NEAR):
                return y.clone()
        raise RuntimeError(f"fewer than {self._batch} of {len(self._pool)} samples are clear of all decisions")

    def _thin_out(self, y: Tensor) -> None:
        """Seeks, by bisection, the factor of all thresholds that leaves the share ``SPARSE`` of nonzeros."""
        assert self.kind.scale is not None
        low, high = LOGARITHMS
        for _ in range(MOST_TRIALS):
            middle = (low + high) / 2
            self.kind.scale(self.net, self.twin, self._start, math.exp(middle))
            density = self.density(y)
            if abs(density - SPARSE) < CLOSE:
                return
            low, high = (middle, high) if density > SPARSE else (low, middle)
        raise RuntimeError(f"no thresholds make {SPARSE:.0%} of the iterates nonzero, the last made {density:.1%}")

    def _clear(self, y: Tensor) -> Tensor:
        """Which samples rounding cannot move far, (samples,), as the twin alone says.

        Supports that are selected or counted jump, and gradients do so at every threshold: where two numbers are nearly
        equal, rounding decides, and two programs that are both right differ.
        """
        exact, random = deepcopy(self.twin).double(), torch.Generator().manual_seed(0)
        wide, weight = y.double(), torch.randn(len(y), N, generator=random)
        expected, moved = _answer(exact, wide, weight), [_answer(self.twin, y, weight)]
        for _ in range(PERTURBATIONS):
            change = ROUNDING * torch.randn(y.shape, generator=random, dtype=wide.dtype)
            moved.append(_answer(exact, wide * (1 + change), weight))
        errors = [
            (a - b).norm(dim=1) / b.norm(dim=1) for answer in moved for a, b in zip(answer, expected, strict=True)
        ]
        return torch.stack(errors).amax(0) < FAR


@torch.enable_grad()
def _answer(model: nn.Module, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Returns x, and the gradient in y of a weighted sum of x."""
    y = y.clone().requires_grad_()
    x = model(y)
    (gradient,) = torch.autograd.grad((x * weight).sum(), y)
    return x.detach().double(), gradient.double()
