"""NumPy arrays in, NumPy arrays out."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from itertools import chain, repeat
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Solver = TypeVar("Solver", bound=Callable[..., Any])


def from_array(array: NDArray[Any]) -> Tensor:
    """As a tensor; a copy only where PyTorch cannot share it: read-only, backwards, or of the other byte order."""
    strided = all(stride >= 0 and stride % array.itemsize == 0 for stride in array.strides)
    shared = strided and array.flags.writeable and array.dtype.isnative
    return torch.from_numpy(array if shared else np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _tensor(name: str, value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    try:
        return from_array(value)
    except TypeError:
        raise TypeError(
            f"{name} must be of numbers that PyTorch has, got {value.dtype}: use {name}.astype(float)"
        ) from None


def takes_arrays(solver: Solver) -> Solver:
    """Arguments may be NumPy arrays; where y, the second, is one the result is one."""
    names = list(signature(solver).parameters)

    @wraps(solver)
    def wrapper(*args: Any, **options: Any) -> Any:
        y = args[1] if len(args) > 1 else options.get(names[1])
        callback, given = options.get("callback"), isinstance(y, np.ndarray)
        if given and callable(callback):
            options["callback"] = lambda iteration, x: callback(iteration, x.numpy())
        first = [_tensor(name, value) for name, value in zip(chain(names, repeat("")), args, strict=False)]
        found = solver(*first, **{name: _tensor(name, value) for name, value in options.items()})
        return found.detach().numpy() if given else found

    return wrapper  # type: ignore[return-value]
