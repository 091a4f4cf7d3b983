"""Networks over this package's operators whose prior runs layer by layer, in one compiled program."""

from __future__ import annotations

import fastunroll as fu
import pytest
import torch

SIDE = 8
MASK = torch.ones(SIDE, SIDE, dtype=torch.float64)
MASK[::3, 1::2] = 0
OPERATORS = {
    "blur": lambda: fu.operators.Blur(torch.full((3, 3), 1 / 9, dtype=torch.float64)),
    "blur, reflected": lambda: fu.operators.Blur(torch.full((3, 3), 1 / 9, dtype=torch.float64), boundary="reflect"),
    "scan": lambda: fu.operators.Fourier(MASK),
    "coils": lambda: fu.operators.MultiCoilFourier(MASK, torch.ones(2, SIDE, SIDE, dtype=torch.complex128) / 2),
    "mask": lambda: fu.operators.Mask(MASK),
    "downsample": lambda: fu.operators.Downsample(2, torch.full((2, 2), 0.25, dtype=torch.float64)),
}


def prior(operator: str) -> fu.prox.Proximal:
    channels = 2 if operator in ("scan", "coils") else 1
    return fu.prox.Denoiser(fu.nn.DnCNN(channels, 4, 2, dtype=torch.float64))


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize("scheme", [fu.schemes.FISTA, fu.schemes.ProximalGradient], ids=lambda s: s.__name__)
@pytest.mark.parametrize("name", OPERATORS)
def test_values_and_gradients(name: str, scheme: type[fu.schemes.Scheme]) -> None:
    A = OPERATORS[name]()
    net = fu.nn.Unrolled(scheme(), A, prior(name), 2, lam=0.01).double()
    x = torch.randn(2, SIDE, SIDE, dtype=torch.float64)
    y = A(x + 0j if name in ("scan", "coils") else x)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    found, wanted = compiled(y), net(y)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-12)
    parameters = [p for p in net.parameters() if p.requires_grad]
    both = [
        torch.autograd.grad(out.abs().square().sum(), parameters, allow_unused=True, materialize_grads=True)
        for out in (found, wanted)
    ]
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
