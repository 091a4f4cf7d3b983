"""Networks over operators that have something for each sample: a sample of a batch is what it is alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from fastunroll import prox, schemes
from torch import Tensor

DOUBLE, COMPLEX, EACH, COILS = torch.float64, torch.complex128, 2, 2
SIZE, EVEN = (7, 9), (6, 10)  # pictures, and those whose sides wavelets can halve


def random(*shape: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def weights(*shape: int) -> Tensor:
    """Weights of samples from 0.5 to 1, with which a layer contracts."""
    return 0.5 + 0.5 * random(*shape).sigmoid()


Make = Callable[[Tensor], Any]  # the operator from what each sample has, or from that of one sample
# What samples have, (EACH, …), for pictures of a size; the operator that takes it; whether pictures are complex.
OPERATORS: dict[str, tuple[Callable[[tuple[int, int]], Tensor], Make, bool]] = {
    "blur, kernels": (lambda size: random(EACH, 3, 2).abs() / 6, fu.operators.Blur, False),
    "blur beyond the border, kernels": (
        lambda size: random(EACH, 3, 3).abs() / 9, lambda k: fu.operators.Blur(k, "valid"), False,
    ),
    "mask, masks": (lambda size: weights(EACH, *size), fu.operators.Mask, False),
    "Fourier, masks": (lambda size: weights(EACH, *size), fu.operators.Fourier, True),
    "Fourier, columns": (lambda size: weights(EACH, 1, size[1]), fu.operators.Fourier, True),
    "real Fourier, columns": (
        lambda size: weights(EACH, 1, size[1]), lambda m: fu.operators.Fourier(m, real=True), False,
    ),
    "coils, columns": (
        lambda size: weights(EACH, 1, size[1]),
        lambda m: fu.operators.MultiCoilFourier(m, random(COILS, *m_size(m), dtype=COMPLEX) / 3), True,
    ),
    "coils, maps": (
        lambda size: random(EACH, COILS, *size, dtype=COMPLEX) / 3,
        lambda s: fu.operators.MultiCoilFourier(weights(s.shape[-1]), s), True,
    ),
    "fewer pixels, kernels": (
        lambda size: random(EACH, 3 - size[0] % 2, 3 - size[1] % 2).abs() / 4,
        lambda k: fu.operators.Downsample(2, k, "valid"), False,
    ),
}  # fmt: skip


def m_size(mask: Tensor) -> tuple[int, int]:
    """The size of pictures that columns are of."""
    return (EVEN if mask.shape[-1] == EVEN[1] else SIZE)[0], mask.shape[-1]


class Contraction(torch.nn.Module):
    """A denoiser that contracts: a mean of neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.6, dtype=DOUBLE))

    def forward(self, z: Tensor) -> Tensor:
        return (1 - self.weight / 2) * z + self.weight / 4 * (z.roll(1, -1) + z.roll(-1, -2))


# The scheme, the prior, the number of layers and the size of pictures.
NETWORKS: dict[str, tuple[schemes.Scheme, Callable[[], prox.Proximal], int | None, tuple[int, int]]] = {
    "variational network": (schemes.VariationalNetwork(), lambda: prox.FilterBank(3, 2, dtype=DOUBLE), 3, SIZE),
    "variational network of a denoiser": (
        schemes.VariationalNetwork(), lambda: prox.Denoiser(Contraction()), 3, SIZE,
    ),
    "equilibrium": (schemes.ProximalGradient(), prox.L1, None, SIZE),
    "equilibrium of a denoiser": (schemes.ProximalGradient(), lambda: prox.Denoiser(Contraction()), None, SIZE),
    "wavelets": (schemes.FISTA(), lambda: prox.WaveletL1("haar", 1), 3, EVEN),
    "wavelets, HQS": (schemes.HQS(), lambda: prox.WaveletL1("haar", 1, "all"), 2, EVEN),
    "filters": (schemes.FISTA(), lambda: prox.FilterBank(3, 2, dtype=DOUBLE), 3, SIZE),
    "filters, ADMM": (schemes.ADMM(), lambda: prox.FilterBank(3, 2, dtype=DOUBLE), 2, SIZE),
}  # fmt: skip
EQUILIBRIUM: dict[str, Any] = {"tol": 1e-8, "max_iter": 500}


def network(name: str, A: Any) -> Any:
    scheme, prior, layers, _ = NETWORKS[name]
    options = EQUILIBRIUM if layers is None else {}
    net = fu.nn.Unrolled(scheme, A, prior(), layers, lam=0.05, step=0.4, dtype=DOUBLE, **options)
    if layers is None:
        return net
    with torch.no_grad():
        for i, p in enumerate(p for key, p in net.named_parameters() if key.startswith(("log_", "beta"))):
            p.add_(0.03 * (i % 5))
    return net


def gradients(net: Any, y: Tensor, slopes: Tensor, operator: Any = None) -> tuple[Tensor, list[Tensor]]:
    """x, and the gradients of y and of all that learns."""
    y = y.clone().requires_grad_()
    x = net(y, operator=operator)
    learned = [p for p in net.parameters() if p.requires_grad]
    loss = (slopes.conj() * x).real.sum() if x.is_complex() else (slopes * x).sum()
    return x.detach(), [*torch.autograd.grad(loss, [y, *learned], allow_unused=True, materialize_grads=True)]


# A layer contracts where the operator has no null space.
PAIRS = [
    (name, operator)
    for name, operator in product(NETWORKS, OPERATORS)
    if not (NETWORKS[name][2] is None and operator in ("fewer pixels, kernels", "blur beyond the border, kernels"))
]


@pytest.mark.parametrize(("name", "operator"), PAIRS)
def test_a_sample_is_what_it_is_alone(name: str, operator: str) -> None:
    """Values and gradients; NaN stays in its sample; and the operator may be given with the call."""
    (draw, make, is_complex), size = OPERATORS[operator], NETWORKS[name][3]
    own = draw(size)
    A, alone = make(own), [make(own[i : i + 1]) for i in range(EACH)]
    y = A(random(EACH, *size, dtype=COMPLEX if is_complex else DOUBLE))
    net = network(name, A)
    slopes = random(EACH, *size, dtype=COMPLEX if is_complex else DOUBLE)
    x, (of_y, *of_numbers) = gradients(net, y, slopes)
    tolerance = 1e-6 if net.is_equilibrium else 1e-11
    sums = [torch.zeros_like(g) for g in of_numbers]
    for i in range(EACH):
        x_i, (of_y_i, *of_numbers_i) = gradients(network(name, alone[i]), y[i : i + 1], slopes[i : i + 1])
        assert relative_error(x[i : i + 1], x_i) < tolerance
        assert relative_error(of_y[i : i + 1], of_y_i) < tolerance
        sums = [a + b for a, b in zip(sums, of_numbers_i, strict=True)]
    for found, wanted in zip(of_numbers, sums, strict=True):
        assert (found - wanted).abs().max() <= tolerance * (1 + wanted.abs().max())
    given = network(name, alone[0])
    assert relative_error(gradients(given, y, slopes, A)[0], x) < tolerance
    broken = y.clone()
    broken[1].view(-1)[3] = math.nan
    found = net(broken)
    assert found[1].isnan().any()
    assert relative_error(found[0], x[0]) < tolerance
