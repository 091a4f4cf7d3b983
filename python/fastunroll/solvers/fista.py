"""The fast iterative shrinkage-thresholding algorithm (FISTA), which is ISTA with Nesterov's momentum."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..arrays import takes_arrays
from ..operators.convert import OperatorLike
from ..prox import Proximal
from ..schemes import momenta
from .history import Callback, History, Monitor
from .ista import solve
from .proximal_gradient import DIVERGENCE


def _momenta(iterations: int) -> Tensor:
    """The momenta of Beck and Teboulle, (iterations,), in double precision."""
    return torch.from_numpy(np.fromiter(momenta(), np.float64, iterations))


@takes_arrays("y")
def fista(
    A: OperatorLike,
    y: Tensor,
    lam: Tensor | float,
    *,
    iterations: int = 100,
    step: Tensor | float | None = None,
    x0: Tensor | None = None,
    return_iterates: bool = False,
    tol: float = 0.0,
    restart: bool = False,
    monotone: bool = False,
    nonnegative: bool = False,
    prox: Proximal | None = None,
    callback: Callback | None = None,
    progress: bool = False,
    history: History | None = None,
) -> Tensor:
    """Iterations of FISTA on min ½‖A x − y‖² + λ‖x‖₁, for all samples in one native call.

    x⁺ = S_{λt}(v − t·Aᵀ(A v − y)) at v = x + β_k (x − x_before); the objective converges as O(1/k²) if t ≤ 1/‖A‖².
    With ``nonnegative`` x⁺ = max(v − t·Aᵀ(A v − y) − λt, 0). Of an operator an iteration is one product each with A and
    Aᴴ. x is what is sparse: of a photograph its wavelet coefficients, with A(x) = blur(synthesis(x)), not its pixels
    with A the blur, where λ takes light from all of them and noise is amplified (docs/iterations.md has an example).

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
        restart: each sample starts its momentum anew where an iteration went uphill, ⟨v − x⁺, x⁺ − x⟩ > 0: often half
            the iterations.
        monotone: each sample keeps its iterate where the objective would rise by more than rounding, and goes on from
            between it and the new one (MFISTA).
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
            ``tol``, ``restart``, ``monotone``, ``callback``, ``progress``, ``history``, an operator or one λ a sample.
        ValueError: shapes do not fit, devices differ, λ < 0, infinite or NaN, ``step`` ≤ 0, ``tol`` < 0, or
            ``iterations`` < 1, or an operator mixes samples.

    Warns:
        ConvergenceWarning: samples did not reach ``tol``, or diverged, as where ``step`` is too large.
        AdjointWarning: ``A.adjoint`` is not the adjoint of A.

    Equivalent to::

        for beta in momentum:
            v = x + beta * (x - before)
            z = v - step * (v @ A.mT - y) @ A.conj()
            x, before = torch.sgn(z) * torch.relu(z.abs() - lam * step), x  # nonnegative: torch.relu(z - lam * step)

    References: Beck and Teboulle, *A fast iterative shrinkage-thresholding algorithm for linear inverse problems*, 2009
    (``monotone``: *Fast gradient-based algorithms for constrained total variation image denoising and deblurring
    problems*, 2009); O'Donoghue and Candès, *Adaptive restart for accelerated gradient schemes*, 2015.
    """
    monitor = Monitor("fista", DIVERGENCE, iterations, tol, callback, progress, history)
    return solve(A, y, lam, step, x0, _momenta, monitor, return_iterates, restart, monotone, nonnegative, prox)
