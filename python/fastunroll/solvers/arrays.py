"""NumPy arrays in, NumPy arrays out."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
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


def _tensor(value: Any) -> Any:
    return from_array(value) if isinstance(value, np.ndarray) else value


def takes_arrays(solver: Solver) -> Solver:
    """Where y, the second argument, is a NumPy array, so may all others be, and the result is one."""

    @wraps(solver)
    def wrapper(*args: Any, **options: Any) -> Any:
        y = args[1] if len(args) > 1 else options.get("y")
        if not isinstance(y, np.ndarray):
            return solver(*args, **options)
        callback = options.get("callback")
        if callable(callback):
            options["callback"] = lambda iteration, x: callback(iteration, x.numpy())
        converted = {name: _tensor(value) for name, value in options.items()}
        return solver(*map(_tensor, args), **converted).detach().numpy()

    return wrapper  # type: ignore[return-value]
