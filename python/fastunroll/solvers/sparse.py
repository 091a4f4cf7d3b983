"""Sparse matrices of SciPy and PyTorch, converted to compressed columns."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import _checks
from ..arrays import from_array
from ..ops.tensors import differentiable, has_tangents

NO_GRADIENT = "a solution for a sparse A has no gradient: use a dense A, or call the solver under torch.no_grad()"


def is_sparse(value: object) -> bool:
    """Whether a value is a sparse matrix."""
    return hasattr(value, "tocsc") or (isinstance(value, Tensor) and value.layout != torch.strided)


def _of_scipy(name: str, value: Any) -> Tensor:
    if value.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be float32 or float64, got {value.dtype}: convert it with .astype()")
    csc = value.tocsc()
    if not csc.has_canonical_format:  # rows in another order, or twice
        csc = csc.copy()
        csc.sum_duplicates()
    size = csc.indptr[-1]  # there may be room for more
    first, rows, values = map(from_array, (csc.indptr, csc.indices[:size], csc.data[:size]))
    return _assemble(name, first, rows, values, tuple(csc.shape))


def _of_torch(name: str, value: Tensor) -> Tensor:
    if value.requires_grad:
        raise ValueError(f"{name} is sparse and requires a gradient, which dense matrices alone have: detach it")
    if value.layout not in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc):
        raise TypeError(f"{name} must be dense, or sparse in COO, CSR or CSC format: use {name}.to_sparse_csc()")
    converted = value.layout != torch.sparse_csc
    if converted:
        value = value.coalesce() if value.layout == torch.sparse_coo else value
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that PyTorch's support is in beta
            value = value.to_sparse_csc()
    found = _assemble(name, value.ccol_indices(), value.row_indices(), value.values(), tuple(value.shape))
    # The tensor itself, where it will do, counts its changes.
    return found if converted or not value.values().is_contiguous() else value


def _assemble(name: str, first: Tensor, rows: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    if values.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} must be float32 or float64, got {values.dtype}: convert it with .to()")
    if first.dtype != rows.dtype:
        first, rows = first.long(), rows.long()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.sparse_csc_tensor(first, rows, values.contiguous(), shape, check_invariants=True)
    except RuntimeError as e:
        reason = str(e).split(". ")[0].splitlines()[0]
        raise ValueError(f"{name} is not a sparse matrix by columns that makes sense: {reason}") from None


def sparse_matrix(name: str, value: Any) -> Tensor:
    """As a ``torch.sparse_csc`` matrix, which shares memory with one by columns that is in order.

    Raises:
        TypeError: not float32 or float64; another sparse format.
        ValueError: not a matrix, not finite, or with indices out of range; or it requires a gradient.
    """
    if torch._C._functorch.peek_interpreter_stack() is not None:  # where PyTorch makes no sparse tensors
        raise ValueError(NO_GRADIENT)
    csc = _of_torch(name, value) if isinstance(value, Tensor) else _of_scipy(name, value)
    if csc.dim() != 2 or 0 in csc.shape:
        text = _checks.shape_text(csc.shape)
        raise ValueError(f"{name} must be a matrix (m, n) with m, n ≥ 1, got shape {text}")
    _checks.finite_values(name, csc.values())
    return csc


def adjoint_product(y: Tensor, A: Tensor) -> Tensor:
    """Aᵀy, (..., n), for y (..., m)."""
    found: Tensor = A.mT @ y.reshape(-1, A.shape[0]).mT
    return found.mT.reshape(*y.shape[:-1], A.shape[1])


def refuse_gradients(*tensors: Tensor | None) -> None:
    """Refuses arguments that are differentiated, in any way, where the matrix is sparse."""
    wrapped = any(t is not None and torch._C._functorch.is_functorch_wrapped_tensor(t) for t in tensors)
    if differentiable(*tensors) or wrapped or has_tangents():
        raise ValueError(NO_GRADIENT)
