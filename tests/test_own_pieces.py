"""What a reader writes: operators and a prior of a dozen lines each, in networks and solvers."""

from __future__ import annotations

from typing import Any

import fastunroll as fu
import pytest
import torch
from closeness import relative_error
from torch import Tensor

SIDE = 16


class Blur(fu.operators.LinearOperator):
    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        self.register_buffer("k", torch.fft.rfft2(kernel))
        self.shape_in = self.shape_out = tuple(kernel.shape)

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x) * self.k, s=self.shape_in)

    def adjoint(self, y: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(y) * self.k.conj(), s=self.shape_in)


class Haar(fu.operators.LinearOperator):
    """One level of the Haar wavelet: averages and differences of neighbours, in four quarters."""

    shape_in = shape_out = (SIDE, SIDE)

    def forward(self, x: Tensor) -> Tensor:
        for d in (-1, -2):
            even, odd = x.unflatten(d, (-1, 2)).unbind(d)
            x = torch.cat([even + odd, even - odd], dim=d) / 2**0.5
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        for d in (-1, -2):
            mean, difference = y.chunk(2, dim=d)
            y = torch.stack([mean + difference, mean - difference], dim=d).flatten(d - 1, d) / 2**0.5
        return y


class Fourier(fu.operators.LinearOperator):
    """Some Fourier coefficients of a complex picture, seen by several coils."""

    def __init__(self, mask: Tensor, maps: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.register_buffer("maps", maps)
        self.shape_in, self.shape_out = tuple(maps.shape[1:]), tuple(maps.shape)

    def forward(self, x: Tensor) -> Tensor:
        return self.mask * torch.fft.fft2(self.maps * x.unsqueeze(-3), norm="ortho")

    def adjoint(self, y: Tensor) -> Tensor:
        return (self.maps.conj() * torch.fft.ifft2(self.mask * y, norm="ortho")).sum(-3)


class Firm(fu.prox.Proximal):
    def prox(self, z: Tensor, theta: Tensor) -> Tensor:
        return torch.where(z.abs() > 3 * theta, z, 1.5 * fu.soft_threshold(z, theta))


class Network(torch.nn.Module):
    """A small network that cleans complex pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 3, padding=1)
        )

    def forward(self, z: Tensor) -> Tensor:
        pair = torch.view_as_real(z).movedim(-1, 1)
        return torch.view_as_complex((pair + 0.1 * self.layers(pair)).movedim(1, -1).contiguous())


def kernel() -> Tensor:
    k = torch.zeros(SIDE, SIDE)
    k[:3, :3] = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    return k


def coils() -> Fourier:
    g = torch.Generator().manual_seed(0)
    mask = (torch.rand(SIDE, generator=g) < 0.5).float()
    maps = torch.randn(3, SIDE, SIDE, generator=g, dtype=torch.complex64)
    return Fourier(mask, maps / maps.abs().square().sum(0).sqrt())


@pytest.mark.parametrize("op", [Blur(kernel()), Haar(), coils(), Blur(kernel()) @ Haar().H], ids=lambda op: str(op)[:7])
def test_operators_are_right(op: Any) -> None:
    assert fu.operators.check(op).ok


def test_deblurring_by_wavelets() -> None:
    A = Blur(kernel()) @ Haar().H
    x = torch.zeros(3, SIDE, SIDE)
    x[:, 4:9, 5:12] = 1
    codes = Haar()(x)
    y = A(codes) + 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    net = fu.nn.Unrolled(fu.schemes.FISTA(), A, fu.prox.L1(), layers=10, lam=0.003)
    assert {name.split(".")[0] for name, _ in net.named_parameters()} == {"log_step", "log_theta", "beta"}
    before = (Haar().H(net(y)) - x).square().mean()
    assert before < 0.5 * (y - x).square().mean()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        loss = (Haar().H(net(y)) - x).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.9 * before


def test_a_scan_with_a_learned_prior() -> None:
    A, torch_prior = coils(), Network()
    g = torch.Generator().manual_seed(2)
    x = torch.randn(2, SIDE, SIDE, generator=g, dtype=torch.complex64)
    y = A(x)
    net = fu.nn.Unrolled(fu.schemes.ADMM(), A, fu.prox.Denoiser(torch_prior), layers=8)
    found = net(y)
    assert found.shape == x.shape
    loss = (found - x).abs().square().mean()
    loss.backward()
    learned = dict(net.named_parameters())
    learned.pop("eta.7")  # no layer follows that would see it
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learned.values() if p.requires_grad)
    other = Fourier(1 - A.mask, A.maps)
    assert not torch.allclose(net(y), net(other(x), operator=other))


def test_solvers_take_the_same_pieces() -> None:
    A = Blur(kernel())
    y = A(torch.rand(2, SIDE, SIDE, generator=torch.Generator().manual_seed(3)))
    x = fu.solvers.fista(A, y, 0.01, prox=fu.prox.GroupL1(4), tol=1e-4, iterations=3000)
    assert fu.solvers.duality_gap(x, y, A, 0.01, prox=fu.prox.GroupL1(4)).max() <= 1.1e-4
    step = 1 / A.norm() ** 2
    for prior in (fu.prox.L1(), Firm(), fu.prox.TotalVariation(), fu.prox.GroupL1(4)):
        net = fu.nn.Unrolled(fu.schemes.FISTA(), A, prior, layers=6, lam=0.01, step=step)
        assert relative_error(net(y), fu.solvers.fista(A, y, 0.01, prox=prior, iterations=6, step=step)) < 1e-5


def test_a_matrix_is_as_before() -> None:
    """A network of the library over a matrix: all layers in one native call, and its parameters by name."""
    A = torch.randn(20, 40, generator=torch.Generator().manual_seed(4))
    net = fu.nn.LISTA(A, layers=4)
    y = torch.randn(5, 20, generator=torch.Generator().manual_seed(5))
    wanted = fu.unrolled(y, fu.AffineStep(net.W1, net.W2), fu.prox.L1(), net.theta, layers=4)
    assert isinstance(wanted, Tensor)
    assert torch.equal(net(y), wanted)


class Half(fu.schemes.Scheme):
    """A scheme whose layers return x alone. A batch of two would pass for x and the second state."""

    def step(self, k: int, x: Tensor, s: Any, data: Tensor, linear: Any, shrink: Any) -> Any:
        return shrink(k, linear(k, x, data))


def test_a_scheme_that_is_not_complete_is_refused_in_a_sentence() -> None:
    A, y, prior = fu.operators.Identity(), torch.rand(2, SIDE, SIDE), fu.prox.TotalVariation()
    with pytest.raises(TypeError, match=r"Half.step must return a pair \(x, s\), got Tensor"):
        fu.unrolled(y, fu.GradientStep(A, step=0.9), prior, 0.1, layers=2, scheme=Half())
    with pytest.raises(NotImplementedError, match=r"Half must define starting_values\(layers, lam, step\)"):
        fu.nn.Unrolled(Half(), A, prior, 2)
    with pytest.raises(NotImplementedError, match=r"Half must define with_numbers\(A, values\)"):
        Half().with_numbers(A, {})
    with pytest.raises(NotImplementedError, match=r"Scheme must define step\(k, x, s, data, linear, shrink\)"):
        fu.schemes.Scheme().step(0, y, None, y, None, None)
