"""Lasso problems that share a matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _fastunroll
from .device import kernels
from .register import address, alike, is_double, ready, require, serves


def serves_lasso(A: Tensor) -> bool:
    """Whether :class:`Dictionary` exists for this device and dtype."""
    return A.device.type == "cpu" and serves(A) and kernels(A) is None


class Dictionary:
    """What the native solver keeps for a matrix A (m, n) on the CPU: norms, Gram matrix, packed copies."""

    def __init__(self, A: Tensor, ridge: float) -> None:
        self.shape, self.dtype = (A.shape[0], A.shape[1]), A.dtype
        A = ready(A)
        self._native = _fastunroll.Dictionary(is_double(A), self.shape, torch.get_num_threads(), ridge, A.data_ptr())

    def is_current(self) -> bool:
        """Whether it serves the instruction set in use."""
        return self._native.is_current()

    def solve(
        self,
        y: Tensor,
        lam: Tensor,
        weights: Tensor | None,
        x0: Tensor | None,
        nonnegative: bool,
        tol: float,
        most_steps: int,
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """x (B, n), relative gaps (B,), steps (B,) and how many gaps are above ``tol``, for y (B, m) and λ (B,)."""
        (count, _), (m, n) = y.shape, self.shape
        fits = y.dtype == self.dtype and alike(y, lam, weights, x0) and y.shape == (count, m) and lam.shape == (count,)
        require(fits and (weights is None or weights.shape == (n,)), "lasso")
        require(x0 is None or x0.shape == (count, n), "lasso")
        y, lam = ready(y), ready(lam)
        weights, x0 = (None if t is None else ready(t) for t in (weights, x0))
        x, gap, steps = y.new_empty(count, n), y.new_empty(count), torch.empty(count, dtype=torch.int64)
        left = self._native.solve(
            count, torch.get_num_threads(), nonnegative, tol, most_steps,
            (y.data_ptr(), lam.data_ptr(), address(weights), address(x0)),
            (x.data_ptr(), gap.data_ptr(), steps.data_ptr()),
        )  # fmt: skip
        return x, gap, steps, left
