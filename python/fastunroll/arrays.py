"""Converts arrays of NumPy, JAX, CuPy and other libraries to tensors, and results back to arrays of the same kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from inspect import signature
from itertools import chain, repeat
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])


def is_array(value: object) -> bool:
    """Whether a value is an array of another library, with ``__dlpack__`` or ``__array__``, and not a number."""
    if isinstance(value, np.ndarray):
        return True
    if isinstance(value, (Tensor, float, int, complex, np.generic)) or value is None:
        return False
    return hasattr(type(value), "__dlpack__") or hasattr(type(value), "__array__")


def way_to_tensor(name: str, value: object) -> str:
    """How ``value`` becomes a tensor, or what was meant."""
    if hasattr(value, "adjoint"):
        return "give the measurements after the operator, and use fu.nn.Unrolled for networks over operators"
    if hasattr(value, "__array_interface__") and not hasattr(value, "dtype"):  # a picture of Pillow
        return f"use torch.from_numpy(numpy.asarray({name}) / 255)"
    return f"use torch.as_tensor({name})"


def from_array(array: Any, name: str = "array") -> Tensor:
    """The array as a tensor. It is copied only if PyTorch cannot share its memory, such as that of a read-only array.

    Raises:
        TypeError: PyTorch has no such numbers, or cannot take the array from where it is.
    """
    if not isinstance(array, np.ndarray):
        if hasattr(type(array), "__dlpack__"):
            return _from_dlpack(array, name)
        array = np.asarray(array)
    strided = all(stride >= 0 and stride % array.itemsize == 0 for stride in array.strides)
    shared = strided and array.flags.writeable and array.dtype.isnative
    try:
        return torch.from_numpy(array if shared else np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    except TypeError:
        raise TypeError(
            f"{name} must be of numbers that PyTorch has, got {array.dtype}: use {name}.astype(float)"
        ) from None


def _from_dlpack(array: Any, name: str) -> Tensor:
    try:
        return torch.utils.dlpack.from_dlpack(array)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:  # what libraries raise
        if hasattr(type(array), "__array__"):  # a read-only array, say, of which NumPy makes a copy
            return from_array(np.array(array), name)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TypeError(
            f"{name} must be an array that PyTorch can take, got {type(array).__name__}: {reason}"
        ) from None


def like_array(value: Tensor, given: object) -> Any:
    """``value`` as an array of the library of ``given``; NumPy's where that library has no ``from_dlpack``."""
    value = value.detach().resolve_conj().resolve_neg()
    if not isinstance(given, np.ndarray):
        namespace = getattr(given, "__array_namespace__", None)
        if callable(namespace) and hasattr(namespace(), "from_dlpack"):
            return namespace().from_dlpack(value.contiguous())
    return value.cpu().numpy()


def as_tensor(value: Any, name: str) -> Any:
    """An array as a tensor; anything else as it is."""
    return from_array(value, name) if is_array(value) else value


def answer(found: Any, given: object) -> Any:
    """A result in the kind of ``given``: its tensors become arrays if ``given`` is an array."""
    if not is_array(given):
        return found
    if type(found) is tuple:
        return tuple(answer(entry, given) for entry in found)
    return like_array(found, given) if isinstance(found, Tensor) else found


def answered(function: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """The result of ``function`` for arguments of which some are arrays, in the kind of the first."""
    tensors = [as_tensor(value, "x") for value in given]
    found = function(*tensors, **{name: as_tensor(value, name) for name, value in options.items()})
    return answer(found, next(chain(given, options.values())))


def takes_arrays(argument: str) -> Callable[[Function], Function]:
    """Makes a function take arrays wherever it takes tensors, and answer in the kind of the one called ``argument``."""

    def decorate(function: Function) -> Function:
        names = list(signature(function).parameters)
        place = names.index(argument)

        @wraps(function)
        def wrapper(*args: Any, **options: Any) -> Any:
            if not (has_arrays(args) or has_arrays(options.values())):
                return function(*args, **options)
            given = args[place] if len(args) > place else options.get(argument)
            callback = options.get("callback")
            if callable(callback) and is_array(given):
                options["callback"] = lambda iteration, x: callback(iteration, like_array(x, given))
            tensors = [as_tensor(value, name) for name, value in zip(chain(names, repeat("")), args, strict=False)]
            found = function(*tensors, **{name: as_tensor(value, name) for name, value in options.items()})
            return answer(found, given)

        return wrapper  # type: ignore[return-value]

    return decorate


# Types that are no arrays. The check is quick, because every call makes it. PyTorch 2.6 cannot compile it by a set.
_NO_ARRAYS = (Tensor, torch.nn.Parameter, float, int, bool, type(None))


def has_arrays(values: Iterable[Any]) -> bool:
    """Whether one of the values is an array of another library."""
    return any(type(value) not in _NO_ARRAYS and is_array(value) for value in values)
