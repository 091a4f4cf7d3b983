"""Times unrolled networks over pictures against the loop of layers in PyTorch, with several priors.

All contestants compute z = Aᴴ y once, and F⁻¹ diag(h) F v − z in each layer. The proximal operator of total variation
is by the same accelerated projected gradients. The bank has 24 filters 5×5, which learn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import fastunroll as fu
import harness
import torch
from torch import Tensor

LAYERS, INNER, SIDE = 16, 10, 256
# A pixel within rounding of its threshold has a gradient or none, and layers carry the difference on.
TOLERANCE = 5e-3
NETWORKS = (
    "blur, total variation", "MRI, total variation", "inpainting, total variation", "blur, ℓ₁", "blur, filter bank",
    "MRI, filter bank",
)  # fmt: skip
BATCHES = 1, 4, 16
# The largest batch: eager PyTorch keeps 0.9 GB a picture for gradients of total variation, and is slow with filters.
LARGEST = {"total variation": {"forward": 16, "training": 4}, "ℓ₁": {"forward": 16, "training": 16},
           "filter bank": {"forward": 4, "training": 1}}  # fmt: skip
Prior = Callable[[Tensor, Tensor], Tensor]


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


def total_variation(z: Tensor, theta: Tensor) -> Tensor:
    p = q = torch.zeros(2, *z.shape, dtype=z.dtype)
    for beta in _momenta():
        found = q + differences(z - differences_adjoint(q)) / 8
        square = found.abs().square().sum(0)
        longer = square > theta * theta
        length = torch.where(longer, square, torch.ones_like(square)).sqrt()
        found = found * torch.where(longer, theta / length, torch.ones_like(length))
        p, q = found, found + beta * (found - p)
    return z - differences_adjoint(p)


def soft_threshold(z: Tensor, theta: Tensor) -> Tensor:
    return torch.sign(z) * torch.relu(z.abs() - theta)


def filter_bank(z: Tensor, theta: Tensor, filters: Tensor) -> Tensor:
    parts = torch.view_as_real(z).movedim(-1, 0) if z.is_complex() else z[None]
    c = torch.nn.functional.conv2d(parts.flatten(0, 1)[:, None], filters[:, None]).unflatten(0, (len(parts), -1))
    theta = theta[:, None, None]
    clipped = c * (theta / torch.maximum(torch.hypot(*c), theta)) if z.is_complex() else torch.clamp(c, -theta, theta)
    found = torch.nn.functional.conv_transpose2d(clipped.flatten(0, 1), filters[:, None]).reshape(parts.shape)
    return z - (torch.complex(*found) if z.is_complex() else found[0])


def loop(A: Any, y: Tensor, numbers: dict[str, list[Tensor]], prior: Prior) -> Tensor:
    z = A.adjoint(y)
    h, x, before = A.normal_parts(z).h, torch.zeros_like(z), torch.zeros_like(z)
    for step, theta, beta in zip(numbers["step"], numbers["theta"], numbers["beta"], strict=True):
        v = x + beta * (x - before)
        if isinstance(A, fu.operators.Mask):
            slope = h * v - z
        elif v.is_complex():
            slope = torch.fft.ifft2(h * torch.fft.fft2(v)) - z
        else:
            slope = torch.fft.irfft2(h * torch.fft.rfft2(v), s=v.shape[-2:]) - z
        before, x = x, prior(v - step * slope, theta)
    return x


def build(case: harness.Case, seed: int) -> harness.Comparison:
    operator, prior = str(case["network"]).split(", ")
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
    pieces: dict[str, tuple[Any, Prior]] = {
        "total variation": (fu.prox.TotalVariation(INNER), total_variation),
        "ℓ₁": (fu.prox.L1(), soft_threshold),
        "filter bank": (bank := fu.prox.FilterBank(24, 5), lambda z, theta: filter_bank(z, theta, bank.filters)),
    }
    own, of = pieces[prior]
    net = fu.nn.Unrolled(fu.schemes.FISTA(), A, own, LAYERS, lam=0.01, step=0.9)
    assert net.explain(y).startswith("All"), net.explain(y)
    numbers = [*net.parameters()]

    def contestant(run: Callable[[], Tensor]) -> harness.Contestant:
        if not trains:
            return harness.Contestant(torch.no_grad()(run))
        return harness.Contestant(
            lambda: torch.autograd.grad((run() - truth).abs().square().mean(), numbers, allow_unused=True),
            lambda gradients: torch.cat([g.flatten() for g in gradients if g is not None]),
        )

    rivals = {"eager": lambda: loop(A, y, net.values(), of)}
    return harness.Comparison(
        {"fastunroll": contestant(lambda: net(y)), **{name: contestant(run) for name, run in rivals.items()}}
    )


BENCHMARK = harness.Benchmark(
    name="imaging_networks",
    question=(
        f"How much faster is an unrolled network over pictures than its loop in PyTorch? ({LAYERS} layers, "
        f"{SIDE}×{SIDE}, {INNER} inner iterations of total variation, 24 filters 5×5)"
    ),
    cases=[
        {"network": network, "B": batch, "pass": way}
        for network, way, batch in product(NETWORKS, ("forward", "training"), BATCHES)
        if batch <= LARGEST[network.split(", ")[1]][way]
    ],
    quick_cases=[
        {"network": network, "B": 1, "pass": way} for network in NETWORKS[::3] for way in ("forward", "training")
    ],
    build=build,
    baseline="eager",
    tolerance=TOLERANCE,
)

if __name__ == "__main__":
    sys.exit(harness.main(BENCHMARK))
