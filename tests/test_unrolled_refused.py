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
    given = {"linear": fu.Coupled(A), "prox": fu.Prox(0.1), "layers": 2, **options}
    return fu.unrolled(Y, **given)


UNROLLED: dict[str, Refused] = {
    "layers": (lambda: unrolled(layers=2**63), ValueError, FITS.format("layers", 2**63)),
    "checkpoint": (lambda: unrolled(checkpoint=2**63), ValueError, FITS.format("checkpoint", 2**63)),
    "return_layers": (lambda: unrolled(return_layers=A_TENSOR), TypeError, "return_layers must be True or False"),
    "return_state": (
        lambda: unrolled(return_state=A_TENSOR, state=fu.Momentum(0.5)), TypeError,
        "return_state must be True or False",
    ),
    "group": (lambda: unrolled(prox=fu.Prox(0.1, group=2**63)), ValueError, FITS.format("group", 2**63)),
    "group, a word": (
        lambda: unrolled(prox=fu.Prox(0.1, group="2")), ValueError, "group must be a whole number ≥ 1, got '2'",  # type: ignore[arg-type]
    ),
    "passing": (lambda: unrolled(prox=fu.Prox(0.1, passing=2**63)), ValueError, "passing must be a whole number"),
    "passing, a flag": (lambda: unrolled(prox=fu.Prox(0.1, passing=True)), ValueError, "passing must be a whole"),
    "passing, a tensor": (
        lambda: unrolled(prox=fu.Prox(0.1, passing=A_TENSOR)), ValueError,  # type: ignore[arg-type]
        "passing must be a whole number ≥ 0, or 2 of them, one a layer, got a tensor of shape (2,)",
    ),
    "kind": (
        lambda: unrolled(prox=fu.Prox(0.1, kind="hard")), ValueError,
        "kind must be",
    ),
    "kind, a list": (
        lambda: unrolled(prox=fu.Prox(0.1, kind=["soft"])), ValueError, "kind must be",  # type: ignore[arg-type]
    ),
    "θ, too large": (lambda: unrolled(prox=fu.Prox(1e300)), ValueError, "theta must be at most 3.403e+38"),
    "θ, NaN": (lambda: unrolled(prox=fu.Prox(float("nan"))), ValueError, "theta must be a finite number"),
    "θ, digits": (lambda: unrolled(prox=fu.Prox(10**400)), ValueError, "theta must be a finite number"),
    "gain, NaN": (lambda: unrolled(prox=fu.Prox(0.1, gain=float("nan"))), ValueError, "gain must be"),
    "step, a word": (
        lambda: unrolled(linear=fu.Coupled(A, step="0.1")), TypeError,  # type: ignore[arg-type]
        "step must be a number, a torch.Tensor, or a list of these, one a layer, got '0.1'",
    ),
    "beta, a matrix": (lambda: unrolled(state=fu.Momentum(A)), ValueError, "beta must hold"),
    "A, None": (lambda: unrolled(linear=fu.Coupled(None)), TypeError, "A must be a torch.Tensor, got NoneType"),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.mark.parametrize("name", UNROLLED)
def test_unrolled(name: str) -> None:
    check_refused(UNROLLED[name])
