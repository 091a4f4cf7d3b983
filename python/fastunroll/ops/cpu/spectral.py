"""Products with operators that are diagonal in Fourier space, on the CPU: all images and coils in one native call."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ... import _fastunroll
from ..cache import cached
from ..tensors import address, is_double, is_plain, resolved
from .memory import empty

_LARGEST_PRIME = 31
_PRIMES = [p for p in range(2, _LARGEST_PRIME + 1) if all(p % q for q in range(2, p))]
_MULTIPLE = math.prod(p ** (31 // (p.bit_length() - 1)) for p in _PRIMES)  # of all lengths below 2³¹ with these primes


def is_fft_length(n: int) -> bool:
    """Whether kernels transform signals of this length: no prime factor exceeds 31."""
    return 0 < n < 1 << 31 and _MULTIPLE % int(n) == 0


def repetition(shape: Sequence[int], batch_shape: Sequence[int]) -> tuple[int, int] | None:
    """How the leading axes of d broadcast to those of a batch: the count of spectra, and the images in a row with one.

    Image b has spectrum b // repeat % count. None where the broadcast is of another kind.
    """
    full = [1] * (len(batch_shape) - len(shape)) + list(shape)
    last = len(full)
    while last > 0 and full[last - 1] == 1:
        last -= 1
    first = 0
    while first < last and full[first] == 1:
        first += 1
    if full[first:last] != list(batch_shape[first:last]):
        return None
    return math.prod(full[first:last]), math.prod(batch_shape[last:])


def packed(d: Tensor, is_real: bool, shape: tuple[int, int, int], of_rows: bool) -> Any:
    """The packed spectrum of d, which is cached while d does not change."""

    def pack() -> Any:
        values = resolved(d)
        return _fastunroll.PackedSpectrum(
            is_double(d), shape, is_real, d.is_complex(), of_rows, torch.get_num_threads(), values.data_ptr()
        )

    if not (is_plain(d) and d.is_contiguous()):
        return pack()
    return cached(("spectrum", is_real, shape, _fastunroll.instruction_set()), [d], pack)


def expanded(t: Tensor, batch_shape: Sequence[int], event: int) -> tuple[Tensor, int, int]:
    """t with leading axes that repeat regularly, and how they do: :func:`repetition`."""
    if t.dim() == event:
        return t, 1, math.prod(batch_shape)
    found = repetition(t.shape[:-event], batch_shape)
    if found is None:
        return t.expand(*batch_shape, *t.shape[-event:]), math.prod(batch_shape), 1
    return t, *found


def fourier_filter(x: Tensor, d: Tensor, z: Tensor | None, adjoint: bool) -> Tensor:
    """F⁻¹ diag(d) F x − z, with conj(d) in the place of d if ``adjoint``."""
    return _filter(x, d, z, None, adjoint)


def coil_normal(x: Tensor, maps: Tensor, h: Tensor, z: Tensor | None) -> Tensor:
    """Σ_c conj(S_c) F⁻¹ diag(h) F (S_c x) − z."""
    return _filter(x, h, z, maps, False)


def _filter(x: Tensor, d: Tensor, z: Tensor | None, maps: Tensor | None, adjoint: bool) -> Tensor:
    *batch_shape, rows, columns = x.shape
    d, count, repeat = expanded(d, batch_shape, 2)
    of_rows = d.shape[-2] == 1
    coils, map_count, map_repeat = 0, 1, 1
    if maps is not None:
        maps, map_count, map_repeat = expanded(maps, batch_shape, 3)
        maps, coils = resolved(maps), maps.shape[-3]
    x, z = resolved(x), None if z is None else resolved(z)
    (y,) = empty([x.shape], x.dtype)
    while not packed(d, not x.is_complex(), (count, rows, columns), of_rows).apply(
        math.prod(batch_shape), torch.get_num_threads(), adjoint, repeat, (coils, map_count, map_repeat),
        (x.data_ptr(), address(z), address(maps), y.data_ptr()),
    ):  # fmt: skip
        pass  # the instruction set changed after d was packed
    return y
