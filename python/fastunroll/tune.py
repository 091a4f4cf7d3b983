"""Times the kernels of a device against each other, so that each call can choose the fastest kernel."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from itertools import product
from time import perf_counter

import torch
from torch import Tensor
from tqdm import tqdm

from .ops import dispatch
from .ops.device import kernels, problem
from .ops.network import _network as network_for_gradients
from .ops.network import _network_backward as network_backward
from .ops.network import network
from .ops.spec import NetworkSpec, Parameters
from .ops.timings import Case, Timings, name_of

SIZES = (64, 128, 256, 512)
BATCHES = (1, 16, 64, 256, 1024, 8192)
LAYERS = 16
_PRECISIONS = {"single": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}

# The largest relative difference between two kernels. Rounding adds up over 16 layers, and may move elements across
# their threshold.
_MAX_DIFFERENCE = {"single": 1e-3, "tf32": 3e-2, "bfloat16": 0.2}

Run = Callable[[], Sequence[Tensor]]


def _values(found: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.double().flatten() for t in found])


def time_of(run: Run, device: torch.device, seconds: float) -> float:
    """Returns the time of a call in microseconds: the median of five loops, which wait for the device at their end."""

    def loop(calls: int) -> float:
        start = perf_counter()
        for _ in range(calls):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (perf_counter() - start) / calls

    loop(2)
    calls = max(1, int(seconds / 5 / loop(2)))
    return statistics.median(loop(calls) for _ in range(5)) * 1e6


def _draw_network(
    kind: str, n: int, layers: int, device: torch.device, dtype: torch.dtype
) -> tuple[NetworkSpec, Parameters]:
    """Draws a random network whose iterates neither grow nor vanish. Other properties do not change the speed."""
    m = n // 2

    def draw(*shape: int) -> Tensor:
        return (torch.randn(*shape) * 0.5 / shape[1] ** 0.5).to(device, dtype)

    theta = [torch.full((1,), 0.1).to(device, dtype) for _ in range(layers)]
    if kind == "gradient":
        A = draw(m, n)
        return NetworkSpec(layers, linear="gradient"), Parameters([A], [A * 0.5], theta=theta)
    count = 1 if kind == "tied" else layers
    return NetworkSpec(layers), Parameters(
        [draw(n, m) for _ in range(count)], [draw(n, n) for _ in range(count)], theta=theta
    )


def _runs(spec: NetworkSpec, p: Parameters, y: Tensor) -> tuple[Run, Run]:
    """Returns functions that run the network and its gradient, with the kernel that :func:`dispatch.only` selects."""

    def forward() -> Sequence[Tensor]:
        return network(spec, p, y, None, None, keep=False)

    needs = [False, False, False, True, True, False, True, False, False]
    x, _, _, saved, support = network_for_gradients(y, *map(list, p), None, None, spec.encode(), False, True, False)
    grad = torch.ones_like(x[-1])

    def backward() -> Sequence[Tensor]:
        grads: list[Tensor] = network_backward(
            grad, None, y, *map(list, p), None, None, x, saved, support, spec.encode(), needs
        )
        return grads

    return forward, backward


def tune(
    device: torch.device, sizes: Sequence[int] = SIZES, batches: Sequence[int] = BATCHES, layers: int = LAYERS,
    seconds: float = 0.006, precisions: Sequence[str] = tuple(_PRECISIONS), bar: bool = False,
) -> Timings:  # fmt: skip
    """Times every kernel for each kind of network, precision, size and batch, forward and backward.

    A kernel whose result differs from the layer-by-layer result gets no timing, so no call chooses it.

    Args:
        device: the device.
        sizes: the numbers n of columns.
        batches: the numbers of samples.
        layers: the number of layers.
        seconds: the time to spend on each kernel.
        precisions: "single", "tf32" or "bfloat16".
        bar: whether to show a progress bar.

    Raises:
        RuntimeError: the device has no kernels.
    """
    if (why := problem(device)) is not None:
        raise RuntimeError(f"tune needs a device with kernels, but {why}")
    module = kernels(torch.empty(0, device=device))
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    allowed, state = torch.backends.cuda.matmul.allow_tf32, torch.random.get_rng_state()
    cases = []
    try:
        combinations = list(product(precisions, dispatch.KINDS, sizes, batches))
        for precision, kind, n, batch in tqdm(combinations, disable=not bar, unit="case"):
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            spec, p = _draw_network(kind, n, layers, device, _PRECISIONS[precision])
            y = torch.randn(batch, n // 2).to(device, _PRECISIONS[precision])
            with torch.no_grad():
                for gradient, run in enumerate(_runs(spec, p, y)):
                    plans = dispatch.candidates(module, spec, p, y, bool(gradient))
                    with dispatch.only(None):
                        wanted = _values(run())
                    times = {}
                    for plan in (*plans, None):
                        with dispatch.only(plan):
                            difference = float((_values(run()) - wanted).norm())
                            if difference <= _MAX_DIFFERENCE[precision] * float(wanted.norm()):
                                times[dispatch.name_of(plan)] = round(time_of(run, device, seconds), 1)
                    cases.append(Case(kind, precision, bool(gradient), n, batch, times))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
        torch.random.set_rng_state(state)
    return Timings(name_of(device), date, tuple(cases))
