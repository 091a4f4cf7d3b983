"""What every public function asks of its arguments. A refusal is one sentence: the rule, what broke it, the fix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor


def shape_text(shape: Sequence[int | str]) -> str:
    """A shape as Python writes a tuple: (250, 500)."""
    return "(" + ", ".join(str(s) for s in shape) + ("," if len(shape) == 1 else "") + ")"


def tensor(name: str, value: object) -> Tensor:
    """``value`` if it is a floating-point or complex tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}: use torch.as_tensor({name})")
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be dense, got layout {value.layout}: use {name}.to_dense()")
    if not (value.is_floating_point() or value.is_complex()):
        raise TypeError(f"{name} must be floating point, got {value.dtype}: use {name}.float()")
    return value


def matrix(name: str, value: object) -> Tensor:
    """``value`` if it is a matrix with at least one row and one column."""
    a = tensor(name, value)
    if a.dim() != 2 or 0 in a.shape:
        raise ValueError(f"{name} must be a matrix (m, n) with m, n ≥ 1, got shape {shape_text(a.shape)}")
    return a


def finite_matrix(name: str, value: object) -> Tensor:
    """``value`` if it is a matrix without NaN or infinity. Reads the values: for constructors."""
    a = matrix(name, value)
    if not a.is_meta and not bool(torch.isfinite(a).all()):
        raise ValueError(f"{name} must be finite, but it holds NaN or infinity: check how it was computed")
    return a


def nonzero_matrix(name: str, value: object) -> Tensor:
    """``value`` if it is a finite matrix with a nonzero entry, so that 1/‖A‖² is a step size."""
    a = finite_matrix(name, value)
    if not a.is_meta and not bool(a.any()):
        raise ValueError(f"{name} must not be zero: the step size 1/‖{name}‖² would be infinite")
    return a


def columns(name: str, value: Tensor, expected: int, a_shape: Sequence[int], matrix_name: str = "A") -> None:
    """Refuses samples whose last dimension does not fit the matrix."""
    if value.dim() == 0 or value.shape[-1] != expected:
        got = value.shape[-1] if value.dim() else "no"
        raise ValueError(
            f"{name} has {got} columns but {matrix_name} is {shape_text(a_shape)}: "
            f"expected {name} of shape (..., {expected})"
        )


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on where ``x`` is."""
    return torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type)


def alike(**tensors: Tensor | None) -> list[Any]:
    """The tensors, if they have the dtype and device of the first.

    Under autocast they are converted to the dtype of the first, so that weights set the precision.
    """
    (first_name, first), *others = [(n, t) for n, t in tensors.items() if t is not None]
    out = dict(tensors)
    for name, value in others:
        if value.device != first.device:
            raise ValueError(
                f"all tensors must be on one device, but {first_name} is on {first.device} and {name} on "
                f"{value.device}: move one with .to()"
            )
        if value.dtype != first.dtype:
            if not autocasts(first):
                raise TypeError(
                    f"all tensors must have one dtype, but {first_name} is {first.dtype} and {name} is "
                    f"{value.dtype}: convert one with .to()"
                )
            out[name] = value.to(first.dtype)
    return list(out.values())


def same_batch(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Refuses two batches of samples whose leading dimensions differ."""
    if value.shape[:-1] != other.shape[:-1]:
        raise ValueError(
            f"{name} and {other_name} must hold the same samples, but their leading shapes are "
            f"{shape_text(value.shape[:-1])} and {shape_text(other.shape[:-1])}"
        )


def real(name: str, value: Tensor) -> None:
    """Refuses complex values where the algorithm is defined for real ones."""
    if value.is_complex():
        raise TypeError(f"{name} must be real, got {value.dtype}: this operation is defined for real data")


def not_negative(name: str, value: float) -> float:
    """``value`` if it is a finite number ≥ 0."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}: use float({name}) if it holds one")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a finite number ≥ 0, got {value!r}")
    return float(value)


def positive(name: str, value: float) -> float:
    """``value`` if it is a finite number > 0."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}: use float({name}) if it holds one")
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be a finite number > 0, got {value!r}")
    return float(value)


def count(name: str, value: object) -> int:
    """``value`` if it is a whole number ≥ 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number ≥ 1, got {value!r}")
    return int(value)


def broadcasts(name: str, value: Tensor, x: Tensor) -> torch.Size:
    """The shape of ``value`` and ``x`` together."""
    try:
        return torch.broadcast_shapes(x.shape, value.shape)
    except RuntimeError:
        raise ValueError(
            f"{name} must broadcast with x, but {name} is {shape_text(value.shape)} and x is {shape_text(x.shape)}"
        ) from None


def same_device(name: str, value: Tensor, like: Tensor) -> None:
    """Refuses a tensor that is elsewhere than the data."""
    if value.device != like.device:
        raise ValueError(
            f"all tensors must be on one device, but {name} is on {value.device} and the data on {like.device}: "
            f"move one with .to()"
        )


def scalar(name: str, value: Tensor | float, like: Tensor) -> Tensor:
    """One real number as a tensor of shape () beside ``like``."""
    number = threshold(name, value, like)
    if number.numel() != 1:
        raise ValueError(f"{name} must be one number, got shape {shape_text(number.shape)}")
    return number.reshape(())


def floating_dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    """``dtype`` if parameters can have it."""
    if dtype is not None and not dtype.is_floating_point:
        raise TypeError(f"dtype must be real floating point, got {dtype}: use torch.float32 or torch.float64")
    return dtype


def threshold(name: str, value: Tensor | float, like: Tensor) -> Tensor:
    """A threshold as a real tensor beside ``like``; a number must be finite and ≥ 0."""
    dtype = like.real.dtype if like.is_complex() else like.dtype
    if not isinstance(value, Tensor):
        if not isinstance(value, Real):
            raise TypeError(f"{name} must be a number or a torch.Tensor, got {type(value).__name__}")
        return torch.full((), not_negative(name, value), dtype=dtype, device=like.device)
    real(name, tensor(name, value))
    same_device(name, value, like)
    return value.to(dtype)
