"""A device's kernels against plain PyTorch, once in a process: before they are trusted with anybody's numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import reference
from .network import network
from .spec import NetworkSpec, Parameters

_BATCH, _LAYERS = 5, 2
_TRIALS = (  # with how many matrices of a kind
    (NetworkSpec(_LAYERS), _LAYERS, 12, 17, torch.float32),  # in one launch of one block,
    (NetworkSpec(_LAYERS), _LAYERS, 12, 300, torch.float32),  # and of several,
    (NetworkSpec(_LAYERS, linear="gradient"), 1, 12, 300, torch.float32),  # which keep matrices;
    (NetworkSpec(_LAYERS, linear="gradient", scheme="fista"), _LAYERS, 12, 17, torch.float32),
    (NetworkSpec(_LAYERS, linear="gradient", scheme="amp"), _LAYERS, 12, 17, torch.float32),  # with sums over samples;
    (NetworkSpec(_LAYERS, support_sizes=(3, 3)), _LAYERS, 12, 17, torch.float64),  # layer by layer
)
_OFF = {torch.float32: 1e-2, torch.float64: 1e-9}  # that of TF32 too; a mistake is far larger


def disagreement(device: torch.device) -> str | None:
    """Which network came out wrong, if one did."""
    autocast = torch.autocast(device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), autocast:
        for form, count, m, n, dtype in _TRIALS:
            which = f"{form.linear} layers, state {form.scheme}, n = {n}, {dtype}"
            try:
                agrees = _agrees(form, count, m, n, dtype, device)
            except torch.cuda.OutOfMemoryError:
                raise
            except RuntimeError as error:
                return f"its kernels fail ({which}): {error}"
            if not agrees:
                return f"its kernels disagree with plain PyTorch ({which}): please report it with `fastunroll info`"
    return None


def _agrees(form: NetworkSpec, count: int, m: int, n: int, dtype: torch.dtype, device: torch.device) -> bool:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        drawn = torch.randn(shape, generator=generator, device="cpu", dtype=torch.float64) * scale
        return drawn.to(device, dtype).requires_grad_()

    inner = m if form.is_gradient_step else n
    first = [
        draw(m, n, scale=inner**-0.5) if form.is_gradient_step else draw(n, m, scale=m**-0.5) for _ in range(count)
    ]
    second = [draw(inner, n, scale=0.5 * inner**-0.5) for _ in range(count)]
    blend = [draw(1, scale=0.3) for _ in range(_LAYERS)] if form.scheme == "fista" else []
    p = Parameters(first, second, (), [draw(1, scale=0.1) for _ in range(_LAYERS)], (), blend)
    y = draw(_BATCH, m)
    leaves = [y, *(t for group in p for t in group)]

    def outcome(x: Tensor) -> Tensor:
        grads = torch.autograd.grad(x.square().sum(), leaves, allow_unused=True, materialize_grads=True)
        return torch.cat([x.detach().flatten(), *(g.flatten() for g in grads)]).double()

    found = outcome(network(form, p, y, None, None, keep=False)[0])
    with torch.no_grad():
        bare = network(form, p, y, None, None, keep=False)[0]
    x, _ = reference.network(
        y, *p, y.new_zeros(_BATCH, n), None, layers=form.layers, linear=form.linear, scheme=form.scheme,
        prox=form.prox, group=form.group, support_sizes=form.support_sizes,
    )  # fmt: skip
    wanted = outcome(x[-1])
    off = max((found - wanted).norm() / wanted.norm(), (bare - x[-1].detach()).norm() / x[-1].detach().norm())
    return bool(off <= _OFF[dtype])
