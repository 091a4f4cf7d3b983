"""Times FISTA with a user's operator, a blur by FFT, against the loop that the user would write in PyTorch instead."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product

import fastunroll as fu
import harness
import torch
from fastunroll.solvers.lipschitz import step_of
from fastunroll.solvers.problem import problem
from lista_eager import sign_relu
from torch import Tensor

ITERATIONS, LAM, WIDTH = 100, 1e-3, 2.0


class Blur:
    """A blur by a Gaussian, as a user writes it, without a norm."""

    def __init__(self, side: int) -> None:
        r = torch.arange(side) - side // 2
        kernel = torch.exp(-(r[:, None].square() + r.square()) / (2 * WIDTH**2))
        self.transfer = torch.fft.rfft2(torch.fft.ifftshift(kernel / kernel.sum()))

    def __call__(self, x: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x) * self.transfer, s=x.shape[-2:])

    def adjoint(self, y: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(y) * self.transfer.conj(), s=y.shape[-2:])


def eager(op: Blur, y: Tensor, step: float, shrink: Callable[[Tensor, float], Tensor]) -> Tensor:
    x = v = torch.zeros_like(y)
    t = 1.0
    for _ in range(ITERATIONS):
        before, x = x, shrink(v - step * op.adjoint(op(v) - y), LAM * step)
        following = (1 + (1 + 4 * t * t) ** 0.5) / 2
        v = x + (t - 1) / following * (x - before)
        t = following
    return x


def build(case: harness.Case, seed: int) -> harness.Comparison:
    side, batch = int(case["side"]), int(case["B"])
    random = torch.Generator().manual_seed(seed)
    stars = torch.rand(batch, side, side, generator=random) * (torch.rand(batch, side, side, generator=random) < 0.02)
    op = Blur(side)
    y = op(stars) + 0.001 * torch.randn(stars.shape, generator=random)
    found = step_of(problem(op, y, LAM, None), None)  # what is kept for the operator, and so the same for all
    step = float(found)
    given = step if case["step"] == "given" else None
    ours = harness.Contestant(lambda: fu.solvers.fista(op, y, LAM, iterations=ITERATIONS, step=given))
    theta = torch.tensor(LAM * step)
    rivals = {
        "eager sign·relu": lambda: eager(op, y, step, lambda z, _: sign_relu(z, theta)),
        "eager softshrink": lambda: eager(op, y, step, torch.nn.functional.softshrink),
    }
    return harness.Comparison({"fastunroll": ours, **{name: harness.Contestant(run) for name, run in rivals.items()}})


BENCHMARK = harness.Benchmark(
    name="fista_operators",
    question=f"Does FISTA with an operator cost more than a loop in PyTorch? (a blur by FFT, {ITERATIONS} iterations)",
    cases=[
        {"side": side, "B": batch, "step": step}
        for side, batch, step in product((128, 256, 512), (1, 4, 16), ("given", "kept"))
    ],
    quick_cases=[{"side": 128, "B": 1, "step": step} for step in ("given", "kept")],
    build=build,
    baseline="eager sign·relu",
    tolerance=1e-3,
    budget=15.0,
)

if __name__ == "__main__":
    sys.exit(harness.main(BENCHMARK))
