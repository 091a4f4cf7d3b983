"""Colour pictures (H, W, C) are warned of by all that takes them as many narrow pictures; what is none is not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import fastunroll as fu
import pytest
import torch
from torch import Tensor

lin, S, prox = fu.operators, fu.solvers, fu.prox
KERNEL = torch.ones(5, 3) / 15


def ones(*shape: int) -> Tensor:
    return torch.ones(shape)


class Own(lin.LinearOperator):
    """A user's, which states nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x

    adjoint = forward


def network(A: Any, y: Tensor, prior: prox.Proximal) -> Tensor:
    found: Tensor = fu.nn.Unrolled(fu.schemes.FISTA(), A, prior, layers=2, step=0.5)(y)
    return found


TV = prox.TotalVariation(3)
COLOURS = ones(20, 24, 3)
CALLS: dict[str, tuple[Callable[[Tensor], Any], Tensor]] = {
    "Blur": (lin.Blur(KERNEL), COLOURS),
    "Blur, circular, in double precision": (lin.Blur(KERNEL.double()), COLOURS.double()),
    "Blur, reflected": (lin.Blur(KERNEL, "reflect"), COLOURS),
    "Blur, valid": (lin.Blur(KERNEL, "valid"), COLOURS),
    "Blur, half precision": (lin.Blur(KERNEL), COLOURS.half()),
    "Blur, with gradients": (lin.Blur(KERNEL, learn=True), COLOURS.clone().requires_grad_()),
    "Blur, adjoint": (lin.Blur(KERNEL).adjoint, COLOURS),
    "Blur, normal": (lin.Blur(KERNEL).normal, COLOURS),
    "Blur, solve": (lambda x: lin.Blur(KERNEL).solve(x, 0.5), COLOURS),
    "Blur, several pictures": (lin.Blur(KERNEL), ones(2, 20, 24, 3)),
    "Downsample": (lin.Downsample(2, ones(2, 2) / 4), ones(20, 24, 4)),
    "Fourier": (lin.Fourier(ones(1, 3)), COLOURS + 0j),
    "Wavelet": (lin.Wavelet("haar"), ones(20, 24, 4)),
    "DCT": (lin.DCT(), COLOURS),
    "Gradient": (lin.Gradient(), COLOURS),
    "Blocks": (lin.Blocks(2), ones(20, 24, 4)),
    "BlockDCT": (lin.BlockDCT(3), COLOURS),
    "fista": (lambda y: S.fista(lin.Blur(KERNEL), y, 0.1, iterations=2), COLOURS),
    "fista, inpainting": (lambda y: S.fista(lin.Mask(ones(24, 1)), y, 0.1, prox=TV, iterations=2), COLOURS),
    "admm, a mask for each": (lambda y: S.admm(lin.Mask(ones(20, 24, 3)), y, 0.1, prox=TV, iterations=2), COLOURS),
    "primal_dual, own": (lambda y: S.primal_dual(Own(), y, 0.1, prox=TV, iterations=2, tau=1, sigma=1), COLOURS),
    "Unrolled": (lambda y: network(lin.Blur(KERNEL), y, TV), COLOURS),
    "Unrolled, inpainting": (lambda y: network(lin.Mask(ones(24, 1)), y, TV), COLOURS),
    "Unrolled, wavelets": (lambda y: network(lin.Mask(ones(24, 1)), y, prox.WaveletL1("haar", 1)), ones(20, 24, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_colour_pictures_are_warned_of(name: str) -> None:
    call, x = CALLS[name]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        call(x)
    mine = [w for w in said if "movedim" in str(w.message)]
    assert len(mine) == 1, [str(w.message) for w in said]
    assert mine[0].category is UserWarning
    assert mine[0].filename == __file__
    C = x.shape[-1]
    assert f" is one of pictures of 24×{C}: " in str(mine[0].message)
    assert f"if these are 20×24 in colour, else state the shape of one sample, (24, {C})" in str(mine[0].message)


NONE: dict[str, tuple[Callable[[Tensor], Any], Tensor]] = {
    "channels first": (lin.Blur(KERNEL), ones(3, 20, 24)),
    "one narrow picture": (lin.Blur(KERNEL), ones(24, 3)),
    "few pictures": (lin.Blur(KERNEL), ones(15, 24, 3)),
    "few rows": (lin.Blur(KERNEL), ones(20, 15, 3)),
    "stated": (lin.Blur(KERNEL, shape=(24, 3)), COLOURS),
    "a stated stack": (lin.Gradient(shape=(20, 24, 3)), COLOURS),
    "a mask of all sides": (lin.Fourier(ones(24, 3)), COLOURS + 0j),
    "slices of a volume": (lin.Blur(ones(2, 2, 2) / 8, dims=3), COLOURS),
    "weights of all values": (lin.Mask(ones(20, 24, 3)), COLOURS),
    "one weight of each pixel": (lambda y: S.fista(lin.Mask(ones(20, 24, 1)), y, 0.1, iterations=2), COLOURS),
    "coefficients of blocks": (lin.Blocks(2).adjoint, ones(20, 25, 4)),
    "a mask of narrow pictures": (lambda y: S.fista(lin.Mask(ones(24, 3)), y, 0.1, prox=TV, iterations=2), COLOURS),
    "volumes": (
        lambda y: S.fista(lin.Mask(ones(1, 24, 3), dims=3), y, 0.1, prox=prox.TotalVariation(2, dims=3), iterations=2),
        COLOURS,
    ),
    "a prior of no pictures": (lambda y: S.fista(Own(), y, 0.1, iterations=2), COLOURS),
    "networks": (lambda y: network(lin.Blur(KERNEL, shape=(24, 3)), y, TV), COLOURS),
}  # fmt: skip


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_colour_picture_is_not(name: str) -> None:
    call, x = NONE[name]
    call(x)  # a warning would be an error
