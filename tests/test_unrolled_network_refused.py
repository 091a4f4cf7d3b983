"""Networks of a reader's own pieces that do not fit each other, or y: one sentence."""

from __future__ import annotations

import fastunroll as fu
import pytest
import torch
from fastunroll import prox, schemes
from refusals import Refused, check_refused
from test_unrolled_network import DOUBLE, Blur, data, matrix

A, L1 = matrix(), prox.L1()
BAD: dict[str, Refused] = {
    "scheme": (lambda: fu.nn.Unrolled("fista", A, L1, 3), TypeError, "scheme must be one of fu.schemes"),  # type: ignore[arg-type]
    "a class": (
        lambda: fu.nn.Unrolled(schemes.FISTA, A, L1, 3), TypeError, "got the class FISTA: call it",  # type: ignore[arg-type]
    ),
    "prox": (lambda: fu.nn.Unrolled(schemes.FISTA(), A, 0.1, 3), TypeError, "prox must be a fu.prox.Proximal"),  # type: ignore[arg-type]
    "operator": (lambda: fu.nn.Unrolled(schemes.FISTA(), "A", L1, 3), TypeError, "A must be a matrix"),
    "layers": (lambda: fu.nn.Unrolled(schemes.FISTA(), A, L1, 0), ValueError, "layers must be a whole number ≥ 1"),
    "lam": (lambda: fu.nn.Unrolled(schemes.FISTA(), A, L1, 3, lam=-1), ValueError, "lam must be"),
    "step": (lambda: fu.nn.Unrolled(schemes.FISTA(), A, L1, 3, step=0.0), ValueError, "step must be"),
    "learn": (
        lambda: fu.nn.Unrolled(schemes.FISTA(), A, L1, 3, learn=("thetta",)), ValueError,
        'learn must be "step", "theta" or "beta", got \'thetta\'',
    ),
    "learn, a number": (
        lambda: fu.nn.Unrolled(schemes.FISTA(), A, L1, 3, learn=3), ValueError,  # type: ignore[arg-type]
        'learn must be "step", "theta" or "beta", got 3',
    ),
    "learn, one number to choose": (
        lambda: fu.nn.Unrolled(schemes.AMP(), A, L1, 3, learn="step"), ValueError,
        'learn must be "theta", got \'step\'',
    ),
    "learn, none to choose": (
        lambda: fu.nn.Unrolled(schemes.AMP(), A, prox.Box(), 3, learn="theta"), ValueError,
        "learn must be left out, got",
    ),
    "no norm": (
        lambda: fu.nn.Unrolled(schemes.FISTA(), (lambda x: x, lambda y: y), L1, 3), ValueError,
        "step must be given where the norm of A cannot be found",
    ),
    "zero": (lambda: fu.nn.Unrolled(schemes.FISTA(), 0 * A, L1, 3), ValueError, "A must"),
    "beta": (
        lambda: fu.nn.Unrolled(schemes.FISTA([0.1, 0.2]), A, L1, 3), ValueError, "beta must be one number or one fo",
    ),
    "y": (
        lambda: fu.nn.Unrolled(schemes.FISTA(), A, L1, 3)(torch.randn(3, 5, dtype=DOUBLE)), ValueError,
        "y has 5 columns but A is (7, 12)",
    ),
    "type of y": (
        lambda: fu.nn.Unrolled(schemes.FISTA(), A, L1, 3)(torch.randn(3, 7)), TypeError, "must have one dtype",
    ),
    "y of an operator": (
        lambda: fu.nn.Unrolled(schemes.FISTA(), Blur(), L1, 3)(torch.randn(3, 4, 4, dtype=DOUBLE)), ValueError, "5, 6",
    ),
    "x0 of an operator": (
        lambda: fu.nn.Unrolled(schemes.FISTA(), Blur(), L1, 3)(data("blur"), data("blur")[:2]), ValueError,
        "x0 must have the shape (3, 5, 6), with the samples of y, got (2, 5, 6)",
    ),
    "both": (
        lambda: fu.nn.Unrolled(schemes.FISTA(), A, L1, 3)(data("matrix"), None, True, keep_every=1), ValueError,
        "use one or the other",
    ),
    "a former name": (
        lambda: fu.nn.Unrolled(schemes.FISTA(), A, L1, 3)(data("matrix"), checkpoint=1), TypeError,
        "checkpoint is now called keep_every: use keep_every=1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    check_refused(BAD[name])
