"""The classical methods of the demos, and the choice of their weight λ on training pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ...metrics import psnr
from ...nn import Unrolled
from ...operators import Blur, LinearOperator
from ...prox import Proximal, TotalVariation, WaveletL1
from ...schemes import FISTA
from ...solvers import fista

# Reconstructs pictures from an operator, measurements, a weight λ and, for iterations, a function that sees iterates.
Solve = Callable[[LinearOperator, Tensor, float, "Callback | None"], Tensor]
Callback = Callable[[int, Tensor], None]

EVERY = 10  # iterations between two that a function sees in a long run


@dataclass(frozen=True)
class Method:
    """A classical method.

    Attributes:
        name: the name of the method in tables.
        solve: the function that reconstructs pictures.
        weights: the weights λ to choose from.
        color: the colour of its curve, or None for no curve.
        drawn: whether the figure has its picture.
    """

    name: str
    solve: Solve
    weights: Sequence[float]
    color: str | None = None
    drawn: bool = True


def wavelet(iterations: int, weights: Sequence[float], drawn: bool = True) -> Method:
    """FISTA with the ℓ₁ norm of wavelet details, whose grid moves from iteration to iteration."""
    name = f"wavelets, {iterations} iterations"
    return Method(name, _fista(WaveletL1("db4", levels=3), iterations), weights, "tab:blue", drawn)


def total_variation(iterations: int, weights: Sequence[float], drawn: bool = True) -> Method:
    """FISTA with total variation."""
    name = f"total variation, {iterations} iterations"
    return Method(name, _fista(TotalVariation(inner_iterations=10), iterations), weights, "tab:green", drawn)


def _fista(prox: Proximal, iterations: int) -> Solve:
    def solve(A: LinearOperator, y: Tensor, lam: float, callback: Callback | None = None) -> Tensor:
        if callback is not None and iterations <= 2 * EVERY:  # the network that FISTA unrolls to has the same iterates
            net = Unrolled(FISTA(), A, prox, iterations, lam=lam, step=1.0, learn=())
            iterates = net(y, return_layers=True)
            for k, x in enumerate(iterates, 1):
                callback(k, x)
            return iterates[-1].clone()
        options: dict[str, Any] = {} if callback is None else {"callback": lambda k, x: callback(k, x)}
        return fista(A, y, lam, iterations=iterations, step=1.0, prox=prox, **options)  # ‖A‖ ≤ 1 in all scenes

    return solve


def wiener(weights: Sequence[float]) -> Method:
    """The Wiener filter for a prior whose spectrum falls with the square of the frequency.

    x̂ = F⁻¹ conj(k̂)·ŷ / (|k̂|² + λ|ω|²). The blurred picture is continued beyond its border by reflection.
    """

    def solve(A: LinearOperator, y: Tensor, lam: float, callback: Callback | None = None) -> Tensor:
        assert isinstance(A, Blur)
        h, w = A.kernel.shape
        grown = A.boundary == "valid"
        if grown:
            before, after = (h - 1 - h // 2, w - 1 - w // 2), (h // 2, w // 2)
            y = pad(y[:, None], (before[1], after[1], before[0], after[0]), mode="reflect")[:, 0]
        delta = torch.zeros(y.shape[-2:], dtype=y.dtype, device=y.device)
        delta[0, 0] = 1
        circular = Blur(A.kernel)
        spectrum = torch.fft.rfft2(circular(delta))
        frequencies = [2 * torch.pi * f for f in (torch.fft.fftfreq(y.shape[-2]), torch.fft.rfftfreq(y.shape[-1]))]
        roughness = (frequencies[0][:, None].square() + frequencies[1].square()).to(y)
        filtered = spectrum.conj() * torch.fft.rfft2(y) / (spectrum.abs().square() + lam * roughness)
        return torch.fft.irfft2(filtered, s=y.shape[-2:])

    return Method("Wiener filter", solve, weights)


@torch.no_grad()
def choose(method: Method, A: LinearOperator, y: Tensor, x: Tensor, inside: Callable[[Tensor], Tensor]) -> float:
    """Returns the weight λ of a method with the largest mean PSNR on training pictures.

    The PSNR grows with λ up to the best one, and falls after it. So the search starts in the middle, and goes to the
    next weight for as long as that is better.
    """

    @cache
    def quality(place: int) -> float:
        if not 0 <= place < len(method.weights):
            return -math.inf
        return float(psnr(inside(method.solve(A, y, method.weights[place], None)), inside(x)).mean())

    place = len(method.weights) // 2
    while (better := max((place, place - 1, place + 1), key=quality)) != place:
        place = better
    return method.weights[place]
