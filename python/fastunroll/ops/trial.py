"""A device's kernels against plain PyTorch, once in a process: before they are trusted with anybody's numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import reference
from .form import Form, Parameters
from .network import network

_M, _N, _BATCH, _LAYERS = 12, 17, 5, 2
_FORMS = (  # one launch forward and backward; one launch with sums over samples; layer by layer
    (Form(_LAYERS), torch.float32),
    (Form(_LAYERS, coupled=True, state="momentum"), torch.float32),
    (Form(_LAYERS, coupled=True, state="onsager"), torch.float32),
    (Form(_LAYERS, passing=(3, 3)), torch.float64),
)
_OFF = {torch.float32: 1e-2, torch.float64: 1e-9}  # that of TF32 too; a mistake is far larger


def disagreement(device: torch.device) -> str | None:
    """Which network came out wrong, if one did."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for form, dtype in _FORMS:
            which = f"{'coupled' if form.coupled else 'direct'} layers, state {form.state}, {dtype}"
            try:
                agrees = _agrees(form, dtype, device)
            except RuntimeError as error:
                return f"its kernels fail ({which}): {error}"
            if not agrees:
                return f"its kernels disagree with plain PyTorch ({which}): please report it with `fastunroll info`"
    return None


def _agrees(form: Form, dtype: torch.dtype, device: torch.device) -> bool:
    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, dtype=torch.float64) * scale).to(device, dtype).requires_grad_()

    first = [draw(_M, _N, scale=0.2) if form.coupled else draw(_N, _M, scale=0.3) for _ in range(_LAYERS)]
    second = [draw(_M, _N, scale=0.2) if form.coupled else draw(_N, _N, scale=0.2) for _ in range(_LAYERS)]
    blend = [draw(1, scale=0.3) for _ in range(_LAYERS)] if form.state == "momentum" else []
    p = Parameters(first, second, (), [draw(1, scale=0.1) for _ in range(_LAYERS)], (), blend)
    y = draw(_BATCH, _M)
    leaves = [y, *(t for group in p for t in group)]

    def outcome(x: Tensor) -> Tensor:
        grads = torch.autograd.grad(x.square().sum(), leaves, allow_unused=True, materialize_grads=True)
        return torch.cat([x.detach().flatten(), *(g.flatten() for g in grads)]).double()

    with torch.enable_grad():
        found = outcome(network(form, p, y, None, None, keep=False)[0])
        x, _ = reference.network(
            y, *p, y.new_zeros(_BATCH, _N), None, layers=form.layers, coupled=form.coupled, state=form.state,
            shrinkage=form.shrinkage, group=form.group, passing=form.passing,
        )  # fmt: skip
        wanted = outcome(x[-1])
    return bool((found - wanted).norm() <= _OFF[dtype] * wanted.norm())
