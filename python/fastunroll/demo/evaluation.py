"""Measures the quality and the time of each method on the held-out photographs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean

import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from ..data.files import Image
from ..losses import kkt_residual, lasso_objective
from ..nn import LISTA
from ..solvers import fista, ista
from . import photographs
from .photographs import Photograph
from .sensing import Sensing
from .timing import milliseconds


@dataclass
class Result:
    """The results of a method: means over all photographs, and the picture of each.

    Attributes:
        method: the name of the method.
        psnr: the mean PSNR in dB.
        ssim: the mean SSIM.
        kkt: the mean KKT residual.
        objective: the mean Lasso objective.
        ms_per_image: the time for a photograph in milliseconds.
        pictures: the reconstructed photographs.
        picture_psnr: the PSNR of each photograph in dB.
        layer_psnr: the mean PSNR after each layer or iteration in dB; empty if it was not measured.
        layer_kkt: the mean KKT residual after each layer or iteration.
    """

    method: str
    psnr: float
    ssim: float
    kkt: float
    objective: float
    ms_per_image: float
    pictures: list[Image]
    picture_psnr: list[float]
    layer_psnr: list[float] = field(default_factory=list)
    layer_kkt: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Speed:
    """The median times of a native call and of the same computation in eager PyTorch, in milliseconds."""

    task: str
    native_ms: float
    eager_ms: float

    @property
    def ratio(self) -> float:
        return self.eager_ms / self.native_ms


class Evaluation:
    """Evaluates methods on the measurements of the held-out photographs."""

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
    def evaluate(
        self, method: str, run: Callable[[], Tensor], layers: Callable[[], Tensor] | None = None, seconds: float = 0.3
    ) -> Result:
        """Runs, measures and times a method.

        Args:
            method: the name of the method.
            run: a function that returns the reconstructed coefficients (blocks, 256).
            layers: a function that returns all iterates (K, blocks, 256).
            seconds: how long to repeat the method for its time. With 0 it runs once.
        """
        start = time.perf_counter()
        x = run()
        ms = 1e3 * (time.perf_counter() - start)
        if seconds:
            (ms,) = milliseconds([run], seconds)
        pictures, psnr = self._psnr(x)
        ssim = [structural_similarity(p.pixels, q, data_range=1) for p, q in zip(self.images, pictures, strict=True)]
        iterates: Sequence[Tensor] = list(layers()) if layers else []
        return Result(
            method,
            mean(psnr),
            mean(ssim),
            self._kkt(x),
            float(lasso_objective(x, self.y, self.sensing.A, self.sensing.lam).mean()),
            ms / len(self.images),
            pictures,
            psnr,
            [mean(self._psnr(z)[1]) for z in iterates],
            [self._kkt(z) for z in iterates],
        )

    def classical(self, converged: int) -> list[Result]:
        """Evaluates 16 iterations of ISTA and FISTA, 16 iterations of FISTA with its best λ, and converged FISTA."""
        A, y, lam, early = self.sensing.A, self.y, self.sensing.lam, self.sensing.lam_early
        return [
            self.evaluate(
                "ISTA@16",
                lambda: ista(A, y, lam, iterations=16, step=1.0),
                lambda: ista(A, y, lam, iterations=16, step=1.0, return_iterates=True),
            ),
            self.evaluate(
                "FISTA@16",
                lambda: fista(A, y, lam, iterations=16, step=1.0),
                lambda: fista(A, y, lam, iterations=16, step=1.0, return_iterates=True),
            ),
            self.evaluate(f"FISTA@16, λ = {early}", lambda: fista(A, y, early, iterations=16, step=1.0)),
            self.evaluate(
                f"FISTA@{converged}, converged", lambda: fista(A, y, lam, iterations=converged, step=1.0), seconds=0
            ),
        ]

    def network(self, method: str, net: LISTA) -> Result:
        """Evaluates a trained network."""
        return self.evaluate(method, lambda: net(self.y), lambda: net(self.y, return_layers=True))


def eager(net: LISTA, y: Tensor) -> Tensor:
    """Runs the network in plain PyTorch."""
    x = y.new_zeros(*y.shape[:-1], net.n)
    for w1, w2, theta in zip(net.W1, net.W2, net.theta, strict=True):
        z = torch.nn.functional.linear(y, w1) + torch.nn.functional.linear(x, w2)
        x = torch.sign(z) * torch.relu(z.abs() - theta)
    return x


def speed(net: LISTA, y: Tensor, batch: int, seconds: float) -> list[Speed]:
    """Times the native network and eager PyTorch: the forward pass of all blocks, and a training step of a batch."""
    y_train = y[:batch]
    with torch.no_grad():
        difference = (net(y) - eager(net, y)).norm() / eager(net, y).norm()
    if not difference < 1e-4:
        raise RuntimeError(
            f"the native network must equal the eager network, but differs by {difference:.1e}: please report this"
        )

    def forward(run: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return torch.no_grad()(lambda: run(y))

    def step(run: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(run(y_train).square().sum(), used)

    used = [p for name, p in net.named_parameters() if name != "W2.0"]  # the first layer multiplies x = 0 by W2
    runs = (net, lambda y: eager(net, y))
    pairs = [
        (f"forward, {len(y)} blocks", [forward(r) for r in runs]),
        (f"training step, {len(y_train)} blocks", [step(r) for r in runs]),
    ]
    return [Speed(task, *milliseconds(calls, seconds)) for task, calls in pairs]
