"""Lasso problems that share a matrix."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ... import _fastunroll
from ..library import require
from ..tensors import address, have_same_dtype_and_device, is_double, resolved


class Samples(NamedTuple):
    """Problems that share a matrix A (m, n): y (B, m), λ (B,), w (n,), x₀ (B, n)."""

    y: Tensor
    lam: Tensor
    weights: Tensor | None
    x0: Tensor | None
    nonnegative: bool
    tol: float
    max_steps: int

    def native_arguments(
        self, shape: tuple[int, int], dtype: torch.dtype
    ) -> tuple[list[Tensor | None], tuple[Tensor, Tensor, Tensor]]:
        """The arguments as native code takes them, and memory for the results: x, gaps and steps."""
        (count, _), (m, n) = self.y.shape, shape
        fits = self.y.dtype == dtype and have_same_dtype_and_device(self.y, self.lam, self.weights, self.x0)
        require(fits and self.y.shape == (count, m) and self.lam.shape == (count,), "lasso")
        require(self.weights is None or self.weights.shape == (n,), "lasso")
        require(self.x0 is None or self.x0.shape == (count, n), "lasso")
        given = [None if t is None else resolved(t) for t in (self.y, self.lam, self.weights, self.x0)]
        return given, (self.y.new_empty(count, n), self.y.new_empty(count), torch.empty(count, dtype=torch.int64))


class Dictionary:
    """A matrix A (m, n) on the CPU with what the native solver computes from it: norms, Gram matrix, packed copies."""

    def __init__(self, A: Tensor, ridge: float) -> None:
        self.shape, self.dtype = (A.shape[0], A.shape[1]), A.dtype
        A = resolved(A)
        self._native = _fastunroll.Dictionary(is_double(A), self.shape, torch.get_num_threads(), ridge, address(A))

    def is_current(self) -> bool:
        """Whether it was made for the instruction set in use."""
        return self._native.is_current()

    def solve(self, p: Samples) -> tuple[Tensor, Tensor, Tensor, int]:
        """x (B, n), relative gaps (B,), steps (B,) and the number of gaps above ``tol``."""
        given, results = p.native_arguments(self.shape, self.dtype)
        left = self._native.solve(
            len(p.y), torch.get_num_threads(), p.nonnegative, p.tol, p.max_steps,
            [*map(address, given)], [*map(address, results)],
        )  # fmt: skip
        return *results, left


class Columns:
    """A matrix (m, n) on the CPU. The native solver reads single columns of it, and keeps copies of them.

    A: contiguous rows or columns, or ``torch.sparse_csc`` with ascending rows. A matrix of any other layout is copied.
    """

    def __init__(self, A: Tensor, ridge: float) -> None:
        self.shape, self.dtype = (A.shape[0], A.shape[1]), A.dtype
        if A.layout == torch.sparse_csc:
            self._held = [A.values(), A.ccol_indices(), A.row_indices()]
            strides = [1, 1]
        else:
            A = A.resolve_neg()
            A = A if 1 in A.stride() and min(A.stride()) > 0 else A.contiguous()
            self._held = [A]
            strides = [*A.stride()]
        at = [t.data_ptr() for t in self._held] + [0, 0]
        wide = len(self._held) > 1 and self._held[1].dtype == torch.int64
        self._native = _fastunroll.Columns(is_double(self._held[0]), self.shape, ridge, at[:3], strides, wide)

    def solve(self, p: Samples, max_columns: int) -> tuple[Tensor, Tensor, Tensor, int]:
        """The results of :meth:`Dictionary.solve`.

        The last value is −1 if a solution needs more than ``max_columns`` columns; x is incomplete then.
        """
        given, results = p.native_arguments(self.shape, self.dtype)
        left = self._native.solve(
            len(p.y), torch.get_num_threads(), p.nonnegative, p.tol, p.max_steps, max_columns,
            [*map(address, given)], [*map(address, results)],
        )  # fmt: skip
        return *results, left
