"""Converts matrices, functions and operators of other libraries to a :class:`LinearOperator`."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from .. import _checks
from ..arrays import from_array, is_array
from .dense import Dense
from .foreign import DeepinvOperator, LinearLayer, SparseMatrix, Wrapped
from .from_deepinv import of_deepinv
from .from_mrpro import of_mrpro
from .from_numpy import of_matvec, of_sigpy
from .linear_operator import LinearOperator

OperatorLike: TypeAlias = Any  # what as_operator takes

FORMS = (
    "a matrix, a fu.operators.LinearOperator, an object with A(x) and A.adjoint(y), or a pair of functions (A, adjoint)"
)


def as_operator(obj: Any, name: str = "A") -> LinearOperator:
    """Returns ``obj`` as a :class:`LinearOperator`. All functions that take an operator call it.

    Args:
        obj: one of

            - a :class:`LinearOperator`, which is returned as it is;
            - a matrix (m, n), or one for every sample (B, m, n): a tensor, without a copy, or a NumPy array;
            - a sparse matrix of PyTorch or SciPy;
            - a ``scipy.sparse.linalg.LinearOperator`` or an operator of PyLops (``matvec``, ``rmatvec``); its
              ``Convolve2D`` becomes a :class:`Blur`;
            - a linear operator of SigPy (``ishape``, ``oshape``, ``H``), whose ``N`` is AᴴA. Products of masks, Fourier
              transforms of pictures and maps of coils become the operators of this package;
            - a linear physics of DeepInverse (``A``, ``A_adjoint``). The kernel, mask and maps of its classes Blur,
              BlurFFT, MRI, MultiCoilMRI and Inpainting go into the operators of this package, which are faster;
            - an operator of MRpro, whose products are tuples of one tensor, and whose ``gram`` is AᴴA. That of a
              Cartesian scan is computed by this package;
            - a ``torch.nn.Linear`` without a bias;
            - a pair of functions ``(A, adjoint)``;
            - any object with ``A(x)`` and ``A.adjoint(y)``; its ``shape_in``, ``shape_out`` and ``norm()`` are used
              where it has them.
        name: what messages call it.

    Returns:
        The operator. Operators of NumPy run on the CPU: tensors are converted in and back, to their device and
        precision, and each sample of a batch by itself where the library takes no batches.

    Raises:
        TypeError: ``obj`` is none of these.
        ValueError: a ``torch.nn.Linear`` has a bias.

    Example::

        blur = fu.operators.as_operator(pylops.signalprocessing.Convolve1D(n, h))
        x = fu.solvers.fista(blur, y, lam=0.01)
    """
    if isinstance(obj, LinearOperator):
        return obj
    if isinstance(obj, type):
        raise TypeError(f"{name} must be an operator, got {_checks.kind(obj)}")
    if isinstance(obj, Tensor):
        return _of_tensor(obj, name) if obj.layout == torch.strided else SparseMatrix(obj)
    if isinstance(obj, nn.Linear):
        return _of_linear_layer(obj, name)
    if isinstance(obj, (tuple, list)):
        return _of_pair(obj, name)
    if hasattr(obj, "tocsc"):
        return SparseMatrix(_of_scipy_sparse(obj, name))
    if callable(getattr(obj, "A_adjoint", None)) and callable(getattr(obj, "A", None)):
        return of_deepinv(obj) or DeepinvOperator(obj)
    if hasattr(obj, "ishape") and hasattr(obj, "oshape") and hasattr(obj, "H"):
        return of_sigpy(obj)
    if callable(getattr(obj, "matvec", None)) and callable(getattr(obj, "rmatvec", None)):
        return of_matvec(obj)
    if is_array(obj):
        return _of_tensor(from_array(obj, name), name)
    if callable(obj) and callable(getattr(obj, "adjoint", None)):
        return of_mrpro(obj) if _is_of("mrpro", obj) else Wrapped(obj)
    if callable(obj):
        raise TypeError(
            f"an operator must have A.adjoint(y) besides A(x), but {type(obj).__name__} has no adjoint: give a pair "
            "(A, adjoint)"
        )
    raise TypeError(f"{name} must be {FORMS}, got {type(obj).__name__}")


def matrix_or_operator(obj: OperatorLike) -> Tensor | LinearOperator:
    """A matrix (m, n) where ``obj`` is one or an operator that has one, else ``obj`` as an operator.

    It is quick for a tensor, which is returned as it is.
    """
    if isinstance(obj, Tensor) and obj.layout == torch.strided and obj.dim() < 3:
        return obj
    op = as_operator(obj)
    matrix = op.matrix
    return op if matrix is None or matrix.dim() > 2 else matrix


def _is_of(library: str, obj: Any) -> bool:
    """Whether the class of an object, or one it inherits from, is of a library. The library is not imported."""
    return any(kind.__module__.split(".")[0] == library for kind in type(obj).__mro__)


def _of_tensor(A: Tensor, name: str) -> LinearOperator:
    of_mask = "of a mask make an operator, such as fu.operators.Fourier(mask)"
    if A.dtype == torch.bool:
        raise TypeError(f"{name} must be floating point, got torch.bool: {of_mask}")
    if A.dim() == 1:
        raise ValueError(f"{name} must be a matrix (m, n), got shape {_checks.shape_text(A.shape)}: {of_mask}")
    return Dense.of(_checks.matrices(name, A))


def _of_linear_layer(layer: nn.Linear, name: str) -> LinearOperator:
    if layer.bias is not None:
        raise ValueError(
            f"{name} must be linear, but this torch.nn.Linear has a bias: make it with bias=False, and subtract the "
            "bias from y"
        )
    return LinearLayer(layer)


def _of_pair(pair: Any, name: str) -> LinearOperator:
    if len(pair) != 2 or not all(callable(function) for function in pair):
        raise TypeError(f"{name} must be {FORMS}, got {type(pair).__name__}: use torch.tensor({name}) for a matrix")
    return Wrapped(_Pair(*pair))


class _Pair:
    """Two functions as an object with ``A(x)`` and ``A.adjoint(y)``."""

    def __init__(self, forward: Any, adjoint: Any) -> None:
        self.forward, self.adjoint = forward, adjoint
        self.source = forward

    def __call__(self, x: Tensor) -> Any:
        return self.forward(x)


def _of_scipy_sparse(matrix: Any, name: str) -> Tensor:
    if matrix.dtype.kind not in "fc":
        raise TypeError(f"{name} must be floating point, got {matrix.dtype}: use {name}.astype(float)")
    csr = matrix.tocsr()
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    first, columns, values = (from_array(np.asarray(part), name) for part in (csr.indptr, csr.indices, csr.data))
    return torch.sparse_csr_tensor(first, columns, values, csr.shape, check_invariants=True)
