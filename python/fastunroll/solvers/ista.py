"""The iterative shrinkage-thresholding algorithm (ISTA), which LISTA unrolls."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .. import _checks, functional
from ..arrays import takes_arrays
from ..operators.convert import OperatorLike
from ..operators.norm import spectral_norm
from ..prox import Proximal
from . import proximal_gradient
from .history import Callback, History, Monitor
from .lipschitz import step_of
from .problem import positive_scalar, problem, require_precision, require_values


def solve(
    A: OperatorLike,
    y: Tensor,
    lam: Tensor | float,
    step: Tensor | float | None,
    x0: Tensor | None,
    momentum: Callable[[int], Tensor] | None,
    monitor: Monitor,
    return_iterates: bool,
    restart: bool = False,
    monotone: bool = False,
    nonnegative: bool = False,
    prox: Proximal | None = None,
) -> Tensor:
    """Checks arguments and runs proximal gradient iterations: in one native call where their number is fixed."""
    return_iterates = _checks.flag("return_iterates", return_iterates)
    restart, monotone = _checks.flag("restart", restart), _checks.flag("monotone", monotone)
    p = problem(A, y, lam, x0, nonnegative=nonnegative, prox=prox)
    if monotone and not p.prior.has_value:
        raise ValueError(f"monotone compares objectives, for which {type(p.prior).__name__} must define value(x)")
    is_fixed = not (monitor.tol > 0 or monitor.is_observed or restart or monotone)
    is_one_native_call = is_fixed and p.A is not None and p.lam.dim() < 2 and p.is_lasso
    if return_iterates and not is_one_native_call:
        raise ValueError(
            "return_iterates keeps every iterate of a fixed number of iterations on one matrix with one λ: "
            "use callback to look at the others"
        )
    if not is_one_native_call:
        require_precision(p.y)
        require_values(p, step)
        rule = proximal_gradient.Rule(step_of(p, step), momentum is not None, restart, monotone)
        return proximal_gradient.run(p, rule, monitor)
    assert p.A is not None
    if step is None:  # as the networks that unroll these iterations are initialised, to the last bit
        step = 1 / spectral_norm(_checks.nonzero_matrix("A", p.A)) ** 2
    step = positive_scalar("step", step, p.y)
    y, x0 = p.restore(p.y), None if p.x0 is None else p.restore(p.x0)
    beta = None if momentum is None else momentum(monitor.iterations)
    x = functional.ista(y, p.A, x0, step, p.lam * step, beta, monitor.iterations, return_iterates, p.nonnegative)
    last = x[-1] if return_iterates else x
    monitor.divergence.warn(monitor.name, monitor.divergence.of(p, last.reshape(p.batch, p.A.shape[1])))
    return x


@takes_arrays("y")
def ista(
    A: OperatorLike,
    y: Tensor,
    lam: Tensor | float,
    *,
    iterations: int = 100,
    step: Tensor | float | None = None,
    x0: Tensor | None = None,
    return_iterates: bool = False,
    tol: float = 0.0,
    nonnegative: bool = False,
    prox: Proximal | None = None,
    callback: Callback | None = None,
    progress: bool = False,
    history: History | None = None,
) -> Tensor:
    """Iterations of ISTA on min ½‖A x − y‖² + λ‖x‖₁, for all samples in one native call.

    x⁺ = S_{λt}(x − t·Aᵀ(A x − y)); the objective decreases by each iteration, as O(1/k), if t ≤ 1/‖A‖². With
    ``nonnegative`` x⁺ = max(x − t·Aᵀ(A x − y) − λt, 0). Of an operator an iteration is one product each with A and Aᴴ.

    Args:
        A: (m, n), not zero, or a matrix for every sample (B, m, n); or any operator
            (:func:`fastunroll.operators.as_operator`) for batches (B, ...).
        y: (..., m); for an operator (B, ...), or (..., *A.shape_out) where A states the shape of one sample. An array
            of another library gives a result of its kind.
        lam: λ ≥ 0: a number, one a coordinate (n,), or one a sample (..., 1).
        iterations: how many, ≥ 1; with ``tol`` at most.
        step: t; by default 1/‖A‖², which costs an eigenvalue decomposition a call; with what follows
            ``return_iterates`` 1/L with L ≥ ‖A‖² certified, 1.2e-7 above it at most. For an operator L is ``A.norm()``²
            or else found by 40 steps of Lanczos' method, with a probability of 1 − 1e-9; it is kept for as long as
            the operator multiplies as it did, which one product each with A and Aᴴ tells at the start of a call.
        x0: where to start, (..., n); zero by default.
        return_iterates: return every iterate; not with what follows.
        tol: the relative duality gap (:func:`duality_gap`) at which a sample stops, looked at every 10 iterations; 0
            never stops. Samples that have stopped cost nothing more, but where A is an operator.
        nonnegative: require x ≥ 0. What is negative in x0 starts at zero.
        prox: of another R in the place of ‖x‖₁, from :mod:`fastunroll.prox` or your own. Where R has no duality gap,
            ``tol`` is compared with the KKT residual ‖x − prox_λ(x − Aᴴ(A x − y))‖/‖Aᴴy‖.
        callback: called every 10 iterations and at the end as ``callback(iteration, x)``; True ends the run.
        progress: show a progress bar.
        history: a :class:`History` to fill. A look at the samples costs about an iteration.

    Returns:
        (..., n), or (iterations, ..., n) with ``return_iterates``; differentiable in every argument, by unrolling.

    Raises:
        TypeError: not floating point, dtypes differ, A is neither a matrix nor an operator; complex x with
            ``nonnegative``; half precision with
            ``tol``, ``callback``, ``progress``, ``history``, an operator or one λ a sample.
        ValueError: shapes do not fit, devices differ, λ < 0, infinite or NaN, ``step`` ≤ 0, ``tol`` < 0, or
            ``iterations`` < 1, or an operator mixes samples.

    Warns:
        ConvergenceWarning: samples did not reach ``tol``, or diverged, as where ``step`` is too large.
        AdjointWarning: ``A.adjoint`` is not the adjoint of A.

    Equivalent to::

        for _ in range(iterations):
            z = x - step * (x @ A.mT - y) @ A.conj()
            x = torch.sgn(z) * torch.relu(z.abs() - lam * step)  # nonnegative: torch.relu(z - lam * step)

    Reference: Daubechies, Defrise and De Mol 2004.
    """
    monitor = Monitor("ista", proximal_gradient.DIVERGENCE, iterations, tol, callback, progress, history)
    return solve(A, y, lam, step, x0, None, monitor, return_iterates, nonnegative=nonnegative, prox=prox)
