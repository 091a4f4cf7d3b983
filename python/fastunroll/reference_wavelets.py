"""Wavelet transforms with periodic boundaries in plain PyTorch, and the ℓ₁ norm of wavelet details.

The coefficients of an orthonormal wavelet lie in Mallat's layout: the approximation of the last level comes first in
each direction, and the details of each level surround it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from . import reference

Shrink = Callable[[Tensor, Tensor], Tensor]


def coefficients(x: Tensor, low: Sequence[float], levels: int, dims: int = 2) -> Tensor:
    """W x of pictures (..., H, W), or of volumes (..., D, H, W), by the low-pass filter of a wavelet."""
    bank = _filter_bank(low, x)
    return on_real_and_imaginary(lambda x: _analyse_levels(x, bank, levels, dims), x) if x.numel() else x * 1


def from_coefficients(c: Tensor, low: Sequence[float], levels: int, dims: int = 2) -> Tensor:
    """Wᵀ c, which is the inverse of :func:`coefficients`."""
    bank = _filter_bank(low, c)
    return on_real_and_imaginary(lambda c: _synthesise_levels(c, bank, levels, dims), c) if c.numel() else c * 1


def shrink_details(z: Tensor, theta: Tensor, low: Sequence[float], levels: int, move: Sequence[int] = (0, 0)) -> Tensor:
    """The proximal operator Wᵀ S_θ(W z) of pictures, on a grid that is moved by (down, right) pixels.

    theta: (3·levels,), of the details across rows, across columns and across both of each level, the finest first.
    """
    down, right = move
    c = coefficients(z.roll((down, right), (-2, -1)), low, levels)
    x = from_coefficients(shrunk(c, [*theta.unbind()], reference.soft_threshold), low, levels)
    return x.roll((-down, -right), (-2, -1))


def shrunk(c: Tensor, thresholds: Sequence[Tensor], shrink: Shrink) -> Tensor:
    """The coefficients of pictures, their details shrunk by the thresholds of each level, the finest first."""
    if not thresholds:
        return c
    across_rows, across_columns, across_both, *coarser = thresholds
    upper, lower = c.chunk(2, -2)
    approximation, columns = upper.chunk(2, -1)
    rows, both = lower.chunk(2, -1)
    upper = torch.cat([shrunk(approximation, coarser, shrink), shrink(columns, across_columns)], -1)
    lower = torch.cat([shrink(rows, across_rows), shrink(both, across_both)], -1)
    return torch.cat([upper, lower], -2)


def on_real_and_imaginary(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A real linear map of real tensors, applied to the real and the imaginary part of a complex x in one call."""
    if not x.is_complex():
        return product(x)
    parts = product(torch.stack([x.real, x.imag]))
    return torch.complex(parts[0], parts[1])


def _filter_bank(low: Sequence[float], like: Tensor) -> Tensor:
    """The low-pass and the high-pass filter (2, F) of a wavelet, of the precision of ``like``."""
    filters = torch.tensor(low, dtype=like.real.dtype if like.is_complex() else like.dtype, device=like.device)
    signs = torch.ones_like(filters)
    signs[1::2] = -1
    return torch.stack([filters, signs * filters.flip(0)])


def _analyse_levels(x: Tensor, bank: Tensor, levels: int, dims: int) -> Tensor:
    """One level on the whole picture, then the other levels on its approximation."""
    for axis in range(-dims, 0):
        x = _analyse(x, bank, axis)
    return x if levels == 1 else _with_corner(x, _analyse_levels(_corner(x, dims), bank, levels - 1, dims))


def _synthesise_levels(c: Tensor, bank: Tensor, levels: int, dims: int) -> Tensor:
    """The inverse: the other levels make the approximation, and one level makes the whole picture of it."""
    if levels > 1:
        c = _with_corner(c, _synthesise_levels(_corner(c, dims), bank, levels - 1, dims))
    for axis in range(-dims, 0):
        c = _synthesise(c, bank, axis)
    return c


def _corner(c: Tensor, dims: int) -> Tensor:
    """The approximation: the first half along each axis."""
    for axis in range(-dims, 0):
        c = c.narrow(axis, 0, c.shape[axis] // 2)
    return c


def _with_corner(c: Tensor, corner: Tensor) -> Tensor:
    """``c`` with ``corner`` in the place of its first entries along each axis. Both tensors stay as they are."""
    sides = corner.shape
    for axis in range(-1, -c.dim() - 1, -1):
        if sides[axis] != c.shape[axis]:
            rest = c[tuple(slice(n) for n in sides[:axis])].narrow(axis, sides[axis], c.shape[axis] - sides[axis])
            corner = torch.cat([corner, rest], axis)
    return corner


def _analyse(x: Tensor, bank: Tensor, axis: int) -> Tensor:
    """Along an axis Low[o] = Σ_j low_j x[2o + j + 1 − F/2], periodically, then the same of the high-pass filter."""
    source = _periodic(x.shape[axis], bank)
    inner = x.shape[axis:].numel() // x.shape[axis]
    padded = x.index_select(axis, source).reshape(-1, 1, len(source), inner)
    return conv2d(padded, bank[:, None, :, None], stride=(2, 1)).reshape(x.shape)


def _synthesise(c: Tensor, bank: Tensor, axis: int) -> Tensor:
    """The adjoint of :func:`_analyse`, which is its inverse."""
    source = _periodic(c.shape[axis], bank)
    inner = c.shape[axis:].numel() // c.shape[axis]
    halves = c.reshape(-1, 2, c.shape[axis] // 2, inner)
    padded = conv_transpose2d(halves, bank[:, None, :, None], stride=(2, 1))
    padded = padded.reshape(*c.shape[: c.dim() + axis], len(source), *c.shape[c.dim() + axis + 1 :])
    return torch.zeros_like(c).index_add(axis, source, padded)


def _periodic(n: int, bank: Tensor) -> Tensor:
    """The entry of a periodic signal of length n behind each one that the filters meet."""
    width = bank.shape[1]
    return (torch.arange(n + width - 2, device=bank.device) + 1 - width // 2) % n
