"""Measures the quality and the time of each method on each scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...nn import Unrolled
from ..timing import milliseconds
from .classical import Method
from .scene import Scene

Curve = list[tuple[int, float]]


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


@dataclass(frozen=True)
class Run:
    """A method that reconstructs a scene.

    Attributes:
        method: the name of the method.
        solve: the function that reconstructs the scene.
        watched: the same function, which also appends the PSNR after each iteration to a curve.
        lam, color, is_network, drawn: as in :class:`Result`.
    """

    method: str
    solve: Callable[[], Tensor]
    watched: Callable[[Curve], Tensor]
    lam: float | None = None
    color: str | None = None
    is_network: bool = True
    drawn: bool = True


def classical(method: Method, scene: Scene, lam: float) -> Run:
    """The run of a classical method."""

    def watched(curve: Curve) -> Tensor:
        return method.solve(scene.A, scene.y, lam, lambda k, x: curve.append((k, scene.psnr(x))))

    solve = lambda: method.solve(scene.A, scene.y, lam, None)  # noqa: E731
    return Run(method.name, solve, watched, lam, method.color, is_network=False, drawn=method.drawn)


def unrolled(name: str, net: Unrolled, scene: Scene, color: str, drawn: bool) -> Run:
    """The run of a network, whose curve has all layers."""

    def watched(curve: Curve) -> Tensor:
        layers = net(scene.y, return_layers=True, operator=scene.A)
        curve += [(k, scene.psnr(x)) for k, x in enumerate(layers, 1)]
        return layers[-1].clone()

    return Run(name, lambda: net(scene.y, operator=scene.A), watched, color=color, drawn=drawn)


def rival(name: str, net: nn.Module, scene: Scene) -> Run:
    """The run of a network of another library, of which the last layer alone is known."""

    def solve() -> Tensor:
        x: Tensor = net(scene.y, scene.A)
        return x

    return Run(name, solve, lambda curve: solve(), drawn=False)


@torch.no_grad()
def evaluate(runs: Sequence[Run], scene: Scene, *, timed: bool) -> list[Result]:
    """Runs all methods on a scene. If ``timed``, it then runs them in turns for their times."""
    results = []
    for run in runs:
        curve: Curve = []
        x = run.watched(curve)
        results.append(
            Result(
                run.method, scene.name, scene.psnr(x), scene.ssim(x), None, run.lam, x, curve, run.color,
                run.is_network, run.drawn,
            )
        )  # fmt: skip
    if timed:
        times = milliseconds([torch.no_grad()(run.solve) for run in runs], 0.0, warm_up=False)
        for result, ms in zip(results, times, strict=True):
            result.ms = ms
    return results
