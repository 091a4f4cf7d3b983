"""Measures the quality and the time of each method on each scene."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

from ...nn import Unrolled
from .classical import Method
from .scene import Scene

Curve = list[tuple[int, float]]

ENOUGH = 0.5  # seconds after which a method is not run again for its time


@dataclass
class Result:
    """The result of a method on a scene.

    Attributes:
        method: the name of the method.
        scene: the name of the scene.
        psnr: the PSNR in dB.
        ssim: the SSIM.
        ms: the time for the picture in milliseconds, or None if it was not measured.
        lam: the weight λ, or None for a network.
        x: the reconstruction.
        curve: the numbers of layers or iterations, and the PSNR after each; empty if it was not measured.
        color: the colour of the curve.
        is_network: whether the method is a network.
        drawn: whether the figure has the picture.
    """

    method: str
    scene: str
    psnr: float
    ssim: float
    ms: float | None
    lam: float | None
    x: Tensor
    curve: Curve = field(default_factory=list)
    color: str | None = None
    is_network: bool = False
    drawn: bool = True


def _timed(run: Callable[[], Tensor]) -> tuple[Tensor, float]:
    start = perf_counter()
    x = run()
    return x, perf_counter() - start


@torch.no_grad()
def _evaluate(
    method: str, scene: Scene, watched: Callable[[Curve], Tensor], run: Callable[[], Tensor], lam: float | None
) -> Result:
    """Runs a method once with a look at each iterate, and some times for its time unless it takes long."""
    curve: Curve = []
    x, seconds = _timed(lambda: watched(curve))
    times = [] if seconds < ENOUGH else [seconds]
    while sum(times) < ENOUGH and len(times) < 9:
        x, seconds = _timed(run)
        times.append(seconds)
    return Result(method, scene.name, scene.psnr(x), scene.ssim(x), 1e3 * median(times), lam, x, curve)


def classical(method: Method, scene: Scene, lam: float) -> Result:
    """Evaluates a classical method."""

    def watched(curve: Curve) -> Tensor:
        return method.solve(scene.A, scene.y, lam, lambda k, x: curve.append((k, scene.psnr(x))))

    result = _evaluate(method.name, scene, watched, lambda: method.solve(scene.A, scene.y, lam, None), lam)
    result.color, result.drawn = method.color, method.drawn
    return result


def unrolled(name: str, net: Unrolled, scene: Scene, color: str, drawn: bool) -> Result:
    """Evaluates a network."""

    def watched(curve: Curve) -> Tensor:
        layers = net(scene.y, return_layers=True, operator=scene.A)
        curve += [(k, scene.psnr(x)) for k, x in enumerate(layers, 1)]
        return layers[-1].clone()

    result = _evaluate(name, scene, watched, lambda: net(scene.y, operator=scene.A), None)
    result.color, result.is_network = color, True
    result.drawn = drawn
    return result
