"""The layers of a module over pictures or over a matrix for every sample, kept between calls.

To describe layers takes longer than to run them for a small picture, or for few samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _checks, ops
from ..operators import Dense
from ..operators.gradients import learns
from ..operators.pictures import NormalParts
from ..ops.cache import CacheEntry
from ..ops.tensors import has_tangents
from ..prox import L1, Box, Identity, NonNegativeL1, Proximal, TotalVariation, WaveletL1
from ..schemes import Scheme
from .layers import Layers
from .pictures import OPERATORS, arguments, refused_reason
from .run import SampleNumbers, is_batch_of_samples, sample_numbers

# The proximal operators without tensors, and what their layers depend on beside thresholds.
_SETTINGS: dict[type[Proximal], Callable[[Any], tuple[Any, ...]]] = {
    Identity: lambda prox: (),
    L1: lambda prox: (),
    NonNegativeL1: lambda prox: (),
    Box: lambda prox: (prox.low, prox.high),
    TotalVariation: lambda prox: (prox.inner_iterations,),
    WaveletL1: lambda prox: (prox.wavelet.name, prox.levels, prox.per, prox.shift, *prox.moves),
}
_OPERATORS = frozenset((*OPERATORS, Dense))


class _OfPictures(NamedTuple):
    """Layers without their pictures, and what other pictures have to fit."""

    layers: ops.PictureLayers
    shape: tuple[int, ...]
    normal: tuple[Any, ...]

    def run(self, A: Any, y: Tensor, x0: Tensor | None, keep: bool) -> Tensor | None:
        """All layers; None where something does not fit."""
        z = A.adjoint(y)
        parts = A.normal_parts(z)
        if z.shape != self.shape or _kind(parts) != self.normal:
            return None
        if x0 is not None and (x0.shape != z.shape or x0.dtype != z.dtype):
            return None
        p = self.layers._replace(z=z, x0=x0, h=parts.h, maps=parts.maps)
        return ops.picture_layers_as_before(p, keep)


class _OfSamples(NamedTuple):
    """The numbers of layers over a matrix for every sample, and the shape that matrices have to fit."""

    numbers: SampleNumbers
    shape: tuple[int, ...]

    def run(self, A: Any, y: Tensor, x0: Tensor | None, keep: bool) -> Tensor | None:
        """The same."""
        matrix, y = A.arguments(y=y)
        if matrix.shape != self.shape or not _is_usual(matrix):
            return None
        if x0 is not None and (x0.shape != (y.shape[0], matrix.shape[-1]) or x0.dtype != y.dtype):
            return None
        return ops.sample_layers(matrix, y, x0, *self.numbers, keep)


class _Kept(NamedTuple):
    """The pieces of layers, held so that others do not take their addresses, and what calls without gradients need.

    None where no such layers are compiled.
    """

    pieces: tuple[Any, Scheme, Proximal]
    layers: _OfPictures | _OfSamples | None


class LayersCache:
    """A module's layers, for calls that record no gradient."""

    __slots__ = ("_entry",)

    def __init__(self) -> None:
        self._entry: CacheEntry[_Kept] | None = None

    def run(
        self, A: Any, scheme: Scheme, prox: Proximal, tensors: list[Tensor], describe: Callable[[], Layers], y: Tensor,
        x0: Tensor | None, keep: bool,
    ) -> Tensor | None:  # fmt: skip
        """All layers, or with ``keep`` every one; None if the caller has to describe them, and to check its arguments.

        Not for calls that are traced (:func:`fastunroll.ops.is_tracing`).

        tensors: those of which the numbers of the layers are made, always in the same order.
        describe: returns the layers for y.
        """
        settings = _SETTINGS.get(type(prox))
        if settings is None or type(A) not in _OPERATORS or not _is_usual(y) or not (x0 is None or _is_usual(x0)):
            return None
        if torch.is_grad_enabled() and (any(t.requires_grad for t in (y, x0, *tensors) if t is not None) or learns(A)):
            return None
        version = y.shape, y.dtype, id(A), id(scheme), id(prox), settings(prox)
        entry = self._entry  # another thread may replace it meanwhile
        if entry is None or entry.version != version or not entry.is_current(tensors):
            if not all(ops.is_plain(t) and t.is_cpu and t.is_contiguous() and not t.is_inference() for t in tensors):
                return None
            pieces = A, scheme, prox
            self._entry = entry = CacheEntry(tensors, lambda: _Kept(pieces, _described(A, describe, y)), version)
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


def _is_usual(t: Tensor) -> bool:
    """Whether kernels read this tensor as it is, outside of autocast and of forward-mode differentiation."""
    return (
        ops.is_plain(t)
        and ops.is_supported_on_cpu(t, complex_too=True)
        and not (has_tangents() or _checks.autocasts(t))
    )


def _kind(parts: NormalParts) -> tuple[Any, ...]:
    """What layers depend on of AᴴA, beside the values of tensors."""
    normal, h, maps, *others = parts
    return normal, h.shape, h.dtype, None if maps is None else maps.shape, *others


@torch.no_grad()
def _described(A: Any, describe: Callable[[], Layers], y: Tensor) -> _OfPictures | _OfSamples | None:
    """What is kept of layers, for batches like y."""
    net = describe()
    if net.unsupported_reason() is not None:
        return None
    if net.has_matrix_of_each_sample:
        return _OfSamples(sample_numbers(net, y), A.matrix.shape) if is_batch_of_samples(y) else None
    if not net.is_of_pictures or refused_reason(A, y) is not None:
        return None
    z = A.adjoint(y)
    layers = arguments(net, z, None)
    if not ops.fits_pictures(layers):
        return None
    nothing = z.new_empty(0)
    return _OfPictures(layers._replace(z=nothing, h=nothing, maps=None), z.shape, _kind(A.normal_parts(z)))
