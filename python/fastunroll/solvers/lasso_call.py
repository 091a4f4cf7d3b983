"""The Lasso as one function call, for one matrix or for a matrix for every sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _checks
from ..arrays import answer, from_array, is_array
from ..operators.convert import OperatorLike
from ..warn import no_convergence_warnings, warn_unless_converged
from .lasso import Array, Lasso, LassoResult, entries
from .lasso_path import progression


class LassoOfMatrices:
    """A :class:`Lasso` for each sample of a batch, whose matrices are A (B, m, n)."""

    def __init__(self, A: Tensor, **options: Any) -> None:
        self.shape = A.shape
        self.solvers = [Lasso(matrix, **options) for matrix in _checks.matrices("A", A).flatten(0, -3)]

    def _samples(self, Y: Any) -> Tensor:
        y = from_array(Y, "Y") if is_array(Y) else _checks.tensor("Y", Y)
        _checks.columns("Y", y, self.shape[-2], self.shape)
        _checks.matrices_fit(self.shape, "Y", y)
        return y

    def _each(self, value: Any, name: str, y: Tensor, columns: int | None = None) -> list[Any]:
        """The value of each solver, from one value for all samples or one for each."""
        value = from_array(value, name) if is_array(value) else value
        if not isinstance(value, Tensor) or value.dim() == 0:
            return [value] * len(self.solvers)
        batch = y.shape[:-1]
        value = value[..., 0] if columns is None and value.shape == (*batch, 1) else value
        wanted = batch if columns is None else (*batch, columns)
        if value.numel() == 1:
            return [value.reshape(())] * len(self.solvers)
        if value.shape != wanted:
            raise ValueError(
                f"{name} must be one a sample, shape {_checks.shape_text(wanted)}, got "
                f"{_checks.shape_text(value.shape)}"
            )
        return list(self._apart(value, y).unbind(1))

    def _apart(self, value: Tensor, y: Tensor) -> Tensor:
        """Reshapes (..., *batch of A, more) to (rest, matrices, more)."""
        lead = len(self.shape) - 2
        rest = y.shape[: y.dim() - 1 - lead]
        more = value.shape[y.dim() - 1 :]
        return value.reshape(rest.numel(), len(self.solvers), *more)

    def lambda_max(self, Y: Any) -> Any:
        """The smallest λ for which x = 0 solves the problem, for each sample."""
        y = self._samples(Y)
        found = [s.lambda_max(part) for s, part in zip(self.solvers, self._apart(y, y).unbind(1), strict=True)]
        return answer(torch.stack(found, 1).reshape(y.shape[:-1]), Y)

    def solve(self, Y: Any, lam: Any, *, tol: float, x0: Any = None, max_iter: int) -> LassoResult:
        """:meth:`Lasso.solve` of each sample and its matrix."""
        y = self._samples(Y)
        starts = self._each(x0, "x0", y, self.shape[-1])
        parts = zip(self.solvers, self._apart(y, y).unbind(1), self._each(lam, "lam", y), starts, strict=True)
        with no_convergence_warnings():
            results = [
                solver.solve(part, own, tol=tol, x0=start, max_iter=max_iter) for solver, part, own, start in parts
            ]

        def joined(name: str, *more: int) -> Any:
            values = torch.stack([getattr(result, name) for result in results], 1)
            return answer(values.reshape(*y.shape[:-1], *more), Y)

        found = LassoResult(joined("x", self.shape[-1]), joined("gap"), joined("iterations"), joined("converged"))
        warn_unless_converged("lasso", torch.as_tensor(found.gap), torch.as_tensor(found.converged), tol, max_iter)
        return found

    def path(
        self, Y: Any, *, lams: Any, count: int, least: float, tol: float, max_iter: int
    ) -> tuple[Any, list[LassoResult]]:
        """:meth:`Lasso.path` of each sample. Each λ starts from the solution of the last λ."""
        if lams is None:
            lams = progression(self.lambda_max(self._samples(Y)), count, least)
            lams = answer(lams, Y)
        if not isinstance(lams, (list, tuple)) and lams.ndim == 0:
            raise TypeError(f"lams must be several λ, got {lams!r}: for one there is lasso")
        results: list[LassoResult] = []
        for lam in lams:
            results.append(self.solve(Y, lam, tol=tol, x0=results[-1].x if results else None, max_iter=max_iter))
        return lams, results


def _solver(A: OperatorLike, **options: Any) -> Lasso | LassoOfMatrices:
    A = entries(A)
    A = from_array(A, "A") if is_array(A) and A.ndim > 2 else A
    several = isinstance(A, Tensor) and A.layout == torch.strided and not A.is_nested and A.dim() > 2
    return LassoOfMatrices(A, **options) if several else Lasso(A, **options)


def lasso(
    A: OperatorLike,
    Y: Array,
    lam: Any,
    *,
    tol: float = 1e-6,
    x0: Array | None = None,
    max_iter: int = 10000,
    weights: Array | None = None,
    nonnegative: bool = False,
    ridge: float = 0.0,
) -> LassoResult:
    """min ½‖A x − y‖² + λ Σ wⱼ|xⱼ| + ½μ‖x‖² for each sample y, to a certified duality gap.

    :class:`Lasso` explains the arguments. For several calls with one A keep a :class:`Lasso`, which computes the Gram
    matrix once.

    Args:
        A: (m, n), or a matrix for every sample (B, m, n).
        Y: (..., m), or (..., B, m).
        lam: λ > 0, one number, or one for each sample (...).
        tol: the relative duality gap (P − D) / (½‖y‖²) at which a sample stops.
        x0: the start (..., n).
        max_iter: the largest number of steps for a sample.
        weights: w, (n,).
        nonnegative: require x ≥ 0.
        ridge: μ ≥ 0, of the elastic net.

    Returns:
        :class:`LassoResult` with ``x``, ``gap``, ``iterations`` and ``converged``.

    Raises:
        TypeError: an argument is no matrix, no array or tensor of floating-point numbers, or no number.
        ValueError: shapes, dtypes or devices do not fit, A is not finite, λ ≤ 0, or another number is out of range.

    Equivalent to, for one sample::

        sklearn.linear_model.Lasso(alpha=lam / m, fit_intercept=False, tol=tol).fit(A, y).coef_
    """
    solver = _solver(A, weights=weights, nonnegative=nonnegative, ridge=ridge)
    return solver.solve(Y, lam, tol=tol, x0=x0, max_iter=max_iter)


def lasso_path(
    A: OperatorLike,
    Y: Array,
    *,
    lams: Any = None,
    count: int = 20,
    least: float = 0.01,
    tol: float = 1e-6,
    max_iter: int = 10000,
    weights: Array | None = None,
    nonnegative: bool = False,
    ridge: float = 0.0,
) -> tuple[Any, list[LassoResult]]:
    """Solutions of the Lasso for a falling sequence of λ: as one batch, or each from the one before.

    Args:
        A: (m, n), or a matrix for every sample (B, m, n).
        Y: (..., m), or (..., B, m).
        lams: (k,) or (k, ...), falling; by default ``count`` values in geometric progression from λ_max of each sample
            to ``least`` times that.
        count: how many, ≥ 1.
        least: the last λ over λ_max, between 0 and 1.
        tol: as in :func:`lasso`.
        max_iter: as in :func:`lasso`, for each λ.
        weights: w, (n,).
        nonnegative: require x ≥ 0.
        ridge: μ ≥ 0, of the elastic net.

    Returns:
        The λ, as they were given or (k, ...), and a list of k :class:`LassoResult`.

    Raises:
        TypeError: an argument is no matrix, no array or tensor of floating-point numbers, or ``lams`` is one number.
        ValueError: shapes, dtypes or devices do not fit, A is not finite, λ ≤ 0, or another number is out of range.

    Equivalent to, for one sample::

        sklearn.linear_model.lasso_path(A, y, alphas=lams / m, tol=tol)[1]
    """
    solver = _solver(A, weights=weights, nonnegative=nonnegative, ridge=ridge)
    return solver.path(Y, lams=lams, count=count, least=least, tol=tol, max_iter=max_iter)
