"""The second state of layers over pictures, given and returned; and the warning of their conjugate gradients."""

from __future__ import annotations

from typing import Any

import fastunroll as fu
import pytest
import torch
from fastunroll import ops
from test_pictures_networks import SCHEMES, SIZE, OneByOne, both, counted, random

lin = fu.operators
STATES: dict[str, list[tuple[fu.schemes.Scheme, int]]] = {
    "FISTA": [(fu.schemes.FISTA([0.1, 0.2, 0.3, 0.4][part]), n) for part, n in ((slice(3), 3), (slice(3, 4), 1))],
    "ADMM": [(fu.schemes.ADMM([0.8, 0.9, 1.1, 1.2][part]), n) for part, n in ((slice(3), 3), (slice(3, 4), 1))],
    "PrimalDual": [
        (fu.schemes.PrimalDual([0.7, 0.5, 0.6, 0.4][part], [0.9, 1.0, 0.8, 0.7][part]), n)
        for part, n in ((slice(3), 3), (slice(3, 4), 1))
    ],
}


@pytest.mark.parametrize("return_layers", [False, True])
@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("operator", ["Fourier", "MultiCoilFourier", "Downsample", "Mask, complex"])
@pytest.mark.parametrize("scheme", STATES)
def test_a_state_goes_on(
    scheme: str, operator: str, start: bool, return_layers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call with the state of another one continues it, and states are those of layers that run one by one."""
    dtype = torch.float64 if operator == "Downsample" else torch.complex128
    net, _, y = both("FISTA", operator, "TotalVariation", dtype)
    A, results, one_by_one = net.operator, [], []
    monkeypatch.setattr("fastunroll.engine.stepwise.run", counted(fu.engine.stepwise.run, one_by_one))
    for prox in (fu.prox.TotalVariation(4), OneByOne(fu.prox.TotalVariation(4))):
        data = y.clone().requires_grad_()
        x = A.adjoint(y).requires_grad_() if start else None
        rho = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        linear = fu.steps.DataStep(A, rho) if scheme == "ADMM" else fu.steps.GradientStep(A, step=rho)
        pieces: dict[str, Any] = {"linear": linear, "prox": prox, "theta": 0.01, "return_layers": return_layers}
        found, s, at = [], None, x
        for of, count in STATES[scheme]:
            layer, s = fu.unrolled(data, scheme=of, layers=count, x0=at, s0=s, return_state=True, **pieces)
            at = layer[-1] if return_layers else layer
            found += [layer, s]
        leaves = [t for t in (data, x, rho) if t is not None]
        found += torch.autograd.grad(sum((t.abs().square() * (i + 1)).sum() for i, t in enumerate(found)), leaves)
        results.append(found)
        assert len(one_by_one) == (2 if isinstance(prox, OneByOne) else 0)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("scheme", ["FISTA", "ADMM", "PrimalDual"])
def test_a_state_that_does_not_fit(scheme: str) -> None:
    A, y = lin.Downsample(2, random(3, 3)), random(2, 5, 7)
    linear = fu.steps.DataStep(A, 0.5) if scheme == "ADMM" else fu.steps.GradientStep(A, step=0.3)
    pieces: dict[str, Any] = {"linear": linear, "prox": fu.prox.L1(), "theta": 0.1, "layers": 2}
    like = "y" if scheme == "PrimalDual" else "x"
    right = y if scheme == "PrimalDual" else A.adjoint(y)
    with pytest.raises(ValueError, match=f"s0 must have the shape of {like}"):
        fu.unrolled(y, scheme=SCHEMES[scheme], s0=right[1:], **pieces)
    with pytest.raises(TypeError, match="s0"):
        fu.unrolled(y, scheme=SCHEMES[scheme], s0=right.float(), **pieces)


def test_conjugate_gradients_that_do_not_end_warn() -> None:
    """As those of layers that run one by one do."""
    weights = 10 ** (3 * random(*SIZE).clamp(-1, 1)).float()
    scan = lin.MultiCoilFourier(weights, random(2, *SIZE, dtype=torch.complex64))
    y = scan(random(3, *SIZE, dtype=torch.complex64)) * torch.tensor([1, 0, 1])[:, None, None, None]
    for prior, count in (
        (fu.prox.Identity(), "4 solutions of data steps"),
        (OneByOne(fu.prox.Identity()), "2 of 3 samples"),
    ):
        net = fu.nn.Unrolled(fu.schemes.HQS(), scan, prior, 2, step=1e7)
        with pytest.warns(fu.solvers.ConvergenceWarning, match=f"{count} did not reach the precision of b"):
            net(y)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("kind", ["columns", "columns of real pictures", "coils", "mask", "blur"])
def test_a_start_of_the_primal_dual_scheme_that_is_not_finite(kind: str, value: float) -> None:
    """It goes as far as by A and then Aᴴ in PyTorch, which mix the rows of a picture also where AᴴA does not."""
    mask, maps = (torch.rand(12) < 0.6).float(), torch.randn(2, 9, 12, dtype=torch.complex64)
    A: Any = {
        "columns": lambda: fu.operators.Fourier(mask),
        "columns of real pictures": lambda: fu.operators.Fourier(mask, real=True),
        "coils": lambda: fu.operators.MultiCoilFourier(mask, maps),
        "mask": lambda: fu.operators.Mask((torch.rand(9, 12) < 0.6).float()),
        "blur": lambda: fu.operators.Blur(torch.rand(3, 3) / 9),
    }[kind]()
    is_complex = kind in ("columns", "coils")
    x0 = torch.randn(3, 9, 12, dtype=torch.complex64 if is_complex else torch.float32)
    y = A(torch.randn_like(x0))
    x0[1, 2, 3] = value

    def run() -> Any:
        step, scheme = fu.GradientStep(A, step=[0.3]), fu.schemes.PrimalDual([0.4], [0.8])
        return fu.unrolled(y, step, fu.prox.L1(), [0.1], layers=3, scheme=scheme, x0=x0)

    found = run()
    with ops.plain():
        wanted = run()
    assert not found[1].isfinite().all()
    assert torch.equal(found.isfinite(), wanted.isfinite())
    torch.testing.assert_close(found[::2], wanted[::2], rtol=1e-4, atol=1e-4)
