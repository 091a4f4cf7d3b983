"""What networks refuse, and in which words."""

from __future__ import annotations

from collections.abc import Callable

import fastunroll as fu
import pytest
import torch

nn = fu.nn
A, Y = torch.randn(11, 17), torch.randn(3, 11)
NET = nn.ALISTA(A, layers=4)
SIZES = "y has 10 columns but A is (11, 17): expected y of shape (..., 11)"

REFUSED: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "no layers": (lambda: nn.LISTACP(A, layers=0), ValueError, "layers must be a whole number ≥ 1, got 0"),
    "half a layer": (lambda: nn.LVAMP(A, layers=1.5), ValueError, "layers must be a whole number ≥ 1, got 1.5"),  # type: ignore[arg-type]
    "zero": (
        lambda: nn.StepLISTA(0 * A), ValueError,
        "A must not be zero: the step size 1/‖A‖² would be infinite",
    ),
    "NaN": (
        lambda: nn.LFISTA(A / 0), ValueError,
        "A must be finite, but it holds NaN or infinity: check how it was computed",
    ),
    "a vector": (
        lambda: nn.ALISTA(A[0]), ValueError, "A must be a matrix (m, n) with m, n ≥ 1, got shape (17,)",
    ),
    "whole numbers": (
        lambda: nn.ALISTA(A.long()), TypeError, "A must be floating point, got torch.int64: use A.float()",
    ),
    "complex LISTA": (
        lambda: nn.LISTA(A.to(torch.complex64)), TypeError,
        "A must be real, got torch.complex64: this operation is defined for real data",
    ),
    "complex Bernoulli-Gaussian": (
        lambda: nn.LAMP(A.to(torch.complex64), shrinkage="bernoulli-gaussian"), TypeError,
        "A must be real, got torch.complex64: this operation is defined for real data",
    ),
    "λ": (lambda: nn.TiLISTA(A, lam=-1), ValueError, "lam must be a finite number ≥ 0, got -1"),
    "ρ": (lambda: nn.ADMMNet(A, rho=0), ValueError, "rho must be a finite number > 0, got 0"),
    "η": (lambda: nn.ADMMNet(A, eta=-0.5), ValueError, "eta must be a finite number > 0, got -0.5"),
    "solve": (
        lambda: nn.ADMMNet(A, solve="fast"), ValueError,  # type: ignore[arg-type]
        "solve must be \"exact\", \"factorised\" or \"learned\", got 'fast'",
    ),
    "threshold": (
        lambda: nn.LISTACP(A, threshold="matrix"), ValueError,  # type: ignore[arg-type]
        "threshold must be \"scalar\" or \"vector\", got 'matrix'",
    ),
    "selection": (
        lambda: nn.LISTACPSS(A, selection=(1.2, 113.0)), ValueError,
        "selection must be two percentages, (growth per layer, maximum), or None, got (1.2, 113.0): the literature "
        "uses (1.2, 13.0)",
    ),
    "decay": (lambda: nn.ALISTA(A, decay=1.5), ValueError, "decay must be in (0, 1], got 1.5"),
    "W": (lambda: nn.ALISTA(A, W=A.T), ValueError, "W must be (11, 17) as A is, got (17, 11)"),
    "gain": (
        lambda: nn.GLISTA(A, gain="loud"), ValueError,  # type: ignore[arg-type]
        "gain must be \"relu\", \"inverse\", \"exponential\" or \"sigmoid\", got 'loud'",
    ),
    "shrinkage": (
        lambda: nn.LVAMP(A, shrinkage="hard"), ValueError,  # type: ignore[arg-type]
        "shrinkage must be \"soft\" or \"bernoulli-gaussian\", got 'hard'",
    ),
    "start": (
        lambda: nn.LAMP(A, start="cold"), ValueError,  # type: ignore[arg-type]
        "start must be \"adjoint\" or \"analytic\", got 'cold'",
    ),
    "density": (
        lambda: nn.LAMP(A, shrinkage="bernoulli-gaussian", density=1), ValueError, "density must be in (0, 1), got 1",
    ),
    "noise": (lambda: nn.LVAMP(A, noise=0), ValueError, "noise must be a finite number > 0, got 0"),
    "c1": (lambda: nn.HyperLISTA(A, c1=-1), ValueError, "c1 must be a finite number ≥ 0, got -1"),
    "y": (lambda: NET(Y[:, 1:]), ValueError, SIZES),
    "y of a network without A": (lambda: nn.LISTASS(A, layers=2)(Y[:, 1:]), ValueError, SIZES),
    "y in a list": (
        lambda: NET(Y.tolist()), TypeError, "y must be a torch.Tensor, got list: use torch.as_tensor(y)",
    ),
    "y of another type": (
        lambda: NET(Y.double()), TypeError,
        "all tensors must have one dtype, but the network is torch.float32 and y is torch.float64: convert one with "
        ".to()",
    ),
    "complex y": (
        lambda: NET(Y + 0j), TypeError,
        "all tensors must have one dtype, but the network is torch.float32 and y is torch.complex64: make both "
        "complex, or take the real part",
    ),
    "x0": (
        lambda: NET(Y, torch.zeros(3, 16)), ValueError,
        "x0 has 16 columns but A is (11, 17): expected x0 of shape (..., 17)",
    ),
    "x0 of other samples": (
        lambda: NET(Y, torch.zeros(4, 17)), ValueError,
        "x0 and y must hold the same samples, but their leading shapes are (4,) and (3,)",
    ),
    "depth": (lambda: NET(Y, depth=5), ValueError, "depth must be from 1 to layers = 4, got 5"),
    "no depth": (lambda: nn.LISTA(A, layers=4)(Y, depth=0), ValueError, "depth must be a whole number ≥ 1, got 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    call, kind, message = REFUSED[name]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


def test_weights_of_another_size() -> None:
    with pytest.raises(RuntimeError, match="size mismatch for W"):
        nn.TiLISTA(A).load_state_dict(nn.TiLISTA(A[:, 1:]).state_dict())
