"""Spectra on larger grids, for images of which a side has no kernel, as 218 = 2·109.

F⁻¹ diag(d) F x is the circular convolution of x (N,) with κ = F⁻¹ d. On a grid of L ≥ 2N − 1 points, with zeros after
x, and with κ at 0, …, N − 1 and κ[1], …, κ[N − 1] once more at L − N + 1, …, L − 1, the first N results are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from ..cache import cached
from ..tensors import differentiable, is_plain, is_tracing
from .spectral import is_fft_length

_PIXELS = 1 << 20  # of images, with their zeros, that are multiplied at once


@lru_cache(maxsize=64)
def grid(shape: tuple[int, int], of_rows: bool) -> tuple[int, int]:
    """The grid for images (H, W): sides that have kernels stay. of_rows: κ is zero beyond its first row."""
    rows, columns = shape
    return (
        rows if is_fft_length(rows) else fast_length(rows if of_rows else 2 * rows - 1),
        columns if is_fft_length(columns) else fast_length(2 * columns - 1),
    )


def fast_length(n: int) -> int:
    """The least positive even number ≥ n whose prime factors are 2, 3 and 5."""
    n = max(1, int(n))  # torch.jit.trace makes tensors of sizes
    length = n + n % 2
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 2


def can_be_kept(*tensors: Tensor) -> bool:
    """Whether what is made of these tensors is found again in the next call, as it costs more than a product."""
    return (
        not is_tracing()
        and not torch.is_inference_mode_enabled()
        and not differentiable(*tensors)
        and all(is_plain(t) and t.is_contiguous() and not t.is_inference() for t in tensors)
    )


def spectrum(d: Tensor, is_real: bool, shape: tuple[int, int]) -> Tensor:
    """The spectrum on the grid that does for images (H, W) what d does: kept while d does not change."""
    of_rows = d.shape[-2] == 1
    larger = grid(shape, of_rows)

    def make() -> Tensor:
        wide = d.detach().to(torch.complex128)
        size = 1 if of_rows else shape[0], shape[1]
        kernel = torch.fft.irfft2(wide, s=size) if is_real else torch.fft.ifft2(wide)
        kernel = _continued(kernel, -2, 1 if of_rows else larger[0])
        kernel = _continued(kernel, -1, larger[1])
        found = torch.fft.rfft2(kernel) if is_real else torch.fft.fft2(kernel)
        return (found if d.is_complex() else found.real).to(d.dtype).contiguous()

    return cached(("larger grid", is_real, shape), [d], make)


def padded(t: Tensor, to: tuple[int, int]) -> Tensor:
    """Images (..., H, W) with zeros after them."""
    return torch.nn.functional.pad(t, (0, to[1] - t.shape[-1], 0, to[0] - t.shape[-2]))


def image_by_image(product: Callable[[Tensor], Tensor], x: Tensor, z: Tensor | None, to: tuple[int, int]) -> Tensor:
    """Product(x with zeros after it) − z, of a few images at once, as larger images leave the cache sooner."""
    rows, columns = x.shape[-2:]
    images = x.reshape(-1, rows, columns)
    y = torch.empty_like(images, memory_format=torch.contiguous_format)
    step = max(torch.get_num_threads(), _PIXELS // (to[0] * to[1]))
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        found = product(padded(images[part], to))[..., :rows, :columns]
        if z is None:
            y[part] = found
        else:
            torch.sub(found, z.reshape(images.shape)[part], out=y[part])
    return y.reshape(x.shape)


def padded_maps(maps: Tensor, to: tuple[int, int]) -> Tensor:
    """Maps with zeros after them: kept while the maps do not change."""
    return cached(("padded", to), [maps], lambda: padded(maps.detach(), to))


def _continued(kernel: Tensor, dim: int, length: int) -> Tensor:
    """κ on a grid of L points, with its values at −N + 1, …, −1 at the end."""
    size = kernel.shape[dim]
    if length == size:
        return kernel
    between = list(kernel.shape)
    between[dim] = length - 2 * size + 1
    return torch.cat([kernel, kernel.new_zeros(between), kernel.narrow(dim, 1, size - 1)], dim)
