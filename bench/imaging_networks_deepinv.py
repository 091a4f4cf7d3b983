"""The unrolled networks of the benchmark as users of DeepInverse write them: its physics, priors and algorithms.

Its steps towards total variation, its momenta and the borders of its wavelets are others, so that its pictures differ
from ours: they are timed, and not compared. The grid of its wavelets does not move, which is less work.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import fastunroll as fu
import torch
from torch import Tensor

MISSING = [] if find_spec("deepinv") else ["DeepInverse left out: not installed; pip install '.[interop]'"]


def _physics(A: Any, side: int) -> Any:
    from deepinv import physics

    size = (1, side, side)
    if isinstance(A, fu.operators.Blur):
        return physics.BlurFFT(img_size=size, filter=A.kernel[None, None])
    if isinstance(A, fu.operators.Mask):
        return physics.Inpainting(img_size=size, mask=A.mask[None])
    return physics.MRI(mask=A.mask)


def _prior(name: str, inner: int, levels: int) -> Any:
    from deepinv import optim

    return {
        "total variation": lambda: optim.TVPrior(n_it_max=inner),
        "wavelet": lambda: optim.WaveletPrior(level=levels, wv="db4"),
        "ℓ₁": optim.L1Prior,
    }[name]()


def network(
    A: Any, y: Tensor, *, prior: str, scheme: str, layers: int, inner: int, levels: int
) -> tuple[Callable[[], Tensor], list[Tensor]] | None:
    """A call of the network that reconstructs y, and what it learns; None where DeepInverse has no such prior."""
    if MISSING or prior == "filter bank":
        return None
    from deepinv import optim

    net = getattr(optim, scheme)(
        data_fidelity=optim.L2(), prior=_prior(prior, inner, levels), stepsize=[0.9] * layers,
        lambda_reg=[0.01] * layers, max_iter=layers, unfold=True, trainable_params=["stepsize", "lambda_reg"],
    )  # fmt: skip
    physics = _physics(A, y.shape[-1])
    given = torch.stack([y.real, y.imag], 1) if y.is_complex() else y.unsqueeze(1)

    def run() -> Tensor:
        x: Tensor = net(given, physics)
        return torch.complex(x[:, 0], x[:, 1]) if y.is_complex() else x[:, 0]

    return run, [p for p in net.parameters() if p.requires_grad]
