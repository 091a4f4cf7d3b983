"""The Lasso of one matrix in native code or plain PyTorch, with a cache of the matrices that are computed from it."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import ops
from .._precision import own_precision
from ..products import product
from .lasso_batched import Batched, Problem

# One sample from columns takes about as long as this many bytes of each row of the Gram matrix of all columns. Measured
# from 64×256 to 500×5000.
SHARE = 680
FEW_COLUMNS = 2048  # the Gram matrix of so few columns fits into any memory
LARGEST_GRAM = 1 << 30  # bytes; beyond, no Gram matrix of all columns is made


def is_supported(A: Tensor) -> bool:
    """Whether native code solves problems of this matrix."""
    return ops.is_supported_on_cpu(A) and A.shape.numel() > 0 and A.shape[1] < 1 << 31


def pays(A: Tensor, samples: int) -> bool:
    """Whether this number of samples costs less with the Gram matrix of all columns than one by one."""
    n, size = A.shape[1], A.element_size()
    return A.layout == torch.strided and n**2 * size <= LARGEST_GRAM and samples * SHARE >= n * size


def most_columns(m: int, n: int) -> int:
    """Returns the most columns that a working set may have, of a matrix (m, n).

    s columns take 128 s² bytes, since their Gram matrix is kept and copied and has a factor, each with room to grow.
    The columns themselves take 24 m s bytes. Both together take at most half of the memory that is available.
    """
    available = ops.available_memory() if n > FEW_COLUMNS else None
    if available is None:
        return n
    half, square, linear = available / 2, 128, 24 * m
    return max(FEW_COLUMNS, int(((linear**2 + 4 * square * half) ** 0.5 - linear) / (2 * square)))


def _versions(problem: Problem) -> list[int]:
    """The version counter of each array, and −1 for inference tensors, which have none."""
    arrays = (problem.A, problem.weights)
    return [-1 if array is None or array.is_inference() else array._version for array in arrays]


def _sums(values: Tensor) -> Tensor:
    """The sum of each row, in an order that depends on nothing else."""
    return product(values, values.new_ones(1, values.shape[1]))[:, 0]


def _objective(p: Problem, x: Tensor, y: Tensor, limit: Tensor) -> Tensor:
    """½‖A x − y‖² + Σ λwⱼ|xⱼ| + ½μ‖x‖², (B,)."""
    return _sums(product(x, p.A, start=-y).square()) / 2 + _sums(limit * x.abs() + p.ridge / 2 * x.square())


class CachedLasso:
    """A Lasso problem, with the Gram matrices that its solutions share.

    gram: whether to use the Gram matrix of all columns. None uses it as soon as there are enough samples.
    """

    def __init__(self, problem: Problem, gram: bool | None = None) -> None:
        self.problem, self._gram = problem, gram
        self._samples = 0  # so far
        self._columns: ops.Columns | None = None
        self._versions = _versions(problem)
        self._dictionary: ops.Dictionary | None = None
        self._batched: Batched | None = None
        self._double: CachedLasso | None = None

    def is_current(self) -> bool:
        """Whether the cache is for the present instruction set, and the matrix has not changed in place."""
        current = self._dictionary is None or self._dictionary.is_current()
        return current and _versions(self.problem) == self._versions

    def solve(
        self, y: Tensor, lam: Tensor, tol: float, x0: Tensor | None, max_iter: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, n), relative gaps (B,) and steps (B,) for y (B, m) and λ (B,).

        If single precision does not reach ``tol``, double precision continues with half of the steps. A sample that
        does not converge gets the x of the smallest gap, whose objective is at most that of zero.

        Raises:
            MemoryError: the Gram matrix of a solution's nonzeros does not fit into memory.
        """
        self._samples += len(y)
        p = self.problem
        few = is_supported(p.A) and not (pays(p.A, self._samples) if self._gram is None else self._gram)
        if few:
            return self._from_columns(ops.Samples(y, lam, p.weights, x0, p.nonnegative, tol, max_iter))
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

    def _from_columns(self, samples: ops.Samples) -> tuple[Tensor, Tensor, Tensor]:
        """Solves from a working set of columns."""
        columns = self._columns  # another thread may drop it
        if columns is None:
            columns = self._columns = ops.Columns(self.problem.A, self.problem.ridge)
        most = most_columns(*self.problem.A.shape)
        x, gap, steps, left = columns.solve(samples, most)
        if left < 0:
            raise MemoryError(
                f"a solution has more than about {most} nonzeros, and there is no memory for the Gram matrix of so "
                "many columns: use a larger lam"
            )
        return x, gap, steps

    def _solve(
        self, y: Tensor, lam: Tensor, tol: float, x0: Tensor | None, max_iter: int
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Solves in the precision of y. The last result is the number of gaps above ``tol``."""
        p = self.problem
        if is_supported(p.A):
            if self._dictionary is None:
                self._dictionary = ops.Dictionary(p.A, p.ridge)
                self._columns = None
            return self._dictionary.solve(ops.Samples(y, lam, p.weights, x0, p.nonnegative, tol, max_iter))
        with own_precision(y):
            if self._batched is None:
                self._batched = Batched(p)
            x, gap, steps = self._batched.solve(y, lam, tol, x0, max_iter)
        return x, gap, steps, int((~(gap <= tol)).sum())

    def _in_double(
        self, y: Tensor, lam: Tensor, tol: float, x0: Tensor, max_iter: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Solves from x0 in double precision.

        The gap is the one between the rounded x and the dual point of x before rounding.
        """
        if self._double is None or not self._double.is_current():
            self._double = CachedLasso(self.problem.double(), gram=True)
        p = self._double.problem
        y, lam = y.double(), lam.double()
        exact, gap, steps = self._double.solve(y, lam, tol / 2, x0.double(), max_iter)
        x = exact.float()
        limit = lam[:, None] if p.weights is None else lam[:, None] * p.weights
        lost = _objective(p, x.double(), y, limit) - _objective(p, exact, y, limit)
        return x, (gap + lost / (_sums(y.square()) / 2)).clamp_min(0).float(), steps
