"""A Lasso problem with all that depends on its matrix alone, solved in native code or in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import ops
from .._precision import own_precision
from ..products import product
from .lasso_batched import Batched, Problem

LARGEST_GRAM = 1 << 30  # bytes; beyond, problems are solved without a Gram matrix


def serves(A: Tensor) -> bool:
    """Whether native code solves problems of this matrix."""
    return ops.serves_lasso(A) and A.numel() > 0 and A.shape[1] ** 2 * A.element_size() <= LARGEST_GRAM


def _versions(problem: Problem) -> list[int]:
    """How often each array was changed in place; of inference tensors that is not known."""
    arrays = (problem.A, problem.weights)
    return [-1 if array is None or array.is_inference() else array._version for array in arrays]


def _sums(values: Tensor) -> Tensor:
    """Over rows, in an order that depends on nothing else."""
    return product(values, values.new_ones(1, values.shape[1]))[:, 0]


def _objective(p: Problem, x: Tensor, y: Tensor, limit: Tensor) -> Tensor:
    """½‖A x − y‖² + Σ λwⱼ|xⱼ| + ½μ‖x‖², (B,)."""
    return _sums(product(x, p.A, start=-y).square()) / 2 + _sums(limit * x.abs() + p.ridge / 2 * x.square())


class Prepared:
    """A problem and what is kept for it."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._versions = _versions(problem)
        self._dictionary: ops.Dictionary | None = None
        self._batched: Batched | None = None
        self._double: Prepared | None = None

    def is_current(self) -> bool:
        """Whether it serves the instruction set in use, and nothing was changed in place."""
        current = self._dictionary is None or self._dictionary.is_current()
        return current and _versions(self.problem) == self._versions

    def solve(
        self, y: Tensor, lam: Tensor, tol: float, x0: Tensor | None, max_iter: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, n), relative gaps (B,) and steps (B,) for y (B, m) and λ (B,).

        Where single precision does not suffice for ``tol``, the work is finished in double precision, with half of
        the steps. A sample that does not converge gets the x of least gap: its objective is at most that of zero.
        """
        later = max_iter // 2 if y.dtype == torch.float32 else 0
        x, gap, steps, left = self._solve(y, lam, tol, x0, max_iter - later)
        if left and later:
            rest = (~(gap <= tol) & torch.isfinite(y).all(1)).nonzero()[:, 0]
            if rest.numel():
                exact, exact_gap, more = self._in_double(y[rest], lam[rest], tol, x[rest], later)
                better = (exact_gap < gap[rest]) | gap[rest].isnan()
                x[rest] = torch.where(better[:, None], exact, x[rest])
                gap[rest] = torch.where(better, exact_gap, gap[rest])
                steps[rest] += more
        return x, gap, steps

    def _solve(
        self, y: Tensor, lam: Tensor, tol: float, x0: Tensor | None, max_iter: int
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """In the precision of y; and how many gaps are not within ``tol``."""
        p = self.problem
        if serves(p.A):
            if self._dictionary is None:
                self._dictionary = ops.Dictionary(p.A, p.ridge)
            return self._dictionary.solve(y, lam, p.weights, x0, p.nonnegative, tol, max_iter)
        with own_precision(y):
            if self._batched is None:
                self._batched = Batched(p)
            x, gap, steps = self._batched.solve(y, lam, tol, x0, max_iter)
        return x, gap, steps, int((~(gap <= tol)).sum())

    def _in_double(
        self, y: Tensor, lam: Tensor, tol: float, x0: Tensor, max_iter: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As ``solve``, from x0, calculated in double precision.

        The gap is that between the rounded x and the dual point of what it was rounded from.
        """
        if self._double is None or not self._double.is_current():
            self._double = Prepared(self.problem.double())
        p = self._double.problem
        y, lam = y.double(), lam.double()
        exact, gap, steps = self._double.solve(y, lam, tol / 2, x0.double(), max_iter)
        x = exact.float()
        limit = lam[:, None] if p.weights is None else lam[:, None] * p.weights
        lost = _objective(p, x.double(), y, limit) - _objective(p, exact, y, limit)
        return x, (gap + lost / (_sums(y.square()) / 2)).clamp_min(0).float(), steps
