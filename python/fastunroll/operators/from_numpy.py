"""Operators of SigPy and PyLops that this package has too: scans, masks and blurs, of their arrays."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .blur import Blur
from .foreign import MatvecOperator, SigpyOperator
from .fourier import Fourier
from .linear_operator import LinearOperator
from .mask import Mask
from .multi_coil import MultiCoilFourier
from .recognised import Recognised

Array = NDArray[Any]
_SCANS = ("FFT",), ("Multiply", "FFT"), ("FFT", "Multiply"), ("Multiply", "FFT", "Multiply")


def of_sigpy(linop: Any) -> LinearOperator:
    """A linear operator of SigPy: masks, Fourier transforms of pictures and maps of coils as those of this package."""
    wrapped = SigpyOperator(linop)
    parts = [*getattr(linop, "linops", [linop])]
    names = tuple(type(part).__name__ for part in parts if type(part).__module__ == "sigpy.linop")
    if len(names) < len(parts):
        return wrapped
    if names == ("Multiply",):
        return _mask(wrapped, parts[0])
    return _scan(wrapped, names, parts) if names in _SCANS else wrapped


def _mask(wrapped: SigpyOperator, multiply: Any) -> LinearOperator:
    weights = _weights(multiply)
    if weights is None or weights.ndim < 2:
        return wrapped
    return Recognised(wrapped, partial(_make_mask, weights), collapsed=True, solves=True, has_products=True)


def _scan(wrapped: SigpyOperator, names: tuple[str, ...], parts: list[Any]) -> LinearOperator:
    fft = parts[names.index("FFT")]
    dims = len(fft.ishape)
    axes = range(dims) if fft.axes is None else fft.axes
    if sorted(axis % dims for axis in axes) != [dims - 2, dims - 1]:
        return wrapped
    weights: Array | None = np.ones(fft.ishape[-1:])
    if names[0] == "Multiply":
        weights = _weights(parts[0])
    if weights is None:
        return wrapped
    if names[-1] != "Multiply":
        make = partial(_make_scan, weights, fft.center)
        return Recognised(wrapped, make, collapsed=True, solves=True, has_products=True)
    maps = parts[-1].mult
    is_of_coils = dims == 3 and tuple(parts[-1].ishape) == tuple(fft.ishape[1:])
    of_each_coil = any(size > 1 for size in weights.shape[:-2])
    if not is_of_coils or not _is_usable(maps, "fc") or maps.shape != tuple(fft.ishape) or of_each_coil:
        return wrapped
    maps = maps.conj() if parts[-1].conj else maps
    make = partial(_make_coils, weights.reshape(weights.shape[-2:]), maps, fft.center)
    return Recognised(wrapped, make, collapsed=True, solves=False, has_products=True)


def _weights(multiply: Any) -> Array | None:
    """The real weights of a product that changes no shape, if it is with an array in this memory."""
    changes = tuple(multiply.ishape) != tuple(multiply.oshape)
    return multiply.mult if not changes and _is_usable(multiply.mult, "biuf") else None


def _is_usable(array: Any, kinds: str) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind in kinds and bool(np.isfinite(array).all())


def of_matvec(obj: Any) -> LinearOperator:
    """An operator of SciPy or PyLops: a two-dimensional convolution of PyLops as the blur of this package."""
    wrapped = MatvecOperator(obj)
    kind = type(obj)
    if kind.__name__ != "Convolve2D" or kind.__module__.split(".")[0] != "pylops":
        return wrapped
    dims, kernel = len(obj.dims), obj.h
    if [*obj.axes] != [dims - 2, dims - 1] or not _is_usable(kernel, "f"):
        return wrapped
    kernel = kernel.reshape(kernel.shape[-2:])
    if any(k > n for k, n in zip(kernel.shape, obj.dims[-2:], strict=True)):
        return wrapped
    return Recognised(wrapped, partial(_make_blur, kernel), collapsed=False, solves=False, has_products=True)


def _tensor(array: Array, x: Tensor) -> Tensor:
    """An array in the precision and on the device of x."""
    real = torch.float64 if x.dtype.to_real() == torch.float64 else torch.float32
    if np.iscomplexobj(array):
        return torch.from_numpy(np.ascontiguousarray(array, np.complex128)).to(x.device, real.to_complex())
    return torch.from_numpy(np.ascontiguousarray(array, np.float64)).to(x.device, real)


def _make_mask(weights: Array, x: Tensor) -> LinearOperator:
    return Mask(_tensor(weights, x))


def _make_scan(weights: Array, centered: bool, x: Tensor) -> LinearOperator:
    return Fourier(_tensor(weights, x), centered)


def _make_coils(weights: Array, maps: Array, centered: bool, x: Tensor) -> LinearOperator:
    return MultiCoilFourier(_tensor(weights, x), _tensor(maps, x), centered)


def _make_blur(kernel: Array, x: Tensor) -> LinearOperator:
    return Blur(_tensor(kernel, x), "constant")
