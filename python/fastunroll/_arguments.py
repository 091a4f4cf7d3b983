"""Checks of arguments that are counts, numbers, switches or seeds. A refusal is one sentence on one line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from torch import Tensor

from . import _checks

MAX_COUNT = 2**31 - 1
MAX_SEED = 2**61  # the generators of processes and of held-out samples are seeded with a small multiple of it
_LONGEST = 80  # characters of a value in a message


def shown(value: object) -> str:
    """``value`` as a message shows it: on one line, and short."""
    if isinstance(value, Tensor):
        if value.is_nested:
            return "a nested tensor"
        return f"a tensor of shape {_checks.shape_text(value.shape)}" if value.numel() != 1 else "a tensor"
    if isinstance(value, np.ndarray):
        return f"an array of shape {_checks.shape_text(value.shape)}"
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # a whole number of thousands of digits; nesting without end
        return f"a very long {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def count(name: str, value: object, *, least: int = 1, most: int = MAX_COUNT) -> int:
    """``value`` if it is a whole number from ``least`` to ``most``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number ≥ {least}, got {shown(value)}")
    if value > most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, got {shown(value)}")
    return int(value)


def seed(name: str, value: object) -> int:
    """``value`` if it is a whole number that seeds a generator."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {shown(value)}")
    if not -MAX_SEED < value < MAX_SEED:
        raise ValueError(f"{name} must be a whole number between -2**61 and 2**61, got {shown(value)}")
    return int(value)


def finite(name: str, value: object) -> float:
    """``value`` if it is a finite number."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {shown(value)}: use float({name}) if it holds one")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {shown(value)}")
    return number


def positive(name: str, value: object) -> float:
    """``value`` if it is a finite number > 0."""
    number = finite(name, value)
    if number <= 0:
        raise ValueError(f"{name} must be a finite number > 0, got {shown(value)}")
    return number


def not_negative(name: str, value: object) -> float:
    """``value`` if it is a finite number ≥ 0."""
    number = finite(name, value)
    if number < 0:
        raise ValueError(f"{name} must be a finite number ≥ 0, got {shown(value)}")
    return number


def switch(name: str, value: object) -> bool:
    """``value`` if it is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def function(name: str, value: Any) -> Any:
    """``value`` if it can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {shown(value)}")
    return value


def mapping(name: str, value: object, of: str) -> Mapping[Any, Any]:
    """``value`` if it is a mapping; ``of`` says what it maps."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping of {of}, got {shown(value)}")
    return value
