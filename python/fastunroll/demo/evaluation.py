"""What each method makes of the held-out photographs, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean, median

import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from ..losses import kkt_residual, lasso_objective
from ..nn import LISTA
from ..solvers import fista, ista
from . import photographs
from .photographs import Image, Photograph
from .sensing import Sensing


@dataclass
class Result:
    """A method over all photographs: means, and each picture."""

    method: str
    psnr: float  # dB
    ssim: float
    kkt: float
    objective: float
    ms_an_image: float
    pictures: list[Image]
    picture_psnr: list[float]
    layer_psnr: list[float] = field(default_factory=list)  # dB, after each iteration or layer
    layer_kkt: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Speed:
    """Median milliseconds of one native call and of the same network in eager PyTorch."""

    what: str
    native_ms: float
    eager_ms: float

    @property
    def ratio(self) -> float:
        return self.eager_ms / self.native_ms


def milliseconds(calls: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """Median time of each call, run in turn for about so long, at least 3 times after a first that is not counted."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    end = time.perf_counter() + seconds
    while len(times[0]) < 3 or time.perf_counter() < end:
        for call, own in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            own.append(1e3 * (time.perf_counter() - start))
    return [median(own) for own in times]


class Evaluation:
    """The held-out photographs, measured."""

    def __init__(self, images: Sequence[Photograph], sensing: Sensing) -> None:
        self.images, self.sensing = list(images), sensing
        self.y = sensing.measure(sensing.coefficients(torch.cat([p.blocks() for p in self.images])))

    def _psnr(self, x: Tensor) -> tuple[list[Image], list[float]]:
        pictures = photographs.split(self.images, self.sensing.blocks(x))
        pairs = zip(self.images, pictures, strict=True)
        return pictures, [peak_signal_noise_ratio(p.pixels, q, data_range=1) for p, q in pairs]

    def _kkt(self, x: Tensor) -> float:
        return float(kkt_residual(x, self.y, self.sensing.A, self.sensing.lam).mean())

    @torch.no_grad()
    def judge(
        self, method: str, run: Callable[[], Tensor], layers: Callable[[], Tensor] | None = None, seconds: float = 0.3
    ) -> Result:
        """Runs and times a method; ``layers`` gives all its iterates, (K, blocks, 256). Once only if seconds is 0."""
        start = time.perf_counter()
        x = run()
        took = 1e3 * (time.perf_counter() - start)
        if seconds:
            (took,) = milliseconds([run], seconds)
        pictures, psnr = self._psnr(x)
        ssim = [structural_similarity(p.pixels, q, data_range=1) for p, q in zip(self.images, pictures, strict=True)]
        iterates: Sequence[Tensor] = list(layers()) if layers else []
        return Result(
            method,
            mean(psnr),
            mean(ssim),
            self._kkt(x),
            float(lasso_objective(x, self.y, self.sensing.A, self.sensing.lam).mean()),
            took / len(self.images),
            pictures,
            psnr,
            [mean(self._psnr(z)[1]) for z in iterates],
            [self._kkt(z) for z in iterates],
        )

    def classical(self, converged: int) -> list[Result]:
        """ISTA and FISTA at 16 iterations, FISTA at 16 with its own best λ, and FISTA converged."""
        A, y, lam, early = self.sensing.A, self.y, self.sensing.lam, self.sensing.lam_early
        return [
            self.judge(
                "ISTA@16",
                lambda: ista(A, y, lam, iterations=16, step=1.0),
                lambda: ista(A, y, lam, iterations=16, step=1.0, return_iterates=True),
            ),
            self.judge(
                "FISTA@16",
                lambda: fista(A, y, lam, iterations=16, step=1.0),
                lambda: fista(A, y, lam, iterations=16, step=1.0, return_iterates=True),
            ),
            self.judge(f"FISTA@16, λ = {early}", lambda: fista(A, y, early, iterations=16, step=1.0)),
            self.judge(
                f"FISTA@{converged}, converged", lambda: fista(A, y, lam, iterations=converged, step=1.0), seconds=0
            ),
        ]

    def network(self, method: str, net: LISTA) -> Result:
        """A trained network."""
        return self.judge(method, lambda: net(self.y), lambda: net(self.y, return_layers=True))


def eager(net: LISTA, y: Tensor) -> Tensor:
    """The network as it is written in plain PyTorch."""
    x = y.new_zeros(*y.shape[:-1], net.n)
    for w1, w2, theta in zip(net.W1, net.W2, net.theta, strict=True):
        z = torch.nn.functional.linear(y, w1) + torch.nn.functional.linear(x, w2)
        x = torch.sign(z) * torch.relu(z.abs() - theta)
    return x


def speed(net: LISTA, y: Tensor, batch: int, seconds: float) -> list[Speed]:
    """One native call against eager PyTorch: all blocks forward, and a training step's forward and backward."""
    y_train = y[:batch]
    with torch.no_grad():
        difference = (net(y) - eager(net, y)).norm() / eager(net, y).norm()
    if not difference < 1e-4:
        raise RuntimeError(f"the native network differs from the eager one by {difference:.1e}: please report this")

    def forward(run: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return torch.no_grad()(lambda: run(y))

    def step(run: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(run(y_train).square().sum(), used)

    used = [p for name, p in net.named_parameters() if name != "W2.0"]  # the first layer starts from zero
    runs = (net, lambda y: eager(net, y))
    pairs = [
        (f"forward, {len(y)} blocks", [forward(r) for r in runs]),
        (f"training step, {len(y_train)} blocks", [step(r) for r in runs]),
    ]
    return [Speed(what, *milliseconds(calls, seconds)) for what, calls in pairs]
