"""The layers of a module over pictures, kept between calls: to describe them takes longer than a small picture does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _checks, ops
from ..operators.gradients import learns
from ..operators.pictures import NormalParts
from ..ops.cache import CacheEntry
from ..ops.tensors import has_tangents
from ..prox import L1, Box, Identity, NonNegativeL1, Proximal, TotalVariation, WaveletL1
from ..schemes import Scheme
from .layers import Layers
from .pictures import OPERATORS, arguments, refused_reason

# The proximal operators without tensors, and what their layers depend on beside thresholds.
_SETTINGS: dict[type[Proximal], Callable[[Any], tuple[Any, ...]]] = {
    Identity: lambda prox: (),
    L1: lambda prox: (),
    NonNegativeL1: lambda prox: (),
    Box: lambda prox: (prox.low, prox.high),
    TotalVariation: lambda prox: (prox.inner_iterations,),
    WaveletL1: lambda prox: (prox.wavelet.name, prox.levels, prox.per, prox.shift, *prox.moves),
}


_Pieces = tuple[Any, Scheme, Proximal]


class _Kept(NamedTuple):
    """Layers without their pictures, and what other pictures have to fit; layers are None where none are compiled.

    pieces: those of the layers, held so that others do not take their addresses.
    """

    pieces: _Pieces
    layers: ops.PictureLayers | None = None
    shape: tuple[int, ...] = ()
    normal: tuple[Any, ...] = ()


def _kind(parts: NormalParts) -> tuple[Any, ...]:
    """What layers depend on of AᴴA, beside the values of tensors."""
    normal, h, maps, *others = parts
    return normal, h.shape, h.dtype, None if maps is None else maps.shape, *others


class PictureCache:
    """A module's layers over pictures, for calls that record no gradient."""

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
        if settings is None or type(A) not in OPERATORS or not _is_usual(y) or not (x0 is None or _is_usual(x0)):
            return None
        if torch.is_grad_enabled() and (any(t.requires_grad for t in (y, x0, *tensors) if t is not None) or learns(A)):
            return None
        version = y.shape, y.dtype, id(A), id(scheme), id(prox), settings(prox)
        entry = self._entry  # another thread may replace it meanwhile
        if entry is None or entry.version != version or not entry.is_current(tensors):
            if not all(ops.is_plain(t) and t.is_cpu and t.is_contiguous() and not t.is_inference() for t in tensors):
                return None
            self._entry = entry = CacheEntry(tensors, lambda: _described((A, scheme, prox), describe, y), version)
        layers = entry.value.layers
        if layers is None:
            return None
        z = A.adjoint(y)
        parts = A.normal_parts(z)
        if z.shape != entry.value.shape or _kind(parts) != entry.value.normal:
            self._entry = None
            return None
        if x0 is not None and (x0.shape != z.shape or x0.dtype != z.dtype):
            return None
        x = ops.picture_layers_as_before(layers._replace(z=z, x0=x0, h=parts.h, maps=parts.maps), keep)
        return x if keep else x[-1]

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a module gets an empty cache."""
        return PictureCache, ()


def _is_usual(t: Tensor) -> bool:
    """Whether kernels read this tensor as it is, outside of autocast and of forward-mode differentiation."""
    return (
        ops.is_plain(t)
        and ops.is_supported_on_cpu(t, complex_too=True)
        and not (has_tangents() or _checks.autocasts(t))
    )


def _described(pieces: _Pieces, describe: Callable[[], Layers], y: Tensor) -> _Kept:
    """What is kept of layers, for pictures like y."""
    A = pieces[0]
    with torch.no_grad():
        net = describe()
        if net.unsupported_reason() is not None or refused_reason(A, y) is not None:
            return _Kept(pieces)
        z = A.adjoint(y)
        layers = arguments(net, z, None)
        if not ops.fits_pictures(layers):
            return _Kept(pieces)
        nothing = z.new_empty(0)
        return _Kept(pieces, layers._replace(z=nothing, h=nothing, maps=None), z.shape, _kind(A.normal_parts(z)))
