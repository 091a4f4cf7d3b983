"""Times unrolled networks over pictures against the loop of layers in PyTorch, with several priors.

The scheme is FISTA where no other is named. All contestants compute z = Aᴴ y once, and F⁻¹ diag(h) F v − z in each
layer, or for half-quadratic splitting (HQS) and ADMM F⁻¹ diag(1/(h + ρ)) F (z + ρ v). The proximal operator of total
variation is by the same accelerated projected gradients. The wavelet is db4 on three levels, with a threshold for each
band and a grid that moves from layer to layer. The bank has 24 filters 5×5, which learn. DeepInverse, where it is
installed, has networks of its own of the same scheme, kind of prior, layers and inner iterations.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import Any

import fastunroll as fu
import harness
import imaging_networks_deepinv
import torch
from torch import Tensor

LAYERS, INNER, SIDE, LEVELS = 16, 10, 256, 3
# A pixel within rounding of its threshold has a gradient or none, and layers carry the difference on.
TOLERANCE = 5e-3
NETWORKS = (
    "blur, total variation", "MRI, total variation", "inpainting, total variation", "blur, wavelet", "MRI, wavelet",
    "blur, filter bank", "MRI, filter bank", "blur, ℓ₁",
    "blur, total variation, HQS", "blur, ℓ₁, HQS", "blur, total variation, ADMM", "MRI, total variation, ADMM",
    "blur, wavelet, ADMM", "blur, ℓ₁, ADMM",
)  # fmt: skip
# One picture, and the largest batch: eager PyTorch keeps 0.9 GB a picture for gradients of total variation, and is slow
# with filters.
LARGEST = {"total variation": {"forward": 16, "training": 4}, "filter bank": {"forward": 4, "training": 1}}
Prior = Callable[[int, Tensor, Tensor], Tensor]  # of layer k


def differences(x: Tensor) -> Tensor:
    down = torch.nn.functional.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
    right = torch.nn.functional.pad(x[..., 1:] - x[..., :-1], (0, 1))
    return torch.stack([down, right])


def differences_adjoint(p: Tensor) -> Tensor:
    pad = torch.nn.functional.pad
    down, right = p[0, ..., :-1, :], p[1, ..., :-1]
    return pad(down, (0, 0, 1, 0)) - pad(down, (0, 0, 0, 1)) + pad(right, (1, 0)) - pad(right, (0, 1))


def _momenta() -> list[float]:
    t = [1.0]
    for _ in range(INNER):
        t.append((1 + (1 + 4 * t[-1] ** 2) ** 0.5) / 2)
    return [(a - 1) / b for a, b in pairwise(t)]


def total_variation(k: int, z: Tensor, theta: Tensor) -> Tensor:
    p = q = torch.zeros(2, *z.shape, dtype=z.dtype)
    for beta in _momenta():
        found = q + differences(z - differences_adjoint(q)) / 8
        square = found.abs().square().sum(0)
        longer = square > theta * theta
        length = torch.where(longer, square, torch.ones_like(square)).sqrt()
        found = found * torch.where(longer, theta / length, torch.ones_like(length))
        p, q = found, found + beta * (found - p)
    return z - differences_adjoint(p)


def soft_threshold(k: int, z: Tensor, theta: Tensor) -> Tensor:
    return torch.sgn(z) * torch.relu(z.abs() - theta)


class Wavelet:
    """The soft threshold of wavelet details, by convolutions with all four filters of a level."""

    def __init__(self, prior: fu.prox.WaveletL1) -> None:
        self.prior = prior
        low = torch.tensor(prior.wavelet.low_pass)
        high = low.flip(0) * torch.tensor([1.0, -1.0]).repeat(len(low) // 2)
        bank = [low, high]
        self.filters = torch.stack([torch.outer(down, along) for down in bank for along in bank])[:, None]
        self.border = len(low) // 2 - 1

    def level(self, x: Tensor, theta: Tensor) -> Tensor:
        """(N, 1, H, W), with complex pictures as two."""
        border = self.border
        padded = torch.nn.functional.pad(x, (border,) * 4, "circular")
        approximation, columns, rows, both = torch.nn.functional.conv2d(padded, self.filters, stride=2).split(1, 1)
        if len(theta) > 3:
            approximation = self.level(approximation, theta[3:])
        details = [self.shrink(c, t) for c, t in zip((rows, columns, both), theta[:3], strict=True)]
        c = torch.cat([approximation, details[1], details[0], details[2]], 1)
        padded = torch.nn.functional.pad(c, (border // 2 + 1,) * 4, "circular")
        found = torch.nn.functional.conv_transpose2d(padded, self.filters, stride=2)
        start = border + 2 * (border // 2 + 1)
        return found[..., start : start + x.shape[-2], start : start + x.shape[-1]]

    def shrink(self, c: Tensor, theta: Tensor) -> Tensor:
        if not self.is_complex:
            return soft_threshold(0, c, theta)
        size = torch.linalg.vector_norm(c.unflatten(0, (2, -1)), dim=0)
        return c * (torch.relu(size - theta) / size.clamp(min=1e-12)).repeat(2, *[1] * (c.dim() - 1))

    def __call__(self, k: int, z: Tensor, theta: Tensor) -> Tensor:
        down, right = self.prior.move(k)
        self.is_complex = z.is_complex()
        z = z.roll((down, right), (-2, -1))
        parts = torch.cat([z.real, z.imag]) if self.is_complex else z
        x = self.level(parts[:, None], theta)[:, 0]
        x = torch.complex(*x.chunk(2)) if self.is_complex else x
        return x.roll((-down, -right), (-2, -1))


class WaveletByMatrices(Wavelet):
    """The same by products of each level's matrix with the rows and the columns of pictures."""

    def __init__(self, prior: fu.prox.WaveletL1) -> None:
        super().__init__(prior)
        coarse = [self.matrix(SIDE >> level) for level in range(1, LEVELS)]
        # Those of the first level move with the grid of a layer.
        self.matrices = [
            [(fine.roll(-down, 1), fine.roll(-right, 1)), *((A, A) for A in coarse)]
            for fine in [self.matrix(SIDE)]
            for down, right in map(prior.move, range(LAYERS))
        ]

    def matrix(self, n: int) -> Tensor:
        """One level along one axis, (n, n): the low-pass half, then the high-pass half."""
        low = torch.tensor(self.prior.wavelet.low_pass)
        high = low.flip(0) * torch.tensor([1.0, -1.0]).repeat(len(low) // 2)
        A, pairs = torch.zeros(2, n // 2, n), torch.arange(n // 2)
        for j in range(len(low)):
            for half, tap in ((0, low[j]), (1, high[j])):
                A[half, pairs, (2 * pairs + j - self.border) % n] += tap
        return A.flatten(0, 1)

    def levels(self, x: Tensor, theta: Tensor, matrices: list[tuple[Tensor, Tensor]]) -> Tensor:
        (down, right), *coarser = matrices
        upper, lower = (down @ x @ right.mT).chunk(2, -2)
        approximation, columns = upper.chunk(2, -1)
        rows, both = lower.chunk(2, -1)
        if coarser:
            approximation = self.levels(approximation, theta[3:], coarser)
        columns, rows, both = (self.shrink(c, theta[i]) for c, i in ((columns, 1), (rows, 0), (both, 2)))
        c = torch.cat([torch.cat([approximation, columns], -1), torch.cat([rows, both], -1)], -2)
        return down.mT @ c @ right

    def __call__(self, k: int, z: Tensor, theta: Tensor) -> Tensor:
        self.is_complex = z.is_complex()
        parts = torch.cat([z.real, z.imag]) if self.is_complex else z
        x = self.levels(parts, theta, self.matrices[k])
        return torch.complex(*x.chunk(2)) if self.is_complex else x


def filter_bank(z: Tensor, theta: Tensor, filters: Tensor) -> Tensor:
    parts = torch.view_as_real(z).movedim(-1, 0) if z.is_complex() else z[None]
    c = torch.nn.functional.conv2d(parts.flatten(0, 1)[:, None], filters[:, None]).unflatten(0, (len(parts), -1))
    theta = theta[:, None, None]
    clipped = c * (theta / torch.maximum(torch.hypot(*c), theta)) if z.is_complex() else torch.clamp(c, -theta, theta)
    found = torch.nn.functional.conv_transpose2d(clipped.flatten(0, 1), filters[:, None]).reshape(parts.shape)
    return z - (torch.complex(*found) if z.is_complex() else found[0])


def filtered(A: Any, v: Tensor, h: Tensor) -> Tensor:
    """F⁻¹ diag(h) F v, or h · v for weights of pixels."""
    if isinstance(A, fu.operators.Mask):
        return h * v
    if v.is_complex():
        return torch.fft.ifft2(h * torch.fft.fft2(v))
    return torch.fft.irfft2(h * torch.fft.rfft2(v), s=v.shape[-2:])


def loop(A: Any, y: Tensor, numbers: dict[str, list[Tensor]], prior: Prior) -> Tensor:
    """FISTA, with the numbers step, theta and beta."""
    z = A.adjoint(y)
    h, x, before = A.normal_parts(z).h, torch.zeros_like(z), torch.zeros_like(z)
    for k, (step, theta, beta) in enumerate(zip(numbers["step"], numbers["theta"], numbers["beta"], strict=True)):
        v = x + beta * (x - before)
        before, x = x, prior(k, v - step * (filtered(A, v, h) - z), theta)
    return x


def splitting_loop(A: Any, y: Tensor, numbers: dict[str, list[Tensor]], prior: Prior) -> Tensor:
    """ADMM, with the numbers rho, theta and eta, or half-quadratic splitting without eta."""
    z = A.adjoint(y)
    h, x = A.normal_parts(z).h, torch.zeros_like(z)
    if "eta" not in numbers:
        for k, (rho, theta) in enumerate(zip(numbers["rho"], numbers["theta"], strict=True)):
            x = prior(k, filtered(A, z + rho * x, 1 / (h + rho)), theta)
        return x
    dual = torch.zeros_like(z)
    for k, (rho, theta, eta) in enumerate(zip(numbers["rho"], numbers["theta"], numbers["eta"], strict=True)):
        u = filtered(A, z + rho * (x - dual), 1 / (h + rho))
        x = prior(k, u + dual, theta)
        dual = dual + eta * (u - x)
    return x


def build(case: harness.Case, seed: int) -> harness.Comparison:
    operator, prior, *named = str(case["network"]).split(", ")
    scheme: Any = {"HQS": fu.schemes.HQS, "ADMM": fu.schemes.ADMM}[named[0]] if named else fu.schemes.FISTA
    batch, trains = int(case["B"]), case["pass"] == "training"
    random = torch.Generator().manual_seed(seed)
    truth = torch.nn.functional.interpolate(torch.rand(batch, 1, 8, 8, generator=random), scale_factor=SIDE // 8)[:, 0]
    A: Any = {
        "blur": lambda: fu.operators.Blur(torch.full((9, 9), 1 / 81)),
        "MRI": lambda: fu.operators.Fourier((torch.rand(SIDE, SIDE, generator=random) < 0.3).float()),
        "inpainting": lambda: fu.operators.Mask((torch.rand(SIDE, SIDE, generator=random) < 0.5).float()),
    }[operator]()
    truth = truth + 0j if operator == "MRI" else truth
    y = A(truth)
    y = y + 0.01 * torch.randn(y.shape, dtype=y.dtype, generator=random)
    wavelet, bank = fu.prox.WaveletL1("db4", LEVELS), fu.prox.FilterBank(24, 5)
    choices: dict[str, tuple[fu.prox.Proximal, dict[str, Prior]]] = {
        "total variation": (fu.prox.TotalVariation(INNER), {"eager": total_variation}),
        "wavelet": (wavelet, {"eager": Wavelet(wavelet), "eager, matrices": WaveletByMatrices(wavelet)}),
        "filter bank": (bank, {"eager": lambda k, z, theta: filter_bank(z, theta, bank.filters)}),
        "ℓ₁": (fu.prox.L1(), {"eager": soft_threshold}),
    }
    prox, priors = choices[prior]
    net = fu.nn.Unrolled(scheme(), A, prox, LAYERS, lam=0.01, step=0.9)
    assert net.explain(y).startswith("All"), net.explain(y)
    numbers = [*net.parameters()]

    def contestant(run: Callable[[], Tensor], numbers: Sequence[Tensor], compared: bool = True) -> harness.Contestant:
        if not trains:
            return harness.Contestant(torch.no_grad()(run), compared=compared)
        return harness.Contestant(
            lambda: torch.autograd.grad(
                (run() - truth).abs().square().mean(), numbers, allow_unused=True, materialize_grads=True
            ),
            lambda gradients: torch.cat([g.flatten() for g in gradients]),
            compared=compared,
        )

    layer_by_layer = splitting_loop if named else loop
    rivals = {name: lambda of=of: layer_by_layer(A, y, net.values(), of) for name, of in priors.items()}
    contestants = {name: contestant(run, numbers) for name, run in {"fastunroll": lambda: net(y), **rivals}.items()}
    theirs = imaging_networks_deepinv.network(
        A, y, prior=prior, scheme=named[0] if named else "FISTA", layers=LAYERS, inner=INNER, levels=LEVELS
    )
    if theirs is not None:
        contestants["DeepInverse"] = contestant(*theirs, compared=False)
    return harness.Comparison(contestants)


BENCHMARK = harness.Benchmark(
    name="imaging_networks",
    question=(
        f"How much faster is an unrolled network over pictures than its loop in PyTorch? ({LAYERS} layers, "
        f"{SIDE}×{SIDE}, {INNER} inner iterations of total variation, 24 filters 5×5)"
    ),
    cases=[
        {"network": network, "B": batch, "pass": way}
        for network, way in product(NETWORKS, ("forward", "training"))
        for batch in sorted({1, LARGEST.get(network.split(", ")[1], {}).get(way, 16)})
    ],
    quick_cases=[
        {"network": network, "B": 1, "pass": way} for network in NETWORKS[::3] for way in ("forward", "training")
    ],
    build=build,
    baseline="eager",
    tolerance=TOLERANCE,
    packages=["deepinv"],
    left_out=imaging_networks_deepinv.MISSING,
)

if __name__ == "__main__":
    sys.exit(harness.main(BENCHMARK))
