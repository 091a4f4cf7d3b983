"""Every refusal says the rule, what broke it and the fix."""

from __future__ import annotations

import fastunroll as fu
import pytest
import torch
from refusals import Refused, check_refused

A, L1 = torch.randn(250, 500), fu.prox.L1()
NAN = A.clone()
NAN[3, 4] = float("nan")
x, y = torch.randn(3, 500), torch.randn(3, 250)


def net() -> fu.nn.LISTA:
    return fu.nn.LISTA(m=250, n=500, layers=2)


def meta(t: torch.Tensor) -> torch.Tensor:
    return t.to("meta")


U = fu.unrolled
STEP, L1 = fu.GradientStep(A), fu.prox.L1()

BAD: dict[str, Refused] = {
    "unrolled, columns": (
        lambda: U(x, STEP, L1, 0.1, layers=2), ValueError,
        "y has 500 columns but A is (250, 500): expected y of shape (..., 250)",
    ),
    "unrolled, layers": (lambda: U(y, STEP, L1, 0.1, layers=0), ValueError, "layers must be a whole number ≥ 1, got 0"),
    "unrolled, a matrix for some layers": (
        lambda: U(y, fu.GradientStep([A, A]), L1, 0.1, layers=3), ValueError,
        "A must have 1 entry or one for each layer (3), got 2",
    ),
    "unrolled, W does not fit": (
        lambda: fu.GradientStep(A, A.T), ValueError, "W must be (250, 500), got (500, 250)",
    ),
    "unrolled, W2 does not fit": (
        lambda: fu.AffineStep(A.T, [A, A]), ValueError, "W2[0] must be (500, 500), got (250, 500)",
    ),
    "unrolled, no linear step": (
        lambda: U(y, A, L1, 0.1, layers=2), TypeError,
        "linear must be AffineStep(W1, W2), GradientStep(A) or DataStep(A, rho), got Tensor",
    ),
    "unrolled, no prox": (
        lambda: U(y, STEP, 0.1, layers=2), TypeError,
        "prox must be a fu.prox.Proximal, such as fu.prox.L1(), got float",
    ),
    "unrolled, no scheme": (
        lambda: U(y, STEP, L1, 0.1, layers=2, scheme=0.9), TypeError,
        "scheme must be one of fu.schemes, such as fu.schemes.FISTA(), got float",
    ),
    "unrolled, no threshold": (lambda: U(y, STEP, L1, layers=2), ValueError, "L1 has a threshold: give theta"),
    "unrolled, threshold of another size": (
        lambda: U(y, STEP, L1, torch.rand(7), layers=2), ValueError,
        "theta must hold 1 or 500 value(s), as many in every layer, got shape (7,)",
    ),
    "unrolled, group": (
        lambda: U(y, STEP, fu.prox.GroupL1(3), 0.1, layers=2), ValueError,
        "the group size must divide the number of unknowns, 500, but it is 3",
    ),
    "unrolled, support sizes": (
        lambda: U(y, STEP, fu.prox.SupportSelection((1, 2, 3)), 0.1, layers=2), ValueError,
        "support_sizes must be a whole number ≥ 0, or 2 of them with one for each layer, got (1, 2, 3)",
    ),
    "unrolled, half a support": (
        lambda: fu.prox.SupportSelection(2.5), ValueError,
        "support_sizes must be a whole number ≥ 0, or a list of them with one for each layer, got 2.5",
    ),
    "unrolled, a word for a threshold": (
        lambda: U(y, STEP, L1, "a", layers=2), TypeError,
        "theta must be a number, a torch.Tensor, or a list of these with one for each layer, got 'a'",
    ),
    "unrolled, thresholds of no layer": (
        lambda: U(y, STEP, L1, [], layers=2), TypeError,
        "theta must be a number, a torch.Tensor, or a list of these with one for each layer, got []",
    ),
    "unrolled, gain": (
        lambda: U(y, STEP, L1, 0.1, gain=-1, layers=2), ValueError,
        "gain must be positive, but layer 0 has -1: learn its logarithm instead",
    ),
    "unrolled, beta": (
        lambda: U(y, STEP, L1, 0.1, layers=4, scheme=fu.schemes.FISTA([0.1, 0.2])), ValueError,
        "beta must have 1 entry or one for each layer (4), got 2",
    ),
    "unrolled, AMP with a step": (
        lambda: U(y, fu.GradientStep(A, step=0.1), L1, 0.1, layers=2, scheme=fu.schemes.AMP()), ValueError,
        "AMP needs a gradient step by matrices without a step size: GradientStep(A, W)",
    ),
    "unrolled, Gram and y": (
        lambda: U(y[:, 1:], fu.GradientStep(A, via="gram"), L1, 0.1, layers=2), ValueError,
        "y has 249 columns but A is (250, 500): expected y of shape (..., 250)",
    ),
    "unrolled, a state that is not there": (
        lambda: U(y, STEP, L1, 0.1, layers=2, return_state=True), ValueError,
        "s0 and return_state are about a second state, but ProximalGradient has none: give another scheme",
    ),
    "unrolled, keep_every": (
        lambda: U(y, STEP, L1, 0.1, layers=2, keep_every=1, return_layers=True), ValueError,
        "keep_every keeps few layers and return_layers all of them: use one or the other",
    ),
    "unrolled, dtype": (
        lambda: U(y.double(), STEP, L1, 0.1, layers=2), TypeError, "all tensors must have one dtype",
    ),
    "columns": (
        lambda: fu.ista_step(x, y[:, :249], A, 0.1, 0.1), ValueError,
        "y has 249 columns but A is (250, 500): expected y of shape (..., 250)",
    ),
    "no columns": (
        lambda: fu.gradient_step(torch.tensor(1.0), y, A, 0.1), ValueError,
        "x has no columns but A is (250, 500): expected x of shape (..., 500)",
    ),
    "samples": (
        lambda: fu.gradient_step(x[:2], y, A, 0.1), ValueError,
        "x and y must hold the same samples, but their leading shapes are (2,) and (3,)",
    ),
    "dtype": (
        lambda: fu.gradient_step(x, y.double(), A, 0.1), TypeError,
        "all tensors must have one dtype, but A is torch.float32 and y is torch.float64: convert one with .to()",
    ),
    "device": (
        lambda: fu.gradient_step(x, meta(y), A, 0.1), ValueError,
        "all tensors must be on one device, but A is on cpu and y on meta: move one with .to()",
    ),
    "integers": (
        lambda: fu.soft_threshold(torch.arange(3), 0.1), TypeError,
        "x must be floating point, got torch.int64: use x.float()",
    ),
    "not a tensor": (
        lambda: fu.soft_threshold([1.0], 0.1), TypeError,  # type: ignore[arg-type]
        "x must be a torch.Tensor, got list: use torch.as_tensor(x)",
    ),
    "negative threshold": (
        lambda: fu.soft_threshold(x, -0.1), ValueError, "theta must be a finite number ≥ 0, got -0.1",
    ),
    "complex threshold": (
        lambda: fu.soft_threshold(x, torch.tensor(1j)), TypeError, "theta must be real, got torch.complex64",
    ),
    "threshold on another device": (
        lambda: fu.soft_threshold(x, meta(torch.rand(500))), ValueError,
        "all tensors must be on one device, but theta is on meta and the data on cpu: move one with .to()",
    ),
    "broadcast": (
        lambda: fu.soft_threshold(x, torch.rand(7)), ValueError,
        "theta must broadcast with x, but theta is (7,) and x is (3, 500)",
    ),
    "threshold of another type": (
        lambda: fu.soft_threshold(x, "0.1"), TypeError, "theta must be a number or a torch.Tensor, got str",  # type: ignore[arg-type]
    ),
    "sparse": (
        lambda: fu.operators.Dense(A.to_sparse()), TypeError,
        "A must be dense, got layout torch.sparse_coo: use A.to_dense()",
    ),
    "step on another device": (
        lambda: fu.gradient_step(x, y, A, torch.tensor(0.1, device="meta")), ValueError,
        "all tensors must be on one device, but step is on meta and the data on cpu: move one with .to()",
    ),
    "complex step": (
        lambda: fu.gradient_step(x, y, A, torch.tensor(1j)), TypeError, "step must be real, got torch.complex64",
    ),
    "lambda as a tensor": (
        lambda: fu.nn.LISTA(A, lam=torch.tensor(0.1)), TypeError,  # type: ignore[arg-type]
        "lam must be a number, got Tensor: use float(lam) if it holds one",
    ),
    "dtype of parameters": (
        lambda: fu.nn.LISTA(A, dtype=torch.int32), TypeError, "dtype must be real floating point, got torch.int32",
    ),
    "weights of another type": (
        lambda: fu.AffineStep([A.T], ["W2"]), TypeError,  # type: ignore[list-item]
        "W2 must be a torch.Tensor, got str: use torch.as_tensor(W2)",
    ),
    "lambda that does not broadcast": (
        lambda: fu.losses.kkt_residual(x, y, A, torch.rand(7)), ValueError,
        "lam must broadcast with x, but lam is (7,) and x is (3, 500)",
    ),
    "step": (
        lambda: fu.gradient_step(x, y, A, torch.rand(3)), ValueError, "step must be one number, got shape (3,)",
    ),
    "infinite step": (
        lambda: fu.gradient_step(x, y, A, float("inf")), ValueError, "step must be a finite number ≥ 0, got inf",
    ),
    "A has three dimensions": (
        lambda: fu.gradient_step(x, y, A[None], 0.1), ValueError,
        "A is (1, 250, 500), a matrix for each of 1 samples, so x must have the shape (..., 1, 500), got (",
    ),
    "A is empty": (
        lambda: fu.operators.Dense(A[:, :0]), ValueError,
        "A must be a matrix (m, n) with m, n ≥ 1, or one for every sample, (B, m, n), got shape (250, 0)",
    ),
    "A is not finite": (
        lambda: fu.nn.LISTA(NAN), ValueError,
        "A must be finite, but it holds NaN or infinity: check how it was computed",
    ),
    "A is zero": (
        lambda: fu.nn.ISTALayer(0 * A), ValueError,
        "A must not be zero: the step size 1/‖A‖² would be infinite",
    ),
    "A is complex": (
        lambda: fu.nn.LISTA(A.to(torch.complex64)), TypeError,
        "A must be real, got torch.complex64: this operation is defined for real data",
    ),
    "lambda": (lambda: fu.nn.LISTA(A, lam=-1), ValueError, "lam must be a finite number ≥ 0, got -1"),
    "layers": (lambda: fu.nn.LISTA(A, layers=0), ValueError, "layers must be a whole number ≥ 1, got 0"),
    "layers not whole": (
        lambda: fu.nn.LISTA(A, layers=1.5), ValueError,  # type: ignore[arg-type]
        "layers must be a whole number ≥ 1, got 1.5",
    ),
    "neither A nor a size": (
        lambda: fu.nn.LISTA(m=3), ValueError,
        "LISTA starts from a matrix or from its size: give either A, or both m and n",
    ),
    "both A and a size": (
        lambda: fu.nn.LISTA(A, m=250, n=500), ValueError,
        "LISTA starts from a matrix or from its size: give either A, or both m and n",
    ),
    "half a size beside A": (
        lambda: fu.nn.LISTA(A, m=250), ValueError,
        "LISTA starts from a matrix or from its size: give either A, or both m and n",
    ),
    "kind of threshold": (
        lambda: fu.nn.LISTA(A, threshold="matrix"), ValueError,  # type: ignore[arg-type]
        "threshold must be \"scalar\" or \"vector\", got 'matrix'",
    ),
    "network's y": (
        lambda: net()(torch.randn(3, 249)), ValueError,
        "y has 249 columns but A is (250, 500): expected y of shape (..., 250)",
    ),
    "network's x0": (
        lambda: net()(y, torch.randn(4, 500)), ValueError,
        "x0 and y must hold the same samples, but their leading shapes are (4,) and (3,)",
    ),
    "network's dtype": (
        lambda: net()(y.double()), TypeError,
        "all tensors must have one dtype, but the network is torch.float32 and y is torch.float64: convert one with "
        ".to()",
    ),
    "number of weights": (
        lambda: fu.unrolled(y, fu.AffineStep([A.T] * 2, [torch.eye(500)] * 3), L1, 0.1, layers=2), ValueError,
        "W2 must have 1 entry or one for each layer (2), got 3",
    ),
    "shape of weights": (
        lambda: fu.AffineStep(A.T, torch.eye(499)), ValueError, "W2 must be (500, 500), got (499, 499)",
    ),
    "shape of thresholds": (
        lambda: fu.unrolled(y, fu.AffineStep(A.T, torch.eye(500)), L1, torch.rand(3), layers=2), ValueError,
        "theta must hold 1 or 500 value(s), as many in every layer, got shape (3,)",
    ),
    "solver's y": (
        lambda: fu.solvers.ista(A, x, 0.1), ValueError,
        "y has 500 columns but A is (250, 500): expected y of shape (..., 250)",
    ),
    "solver's iterations": (
        lambda: fu.solvers.fista(A, y, 0.1, iterations=0), ValueError, "iterations must be a whole number ≥ 1, got 0",
    ),
    "solver's lambda": (
        lambda: fu.solvers.fista(A, y, torch.rand(3)), ValueError,
        "lam must be one number or one a coordinate, shape (500,), got (3,)",
    ),
    "adjoint": (
        lambda: fu.operators.Dense(A).adjoint(x), ValueError,
        "y has 500 columns but A is (250, 500): expected y of shape (..., 250)",
    ),
    "nmse": (
        lambda: fu.losses.nmse_db(x, x[:2]), ValueError, "x and x_true must have one shape, got (3, 500) and (2, 500)",
    ),
    "kkt": (
        lambda: fu.losses.kkt_residual(x, y, A, -1.0), ValueError, "lam must be a finite number ≥ 0, got -1.0",
    ),
    "objective": (
        lambda: fu.losses.lasso_objective(x, y[:2], A, 0.1), ValueError,
        "x and y must hold the same samples, but their leading shapes are (3,) and (2,)",
    ),
    "kkt of integers": (
        lambda: fu.losses.kkt_residual(torch.arange(500), y[0], A, 0.1), TypeError,
        "x must be floating point, got torch.int64: use x.float()",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    check_refused(BAD[name])


def test_accepted() -> None:
    """What looks odd and is fine: empty, expanded, non-contiguous, any leading shape, one sample."""
    model = net()
    assert model(torch.empty(0, 250)).shape == (0, 500)
    assert model(torch.empty(2, 0, 250), return_layers=True).shape == (2, 2, 0, 500)
    assert model(y[0]).shape == (500,)
    assert torch.equal(model(y[:1].expand(4, 250))[3], model(y)[0])
    assert torch.equal(model(y.T.contiguous().T), model(y))
    assert torch.equal(model(y.reshape(1, 3, 1, 250)).reshape(3, 500), model(y))
    model(torch.empty(0, 250)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())
