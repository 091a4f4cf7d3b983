"""The layers of a module over pictures or over a matrix for every sample, kept between calls.

Describing layers takes longer than running them for a small picture, or for few samples.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _checks, ops
from ..operators import Dense
from ..operators.gradients import learns
from ..operators.pictures import NormalParts
from ..ops.cache import CacheEntry
from ..prox import L1, Box, Identity, NonNegativeL1, Proximal, TotalVariation, WaveletL1
from ..schemes import Scheme
from .layers import Layers
from .pictures import OPERATORS, arguments, refused_reason
from .run import SampleNumbers, is_batch_of_samples, sample_numbers

# The proximal operators without tensors, and what K layers of them depend on beside thresholds.
_SETTINGS: dict[type[Proximal], Callable[[Any, int], tuple[Any, ...]]] = {
    Identity: lambda prox, count: (),
    L1: lambda prox, count: (),
    NonNegativeL1: lambda prox, count: (),
    Box: lambda prox, count: (prox.low, prox.high),
    TotalVariation: lambda prox, count: (prox.inner_iterations, prox.sample_dims),
    WaveletL1: lambda prox, count: (
        *(prox.wavelet.name, prox.wavelet.levels, prox.wavelet.picture_dims, prox.wavelet.shape_in, prox.levels),
        *(prox.per, *(tuple(prox.move(k)) for k in range(count))),
    ),
}
_OPERATORS = frozenset((*OPERATORS, Dense))


class MadeOf(NamedTuple):
    """What layers are made of, beside their numbers."""

    A: Any
    scheme: Scheme
    prox: Proximal
    layers: int


class _OfPictures(NamedTuple):
    """Layers without their pictures, and what other pictures have to fit."""

    layers: ops.PictureLayers
    kind: tuple[Any, ...]

    def run(self, A: Any, y: Tensor, x0: Tensor | None, keep: bool) -> Tensor | None:
        """All layers; None where something does not fit."""
        try:
            z = A.adjoint(y)
            parts = A.normal_parts(z)
        except (TypeError, ValueError):  # which layers that are described raise in their own words
            return None
        given = [t for t in (z, parts.h, parts.maps) if t is not None]
        if not all(map(ops.is_plain, given)) or ops.differentiable(*given) or not z.numel():
            return None
        if _kind(z, parts) != self.kind or (x0 is not None and (x0.shape != z.shape or x0.dtype != z.dtype)):
            return None
        return ops.unchecked_picture_layers(self.layers._replace(z=z, x0=x0, h=parts.h, maps=parts.maps), keep)


class _OfSamples(NamedTuple):
    """The numbers of layers over a matrix for every sample, and the shape that the matrices have to fit."""

    numbers: SampleNumbers
    shape: tuple[int, ...]

    def run(self, A: Any, y: Tensor, x0: Tensor | None, keep: bool) -> Tensor | None:
        """All layers; None where something does not fit."""
        matrix = A.matrix
        if matrix.shape != self.shape or matrix.dtype != y.dtype or not _is_usual(matrix):
            return None
        samples, m, n = self.shape
        if y.shape != (samples, m) or (x0 is not None and (x0.shape != (samples, n) or x0.dtype != y.dtype)):
            return None
        return ops.sample_layers(matrix, y, x0, *self.numbers, keep)


class _Kept(NamedTuple):
    """What calls without gradients need, and A, the scheme and the proximal operator that it is made of.

    No layers where none are compiled, and none of these three where other ones took their place meanwhile.
    """

    made_of: tuple[weakref.ref[Any], ...]
    layers: _OfPictures | _OfSamples | None


class LayersCache:
    """A module's layers, for calls that record no gradient."""

    __slots__ = ("_entry",)

    def __init__(self) -> None:
        self._entry: CacheEntry[_Kept] | None = None

    def run(
        self, made_of: MadeOf, tensors: list[Tensor], describe: Callable[[], Layers | None], y: Tensor,
        x0: Tensor | None, keep: bool,
    ) -> Tensor | None:  # fmt: skip
        """All layers, or with ``keep`` every one; None if the caller has to describe them, and to check its arguments.

        Not for calls that are traced (:func:`fastunroll.ops.is_tracing`).

        tensors: those of which the numbers of the layers are made, always in the same order.
        describe: returns the layers for y, or None if they are made of other things meanwhile.
        """
        A, _, prox, count = made_of
        settings = _SETTINGS.get(type(prox))
        if settings is None or type(A) not in _OPERATORS or not _is_usual(y) or not (x0 is None or _is_usual(x0)):
            return None
        if torch.is_grad_enabled() and (any(t.requires_grad for t in (y, x0, *tensors) if t is not None) or learns(A)):
            return None
        version = (
            *(y.shape[-2:], y.dtype, count, A.shape_in, A.shape_out),
            *(prox.has_threshold, *settings(prox, count)),
        )
        entry = self._entry  # another thread may replace it meanwhile
        if (
            entry is None
            or not _is_of(entry.value, made_of)
            or entry.version != version
            or not entry.is_current(tensors)
        ):
            if not all(ops.is_plain(t) and t.is_cpu and t.is_contiguous() and not t.is_inference() for t in tensors):
                return None
            self._entry = entry = CacheEntry(tensors, lambda: _described(made_of, describe, y), version)
        layers = entry.value.layers
        if layers is None:
            return None
        x = layers.run(A, y, x0, keep)
        if x is None:
            self._entry = None
            return None
        return x if keep else x[-1]

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a module gets an empty cache."""
        return LayersCache, ()


def _is_of(kept: _Kept, made_of: MadeOf) -> bool:
    return bool(kept.made_of) and all(ref() is of for ref, of in zip(kept.made_of, made_of, strict=False))


def _is_usual(t: Tensor) -> bool:
    """Whether kernels read this tensor as it is, outside of autocast."""
    return ops.is_plain(t) and ops.is_supported_on_cpu(t, complex_too=True) and not _checks.autocasts(t)


def _kind(z: Tensor, parts: NormalParts) -> tuple[Any, ...]:
    """What layers over pictures depend on, beside the values of tensors: of a batch that shares all, not its size."""
    normal, h, maps, *others = parts
    shared = h.dim() == 2 and (maps is None or maps.dim() == 3)
    of_maps = None if maps is None else (maps.shape, maps.dtype)
    return normal, h.shape, h.dtype, of_maps, *others, z.dtype, z.shape[-2:] if shared else z.shape


def _described(made_of: MadeOf, describe: Callable[[], Layers | None], y: Tensor) -> _Kept:
    """What is kept of layers, for batches like y."""
    with torch.no_grad():
        net = describe()
        return _Kept((), None) if net is None else _Kept((*map(weakref.ref, made_of[:-1]),), _layers(made_of.A, net, y))


def _layers(A: Any, net: Layers, y: Tensor) -> _OfPictures | _OfSamples | None:
    if net.unsupported_reason() is not None:
        return None
    if net.has_matrix_of_each_sample:
        return _OfSamples(sample_numbers(net, y), tuple(A.matrix.shape)) if is_batch_of_samples(y) else None
    if not net.is_of_pictures or refused_reason(net, y) is not None:
        return None
    z = A.adjoint(y)
    layers = arguments(net, z, None)
    if not ops.fits_pictures(layers):
        return None
    nothing = z.new_empty(0)
    return _OfPictures(layers._replace(z=nothing, h=nothing, maps=None), _kind(z, A.normal_parts(z)))
