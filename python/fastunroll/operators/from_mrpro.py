"""Cartesian scans of MRpro, with AᴴA by the operators of this package, of tensors that they share."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from .foreign import GramOperator, Wrapped
from .fourier import Fourier
from .linear_operator import LinearOperator
from .multi_coil import MultiCoilFourier
from .recognised import Recognised, shared

_COILS = -4  # the axis of coils in (..., coils, z, y, x)


def of_mrpro(op: Any) -> LinearOperator:
    """An operator of MRpro. Fourier transforms along y and x have AᴴA by this package, with masks and maps of coils."""
    wrapped = (GramOperator if hasattr(op, "gram") else Wrapped)(op, unpacks=True)
    parts = _parts(op)
    maps = parts.pop().csm_tensor if _name(parts[-1]) == "SensitivityOp" else None
    power = _power(parts)
    if power is None or any(t.requires_grad for t in (power, maps) if t is not None):
        return wrapped
    if maps is None:
        return Recognised(wrapped, partial(_scan, power), collapsed=True, solves=True)
    if maps.dim() < 4 or not maps.is_complex() or (power.dim() > 3 and power.shape[_COILS] != 1):
        return wrapped
    return Recognised(wrapped, partial(_coils, power, maps), collapsed=True, solves=False, axis=_COILS)


def _name(op: Any) -> str:
    return type(op).__name__ if type(op).__module__.split(".")[0] == "mrpro" else ""


def _parts(op: Any) -> list[Any]:
    """The operators of a composition, the last of which takes x."""
    if _name(op) == "LinearOperatorComposition":
        return [*_parts(op._operator1), *_parts(op._operator2)]
    return [op]


def _power(parts: list[Any]) -> Tensor | None:
    """The h of AᴴA = Fᴴ h F with a two-dimensional F, with the frequency zero in the middle; None if A is not such."""
    names = [_name(part) for part in parts]
    found: Tensor | None = None
    if names == ["FourierOp"] and not parts[0]._nufft_dims and _is_planar(parts[0]._fast_fourier_op):
        found = parts[0]._cart_sampling_op.gram.mask
    elif names == ["CartesianMaskingOp", "FastFourierOp"] and _is_planar(parts[1]) and parts[0].mask is not None:
        found = parts[0].mask.square()
    return found


def _is_planar(fourier: Any) -> bool:
    """Whether a Fourier transform is along y and x, and pads nothing."""
    if fourier is None or sorted(fourier._dim) != [-2, -1]:
        return False
    return tuple(fourier._pad_op.original_shape) == tuple(fourier._pad_op.padded_shape)


def _weights(power: Tensor, x: Tensor) -> Tensor:
    """The mask m of AᴴA = Fᴴ m² F: rows that are repeated are as long as those of x."""
    m = power.to(device=x.device, dtype=x.dtype.to_real()).sqrt()
    return m.expand(*m.shape[:-1], x.shape[-1]) if m.shape[-1] == 1 else m


def _scan(power: Tensor, x: Tensor) -> LinearOperator:
    return Fourier(_weights(power, x))


def _coils(power: Tensor, maps: Tensor, x: Tensor) -> LinearOperator:
    """Of x (..., z, y, x), with maps (..., z, coils, y, x)."""
    m = _weights(power.squeeze(_COILS) if power.dim() > 3 else power, x)
    maps = maps.to(device=x.device, dtype=x.dtype.to_complex()).movedim(_COILS, -3).contiguous()
    return shared(MultiCoilFourier(m, maps), maps=maps)
