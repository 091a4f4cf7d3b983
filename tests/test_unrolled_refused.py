"""What fu.unrolled refuses of options and counts of a wrong type."""

from __future__ import annotations

from typing import Any

import fastunroll as fu
import pytest
import torch
from refusals import Refused, check_refused

A, Y, A_TENSOR = torch.randn(11, 16), torch.randn(3, 11), torch.ones(2)
FITS = "{} must be a whole number that fits 64 bits, at most 9223372036854775807, got {}"


def unrolled(**options: Any) -> object:
    given = {"linear": fu.GradientStep(A), "prox": fu.prox.L1(), "theta": 0.1, "layers": 2, **options}
    return fu.unrolled(Y, **given)


UNROLLED: dict[str, Refused] = {
    "layers": (lambda: unrolled(layers=2**63), ValueError, FITS.format("layers", 2**63)),
    "keep_every": (lambda: unrolled(keep_every=2**63), ValueError, FITS.format("keep_every", 2**63)),
    "checkpoint": (lambda: unrolled(checkpoint=4), TypeError, "checkpoint is now called keep_every: use keep_every=4"),
    "return_layers": (lambda: unrolled(return_layers=A_TENSOR), TypeError, "return_layers must be True or False"),
    "return_state": (
        lambda: unrolled(return_state=A_TENSOR, scheme=fu.schemes.FISTA(0.5)), TypeError,
        "return_state must be True or False",
    ),
    "group": (lambda: unrolled(prox=fu.prox.GroupL1(2**63)), ValueError, FITS.format("size", 2**63)),
    "group, a word": (
        lambda: unrolled(prox=fu.prox.GroupL1("2")), ValueError, "size must be a whole number ≥ 1, got '2'",  # type: ignore[arg-type]
    ),
    "support size": (lambda: fu.prox.SupportSelection(2**63), ValueError, "support_sizes must be a whole number"),
    "support size, a flag": (lambda: fu.prox.SupportSelection(True), ValueError, "support_sizes must be a whole"),
    "support size, a tensor": (
        lambda: fu.prox.SupportSelection(A_TENSOR), ValueError,  # type: ignore[arg-type]
        "support_sizes must be a whole number ≥ 0, or a list of them with one for each layer, got a tensor of shape",
    ),
    "prox, a class": (lambda: unrolled(prox=fu.prox.L1), TypeError, "prox must be a fu.prox.Proximal"),
    "scheme, a word": (lambda: unrolled(scheme="fista"), TypeError, "scheme must be one of fu.schemes"),
    "no θ": (lambda: unrolled(theta=None), ValueError, "L1 has a threshold: give theta"),
    "θ of the identity": (
        lambda: unrolled(prox=fu.prox.Identity()), ValueError, "Identity has no threshold: leave out theta",
    ),
    "θ, too large": (lambda: unrolled(theta=1e300), ValueError, "theta must be at most 3.403e+38"),
    "θ, NaN": (lambda: unrolled(theta=float("nan")), ValueError, "theta must be a finite number"),
    "θ, digits": (lambda: unrolled(theta=10**400), ValueError, "theta must be a finite number"),
    "gain, NaN": (lambda: unrolled(gain=float("nan")), ValueError, "gain must be"),
    "step, a word": (
        lambda: unrolled(linear=fu.GradientStep(A, step="0.1")), TypeError,  # type: ignore[arg-type]
        "step must be a number, a torch.Tensor, or a list of these with one for each layer, got '0.1'",
    ),
    "beta, a matrix": (lambda: unrolled(scheme=fu.schemes.FISTA(A)), ValueError, "beta must hold"),
    "via, a word": (lambda: fu.GradientStep(A, via="grams"), ValueError, 'via must be "residual" or "gram"'),
    "AMP by the Gram matrix": (
        lambda: unrolled(linear=fu.GradientStep(A, via="gram"), scheme=fu.schemes.AMP()), ValueError,
        "AMP needs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNROLLED)
def test_unrolled(name: str) -> None:
    check_refused(UNROLLED[name])
