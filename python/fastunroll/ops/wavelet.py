"""The orthonormal wavelet transform of pictures, with periodic boundaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..reference_wavelets import coefficients, from_coefficients
from .backends import is_supported_on_cpu
from .cpu import wavelet as cpu
from .library import below_autograd, differentiate, operator, require, untraced
from .tensors import differentiable, is_batched, is_plain, is_tracing

_MOST_TAPS = 32


def wavelet_transform(x: Tensor, low_pass: Sequence[float], levels: int, adjoint: bool = False) -> Tensor:
    """W x, the wavelet coefficients of pictures in Mallat's layout, or Wᵀ x, which is W⁻¹ x.

    Its gradient is that of the adjoint. Equivalent to :func:`fastunroll.reference_wavelets.coefficients`, or to
    ``from_coefficients``, which compute it where there is no kernel, and where PyTorch traces the call.

    Args:
        x: pictures (..., H, W), real or complex, whose sides are multiples of 2 for each level.
        low_pass: the filter of the approximation, an even number of taps, at most 32.
        levels: L ≥ 1.
        adjoint: whether Wᵀ takes the place of W.

    Returns:
        (..., H, W), of the dtype of x.
    """
    if is_tracing() or not (is_supported_on_cpu(x, complex_too=True) and fits(x, low_pass, levels)):
        return (from_coefficients if adjoint else coefficients)(x, low_pass, levels)
    out: Tensor
    if differentiable(x):
        out = _untraced(x, low_pass, levels, adjoint)
    elif is_plain(x) and not is_batched(x):
        out = cpu.wavelet_transform(x, low_pass, levels, adjoint)  # without the dispatcher
    else:
        with below_autograd():
            out = _wavelet_transform(x, low_pass, levels, adjoint)
    return out


def fits(x: Tensor, low_pass: Sequence[float], levels: int) -> bool:
    """Whether the kernels take these pictures and this wavelet."""
    return (
        x.dim() >= 2
        and x.numel() > 0
        and 0 < levels < 32
        and len(low_pass) in range(2, _MOST_TAPS + 1, 2)
        and all(n % 2**levels == 0 for n in x.shape[-2:])
    )


def _fake(x: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@operator("wavelet_transform(Tensor x, float[] low_pass, int levels, bool adjoint) -> Tensor", _fake)
def _wavelet_transform(x: Tensor, low_pass: Sequence[float], levels: int, adjoint: bool) -> Tensor:
    require(is_supported_on_cpu(x, complex_too=True) and fits(x, low_pass, levels), "wavelet_transform")
    return cpu.wavelet_transform(x, low_pass, levels, adjoint)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.low_pass, ctx.levels, ctx.adjoint = inputs


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    return wavelet_transform(grad, ctx.low_pass, ctx.levels, not ctx.adjoint), None, None, None


differentiate(_wavelet_transform, _backward, _save)

_untraced = untraced(_wavelet_transform, _save, _backward)
