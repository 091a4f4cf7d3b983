"""The Lasso for many samples of one matrix, solved to a certified duality gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import _checks
from ..arrays import from_array, is_array, like_array
from ..operators.convert import OperatorLike, as_operator
from ..operators.foreign import SparseMatrix
from ..products import product
from ..warn import warn_unless_converged
from .implicit import attach
from .lasso_batched import Problem
from .lasso_cached import CachedLasso, pays
from .lasso_path import WARM, progression
from .problem import require_seen
from .sparse import adjoint_product, is_sparse, refuse_gradients, sparse_matrix

Array = TypeVar("Array", Tensor, NDArray[np.floating[Any]])


@dataclass(frozen=True)
class LassoResult:
    """The result of :func:`lasso`, with tensors, or with arrays if it was given arrays.

    Attributes:
        x: (..., n), the solutions.
        gap: (...), relative duality gaps (P − D) / (½‖y‖²): how far the objective P of x can be from the optimum. In
            float32 P is that of the rounded x, and D uses the dual point of x before rounding: a gap that is computed
            from the rounded x alone is larger. At most 1, which is the gap of x = 0 and the dual point 0. NaN for a
            sample that holds NaN or infinity, 0 for y = 0.
        iterations: (...), steps taken.
        converged: (...), whether the gap is at most the tolerance.
    """

    x: Any
    gap: Any
    iterations: Any
    converged: Any

    def __repr__(self) -> str:
        count, done = int(np.prod(self.converged.shape)), int(self.converged.sum())
        finite = [gap for gap in self.gap.reshape(-1).tolist() if gap == gap]
        worst = f", largest gap {max(finite):.2g}" if finite else ""
        unknown = f", {count - len(finite)} of them NaN" if len(finite) < count else ""
        return f"LassoResult(x={tuple(self.x.shape)}, {done} of {count} converged{worst}{unknown})"


def _tensor(name: str, value: object) -> Tensor:
    """A tensor or an array as a tensor, without a copy."""
    if isinstance(value, np.ndarray) and value.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise TypeError(f"{name} must be float32 or float64, got {value.dtype}: convert it with .astype()")
    if is_array(value):
        value = from_array(value, name)
    tensor = _checks.tensor(name, value)
    _checks.real(name, tensor)
    if tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} must be float32 or float64, got {tensor.dtype}: convert it with .to()")
    return tensor


def entries(A: OperatorLike) -> Any:
    """The matrix, tensor, array or sparse, of what is a matrix or an operator that has one."""
    if is_sparse(A) or isinstance(A, (Tensor, np.ndarray)):
        return A
    if is_array(A):
        return from_array(A, "A")
    op = as_operator(A)
    matrix = op.A if isinstance(op, SparseMatrix) else op.matrix
    if matrix is None:
        raise TypeError(
            f"the Lasso solver needs the entries of A, a matrix, got an operator {type(op.source).__name__}: use "
            "fu.solvers.fista(A, Y, lam, tol=tol, restart=True)"
        )
    return matrix


class Lasso:
    """min ½‖A x − y‖² + λ Σ wⱼ|xⱼ| + ½μ‖x‖² for one A and many y, to a certified duality gap.

    Greedy coordinate descent finds the support roughly, Newton's method with an updated Cholesky factor solves on it
    exactly, and the duality gap is computed from A. Two ways lead there, and agree to ``tol``:

    - *From all columns*: the Gram matrix of A is computed once and kept. A small problem then takes microseconds.
    - *From a working set*: the problem is solved for a few columns of A, in double precision, and columns that violate
      their constraint join them until none does. The Gram matrix of these columns is kept too. The first samples are
      solved in this way, as long as they cost less than the Gram matrix of all columns.

    Samples are independent. In native code the batch of a sample, the number of threads and the instruction set change
    no bit of its result.

    Args:
        A: (m, n), float32 or float64, finite; a tensor or a NumPy array, its rows or its columns side by side, or a
            sparse matrix of SciPy or PyTorch, or an operator that has a matrix. A matrix whose rows or columns are
            contiguous is not copied. Zero and duplicate columns are allowed. Do not change it while the object is used.
        weights: w, (n,), positive and finite; ones by default.
        nonnegative: require x ≥ 0.
        ridge: μ ≥ 0; positive, the problem is the elastic net and its solution unique.
        gram: whether to use the Gram matrix of all columns. None decides by the number of samples, and never computes
            a Gram matrix of more than 1 GiB. A sparse A has no Gram matrix.

    Raises:
        TypeError: not real floating point of single or double precision.
        ValueError: shapes do not fit, values not finite or of the wrong sign; ``gram=True`` for a sparse matrix.

    Example::

        solver = fu.solvers.Lasso(A)
        lam = 0.1 * solver.lambda_max(Y)  # one a sample
        result = solver.solve(Y, lam)
        assert result.converged.all()

    Reference: Tibshirani 1996; Friedman, Hastie and Tibshirani 2010 (coordinate descent); Lee et al. 2007 (feature
    signs); Bonnefoy et al. 2015, Ndiaye et al. 2017 (duality gaps); Johnson and Guestrin 2015, Massias, Gramfort and
    Salmon 2018 (working sets).
    """

    def __init__(
        self,
        A: Array,
        *,
        weights: Array | None = None,
        nonnegative: bool = False,
        ridge: float = 0.0,
        gram: bool | None = None,
    ) -> None:
        A = entries(A)
        if not is_sparse(A) and A.ndim > 2:
            raise ValueError(
                "Lasso keeps what it knows of one matrix, but A is a matrix for every sample: use "
                "fu.solvers.lasso(A, Y, lam)"
            )
        matrix = sparse_matrix("A", A) if is_sparse(A) else _checks.finite_matrix("A", _tensor("A", A))
        self._gram = None if gram is None else _checks.flag("gram", gram)
        if gram and is_sparse(A):
            raise ValueError("a sparse A has no Gram matrix of all columns here: leave out gram=True, or use a dense A")
        w: Tensor | None = None
        if weights is not None:
            w = _checks.require_same_dtype_and_device(A=matrix, weights=_tensor("weights", weights))[1]
            if w.shape != matrix.shape[1:]:
                raise ValueError(
                    f"weights must be one a column of A, shape {_checks.shape_text(matrix.shape[1:])}, got "
                    f"{_checks.shape_text(w.shape)}"
                )
            if not bool((torch.isfinite(w) & (w > 0)).all()):
                raise ValueError("weights must be finite and > 0: leave out columns of A that must not be used")
        nonnegative, ridge = _checks.flag("nonnegative", nonnegative), _checks.not_negative("ridge", ridge)
        self._problem = Problem(matrix, w, nonnegative, ridge)
        self._cached: CachedLasso | None = None

    @property
    def A(self) -> Tensor:
        return self._problem.A

    @property
    def weights(self) -> Tensor | None:
        return self._problem.weights

    @property
    def nonnegative(self) -> bool:
        return self._problem.nonnegative

    @property
    def ridge(self) -> float:
        return self._problem.ridge

    def __repr__(self) -> str:
        parts = (
            f"A={'sparse ' if is_sparse(self.A) else ''}{_checks.shape_text(self.A.shape)}",
            "weights=..." if self.weights is not None else "",
            "nonnegative=True" if self.nonnegative else "",
            f"ridge={self.ridge:g}" if self.ridge else "",
        )
        return f"Lasso({', '.join(filter(None, parts))})"

    def __getstate__(self) -> dict[str, Any]:
        """A copy does not have the cached Gram matrix."""
        return {**self.__dict__, "_cached": None}

    def _samples(self, Y: Array) -> Tensor:
        y = _tensor("Y", Y)
        _checks.columns("Y", y, self.A.shape[0], self.A.shape)
        converted: Tensor = _checks.require_same_dtype_and_device(A=self.A, Y=y)[1]
        return converted

    def _lam(self, lam: object, y: Tensor) -> Tensor:
        """λ of each sample, (samples,)."""
        if isinstance(lam, (int, float)):
            range_ = torch.finfo(y.dtype)
            if not range_.tiny <= lam <= range_.max:
                raise ValueError(_refuse_lam(lam))
            return torch.full((y.shape[:-1].numel(),), lam, dtype=y.dtype, device=y.device)
        if isinstance(lam, np.ndarray):
            if lam.dtype.kind not in "fiu":
                raise TypeError(f"lam must be real numbers, got {lam.dtype}: convert it with .astype()")
            lam = torch.from_numpy(np.asarray(lam, dtype=np.float64))
        elif is_array(lam):
            lam = from_array(lam, "lam")
        value = _checks.threshold("lam", lam, self.A)  # type: ignore[arg-type]
        if value.shape == (*y.shape[:-1], 1):
            value = value[..., 0]
        if value.numel() != 1 and value.shape != y.shape[:-1]:
            raise ValueError(
                f"lam must be one number or one a sample, shape {_checks.shape_text(y.shape[:-1])}, got "
                f"{_checks.shape_text(value.shape)}: weights for each coordinate are Lasso(A, weights=...)"
            )
        if value.numel():
            low, high = (value, value) if value.numel() == 1 else value.detach().aminmax()
            if not low.item() >= torch.finfo(value.dtype).tiny or not high.item() < float("inf"):  # NaN is neither
                value = self._usable(value, y)
        samples = y.shape[:-1].numel()
        return value.reshape(-1) if value.numel() == samples else value.reshape(()).expand(samples)

    def _usable(self, lam: Tensor, y: Tensor) -> Tensor:
        """λ of each sample. An unusable λ is refused, unless x of its sample is 0 or NaN for every λ."""
        range_ = torch.finfo(lam.dtype)
        usable = (lam >= range_.tiny) & (lam <= range_.max)
        sound = torch.isfinite(y).all(-1) & y.any(-1)
        wrong = (~usable & (sound if lam.numel() > 1 or sound.numel() == 1 else sound.any())).reshape(-1)
        if bool(wrong.any()):
            first = int(wrong.nonzero()[0])
            raise ValueError(_refuse_lam(float(lam.reshape(-1)[first]), first if len(wrong) > 1 else None))
        return torch.where(usable, lam, 1.0)

    def lambda_max(self, Y: Array) -> Any:
        """The smallest λ for which x = 0 solves the problem, for each sample: maxⱼ |aⱼᵀy| / wⱼ.

        Args:
            Y: (..., m).

        Returns:
            (...).
        """
        y = self._samples(Y)
        correlation = adjoint_product(y, self.A) if is_sparse(self.A) else product(y, self.A, adjoint=True)
        size = correlation if self.nonnegative else correlation.abs()
        if self.weights is not None:
            size = size / self.weights
        return _like(Y, size.amax(-1).clamp_min(0))

    def solve(
        self,
        Y: Array,
        lam: Any,
        *,
        tol: float = 1e-6,
        x0: Array | None = None,
        max_iter: int = 10000,
    ) -> LassoResult:
        """Solves the problem for each sample until its relative duality gap is at most ``tol``.

        Differentiable once in Y, λ, A and weights, by the equations of the optimum, where its support does not change.
        A derivative is as exact as ``tol`` lets x be.

        Args:
            Y: (..., m), a tensor or array of A's dtype. If a sample holds NaN or infinity, its x is NaN and its
                ``converged`` is False.
            lam: λ > 0, one number, or one for each sample, (...) or (..., 1). It may be 0 or NaN for samples that are
                zero or hold NaN, as :meth:`lambda_max` is.
            tol: the relative duality gap, (P − D)/(½‖y‖²). If float32 does not reach it, double precision does.
            x0: (..., n), where to start, such as the output of a network; zero by default.
            max_iter: the largest number of steps for a sample.

        Returns:
            :class:`LassoResult`, with arrays of Y's kind.

        Raises:
            TypeError: not floating point, or dtypes differ.
            ValueError: shapes do not fit, devices differ, λ ≤ 0, or a number out of range.

        Warns:
            ConvergenceWarning: samples did not reach ``tol``, or hold NaN or infinity.
        """
        y = self._samples(Y)
        lams = self._lam(lam, y)
        tol, max_iter = _checks.positive("tol", tol), _checks.count("max_iter", max_iter)
        start = None
        if x0 is not None:
            start = _tensor("x0", x0)
            _checks.columns("x0", start, self.A.shape[1], self.A.shape)
            _checks.same_batch("x0", start, "Y", y)
            start = _checks.require_same_dtype_and_device(A=self.A, x0=start)[1].detach().reshape(-1, self.A.shape[1])
        if is_sparse(self.A):
            refuse_gradients(y, lams, self.weights)
        flat = y.reshape(-1, self.A.shape[0])
        require_seen(flat, lams, start)
        cached = self._cached  # another thread may replace it
        if cached is None or not cached.is_current():
            cached = self._cached = CachedLasso(self._problem.detach(), self._gram)
        with torch.no_grad():
            x, gap, iterations = cached.solve(flat.detach(), lams.detach(), tol, start, max_iter)
        if not is_sparse(self.A):
            x = attach(x, self.A, flat, lams, self.weights, self.ridge)
        converged = gap <= tol
        warn_unless_converged("lasso", gap, converged, tol, max_iter)
        if y.dim() != 2:
            lead = y.shape[:-1]
            x, gap = x.reshape(*lead, x.shape[1]), gap.reshape(lead)
            iterations, converged = iterations.reshape(lead), converged.reshape(lead)
        return LassoResult(*(_like(Y, value) for value in (x, gap, iterations, converged)))

    def path(
        self,
        Y: Array,
        *,
        lams: Any = None,
        count: int = 20,
        least: float = 0.01,
        tol: float = 1e-6,
        max_iter: int = 10000,
    ) -> tuple[Any, list[LassoResult]]:
        """Solutions for a falling sequence of λ: as one batch, or each from the one before where that is faster.

        Args:
            Y: (..., m).
            lams: (k,) or (k, ...), falling; by default ``count`` values in geometric progression from λ_max of each
                sample to ``least`` times that. Where λ_max is 0 or NaN so is x, for any λ, and 1 stands for λ_max.
            count: how many, ≥ 1.
            least: the last λ over λ_max, between 0 and 1.
            tol: as in :meth:`solve`.
            max_iter: as in :meth:`solve`, for each λ.

        Returns:
            The λ, as they were given or (k, ...), and the k results.

        Raises:
            TypeError: ``lams`` is a single number; and as :meth:`solve` does.
            ValueError: ``count`` or ``least`` is out of range; and as :meth:`solve` does.
        """
        if lams is None:
            lams = _like(Y, progression(torch.as_tensor(self.lambda_max(Y)), count, least))
        if not isinstance(lams, (list, tuple)) and np.ndim(lams) == 0:
            raise TypeError(f"lams must be several λ, got {lams!r}: for one there is solve")
        y = self._samples(Y)
        pays_together = pays(self.A, len(lams) * y.shape[:-1].numel() // WARM) if self._gram is None else self._gram
        if len(lams) and pays_together:
            every = torch.stack([self._lam(lam, y).reshape(y.shape[:-1]) for lam in lams])
            found = self.solve(y.expand(len(lams), *y.shape), every, tol=tol, max_iter=max_iter)
            values = found.x, found.gap, found.iterations, found.converged
            return lams, [LassoResult(*(_like(Y, value[i, ...]) for value in values)) for i in range(len(lams))]
        results: list[LassoResult] = []
        for lam in lams:
            results.append(self.solve(Y, lam, tol=tol, x0=results[-1].x if results else None, max_iter=max_iter))
        return lams, results


def _refuse_lam(lam: float, sample: int | None = None) -> str:
    if lam == 0:
        reason = "with lam = 0 this is least squares, which torch.linalg.lstsq solves"
    else:
        reason = "it is below the normal numbers of its dtype" if 0 < lam < 1 else "check its sign and size"
    return f"lam must be finite and > 0, got {lam!r}{'' if sample is None else f' for sample {sample}'}: {reason}"


def _like(given: object, value: Tensor) -> Any:
    return like_array(value, given) if is_array(given) else value
