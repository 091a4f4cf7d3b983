"""Measures the kernels of a device, so that calls choose the fastest."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from itertools import product
from time import perf_counter

import torch
from torch import Tensor
from tqdm import tqdm

from .ops.backends import BACKENDS, problem
from .ops.cuda import kernel_choice
from .ops.cuda.backend import CudaBackend
from .ops.cuda.timings import Case, Timings, name_of
from .ops.network import _network, _network_backward, network
from .ops.network_call import counts_of, encode
from .ops.spec import NetworkSpec, Parameters

SIZES = (64, 128, 256, 512)
BATCHES = (1, 16, 64, 256, 1024, 8192)
LAYERS = 16
_PRECISIONS = {"single": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}

# What kernels may differ by: 16 layers, and elements that round to the other side of their threshold.
_OFF = {"single": 1e-3, "tf32": 3e-2, "bfloat16": 0.2}

Run = Callable[[], Sequence[Tensor]]


def _values(found: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.double().flatten() for t in found])


def time_of(run: Run, device: torch.device, seconds: float) -> float:
    """Microseconds of a call in a loop that does not wait for each: the median of five loops."""

    def loop(calls: int) -> float:
        began = perf_counter()
        for _ in range(calls):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (perf_counter() - began) / calls

    loop(2)
    calls = max(1, int(seconds / 5 / loop(2)))
    return statistics.median(loop(calls) for _ in range(5)) * 1e6


def _drawn(kind: str, n: int, layers: int, device: torch.device, dtype: torch.dtype) -> tuple[NetworkSpec, Parameters]:
    """Iterates neither grow nor vanish; how fast a kernel is does not depend on more."""
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


def _runs(form: NetworkSpec, p: Parameters, y: Tensor) -> tuple[Run, Run]:
    """The network, and its gradient, by whichever kernel is the only one."""

    def forward() -> Sequence[Tensor]:
        return network(form, p, y, None, None, return_layers=False)

    needs = [False, False, False, True, True, False, True, False, False]
    spec, parameters = encode(form, counts_of(p)), [t for group in p for t in group]
    x, _, _, saved, selected = _network(y, None, None, parameters, spec, False, True, False)
    grad = torch.ones_like(x[-1])

    def backward() -> Sequence[Tensor]:
        found: list[Tensor] = _network_backward(grad, None, y, None, None, parameters, x, saved, selected, spec, needs)
        return found

    return forward, backward


def tune(
    device: torch.device, sizes: Sequence[int] = SIZES, batches: Sequence[int] = BATCHES, layers: int = LAYERS,
    seconds: float = 0.006, precisions: Sequence[str] = tuple(_PRECISIONS), bar: bool = False,
) -> Timings:  # fmt: skip
    """Times every kernel that can run each kind of network, precision, size and batch, forward and backward.

    A kernel whose result differs from the layer-by-layer result gets no timing, so no call chooses it.

    Raises:
        RuntimeError: the device has no kernels.
    """
    backend, why = BACKENDS.get(device.type), problem(device)
    if why is not None or not isinstance(backend, CudaBackend):
        raise RuntimeError(f"tune needs a device with kernels, but {why or 'the CPU has one kernel for each case'}")
    module = backend.module
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    allowed, state = torch.backends.cuda.matmul.allow_tf32, torch.random.get_rng_state()
    cases = []
    try:
        every = list(product(precisions, kernel_choice.KINDS, sizes, batches))
        for precision, kind, n, batch in tqdm(every, disable=not bar, unit="case"):
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            form, p = _drawn(kind, n, layers, device, _PRECISIONS[precision])
            y = torch.randn(batch, n // 2).to(device, _PRECISIONS[precision])
            with torch.no_grad():
                for gradient, run in enumerate(_runs(form, p, y)):
                    plans = kernel_choice.candidates(module, form, p, y, bool(gradient))
                    with kernel_choice.only(None):
                        wanted = _values(run())
                    times = {}
                    for plan in (*plans, None):
                        with kernel_choice.only(plan):
                            off = float((_values(run()) - wanted).norm())
                            if off <= _OFF[precision] * float(wanted.norm()):
                                times[kernel_choice.name_of(plan)] = round(time_of(run, device, seconds), 1)
                    cases.append(Case(kind, precision, bool(gradient), n, batch, times))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
        torch.random.set_rng_state(state)
    return Timings(name_of(device), date, tuple(cases))
