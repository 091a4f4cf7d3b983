"""NumPy arrays in, NumPy arrays out."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import torch

Solver = TypeVar("Solver", bound=Callable[..., Any])


def _tensor(value: Any) -> Any:
    return torch.from_numpy(np.require(value, requirements=["C", "W"])) if isinstance(value, np.ndarray) else value


def takes_arrays(solver: Solver) -> Solver:
    """Where y, the second argument, is a NumPy array, so may A, λ and x0 be, and x is returned as one."""

    @wraps(solver)
    def wrapper(*args: Any, **options: Any) -> Any:
        y = args[1] if len(args) > 1 else options.get("y")
        if not isinstance(y, np.ndarray):
            return solver(*args, **options)
        callback = options.get("callback")
        if callable(callback):
            options["callback"] = lambda iteration, x: callback(iteration, x.numpy())
        converted = {name: _tensor(value) for name, value in options.items()}
        return solver(*map(_tensor, args), **converted).numpy()

    return wrapper  # type: ignore[return-value]
