"""Approximate message passing (AMP), a thresholding algorithm with a correction of the residual."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import _checks, ops
from ..arrays import takes_arrays
from ..engine.run import run_compiled
from ..operators.convert import OperatorLike
from ..prox import soft_threshold
from ..samples import column, norm, safe_divisor
from .batch import Batch, run_monitored
from .divergence import Divergence
from .history import Callback, History, Monitor
from .problem import Problem, positive_scalar, problem, require_precision, require_values

# The residual of a run that converges may grow for a while: its square was seen to by a factor of 2.8.
DIVERGENCE = Divergence(
    100.0, "AMP is for large A with independent entries and sparse x: damp it with damping < 1, or use fista"
)


class Iterations(Batch):
    """The iterations of AMP, with x and the corrected residual v of each sample."""

    state = ("v", "before")

    def __init__(self, p: Problem, monitor: Monitor, alpha: Tensor, damping: float) -> None:
        super().__init__(p, monitor)
        self.alpha, self.damping = alpha, damping
        self.v, self.before = -p.start_residual, self.iterate
        self.sizes = norm(self.v).detach()  # of all samples

    def theta(self, size: Tensor) -> Tensor:
        return self.alpha * size / self.p.measurements**0.5

    def move(self) -> None:
        x, v, beta = self.iterate, self.v, self.damping
        z = x + self.active.adjoint(v)
        following = soft_threshold(z, column(self.theta(norm(v)), z))
        count = (following != 0).flatten(1).sum(1).to(v.dtype)
        self.iterate, self.before = following if beta == 1 else x + beta * (following - x), x
        corrected = column(count / self.p.measurements, v) * v - self.active.residual(self.iterate)
        self.v = corrected if beta == 1 else v + beta * (corrected - v)

    def measured_gap(self) -> Tensor:
        sizes = norm(self.v)
        if self.p.A is None:
            self.sizes = torch.where(self.converged(), self.sizes, sizes)
        else:
            self.sizes = self.sizes.index_copy(0, self.rows, sizes)
        return norm(self.iterate - self.before) / safe_divisor(norm(self.iterate))

    def measures(self) -> dict[str, Tensor]:
        """Returns the numbers that a history stores."""
        sizes = self.p.in_users_units(self.sizes)
        return {"residual": sizes, "threshold": self.theta(sizes)}


@takes_arrays("y")
def amp(
    A: OperatorLike,
    y: Tensor,
    *,
    alpha: Tensor | float = 1.5,
    damping: float = 1.0,
    iterations: int = 30,
    tol: float = 0.0,
    x0: Tensor | None = None,
    callback: Callback | None = None,
    progress: bool = False,
    history: History | None = None,
) -> Tensor:
    """Approximate message passing recovers a sparse x from y = A x + noise in few iterations, for random matrices A.

    θ = α‖v‖₂/√m, x⁺ = S_θ(x + Aᵀv), v⁺ = y − A x⁺ + (‖x⁺‖₀/m) v, from v = y − A x₀. The last term is Onsager's
    correction; because of it x + Aᵀv is the truth plus white Gaussian noise of deviation ‖v‖₂/√m, and θ is α times
    that. This holds for large A with independent entries of mean 0 and variance 1/m (columns of norm about 1). With
    others AMP can diverge: damp it, or use :func:`fista`.

    Args:
        A: (m, n), real, or a matrix for every sample (B, m, n); or any operator
            (:func:`fastunroll.operators.as_operator`) for batches (B, ...).
        y: (..., m); for an operator (B, ...), or (..., *A.shape_out) where A states the shape of one sample. An array
            of another library gives a result of its kind.
        alpha: α > 0, one number. Larger is for sparser truths: between 1 and 2 as a rule.
        damping: β in (0, 1] of Rangan et al.: how much of each update of x and v is made; 1 is AMP undamped.
        iterations: how many, ≥ 1; with ``tol`` at most.
        tol: the relative change ‖x⁺ − x‖/‖x⁺‖ at which a sample stops, looked at every 10 iterations; 0 never stops.
            (AMP solves no problem with a λ given beforehand: there is no duality gap.)
        x0: where to start, (..., n); zero by default.
        callback: called every 10 iterations and at the end as ``callback(iteration, x)``; True ends the run.
        progress: show a progress bar.
        history: a :class:`History` to fill, with residual ‖v‖ and threshold θ.

    Returns:
        (..., n); differentiable in every argument, by unrolling (the count ‖x⁺‖₀ is taken as constant). One native call
        for a matrix without damping, ``tol``, ``callback``, ``progress`` and ``history``.

    Raises:
        TypeError: not floating point, complex, half precision, dtypes differ, or A is neither a matrix nor an operator.
        ValueError: shapes do not fit, devices differ, α ≤ 0, ``damping`` not in (0, 1], ``tol`` < 0, or
            ``iterations`` < 1, or an operator mixes samples.

    Warns:
        ConvergenceWarning: samples did not reach ``tol``, or diverged.
        AdjointWarning: ``A.adjoint`` is not the adjoint of A.

    Equivalent to::

        for _ in range(iterations):
            z = x + v @ A
            theta = alpha * v.norm(dim=-1, keepdim=True) / m**0.5
            new = torch.sign(z) * torch.relu(z.abs() - theta)
            x = x + damping * (new - x)
            v = v + damping * (y - x @ A.mT + (new != 0).to(v).sum(-1, keepdim=True) / m * v - v)

    References: Donoho, Maleki and Montanari, *Message-passing algorithms for compressed sensing*, 2009; Rangan,
    Schniter and Fletcher, *On the convergence of approximate message passing with arbitrary matrices*, 2014 (damping).
    """
    monitor = Monitor("amp", DIVERGENCE, iterations, tol, callback, progress, history)
    p = problem(A, y, 0.0, x0)
    require_precision(p.y)
    _checks.real("y", p.y)
    factor = positive_scalar("alpha", alpha, p.y)
    if not 0 < _checks.positive("damping", damping) <= 1:
        raise ValueError(f"damping must be a number in (0, 1], where 1 is no damping, got {damping!r}")
    p = p.in_units()
    if p.A is not None and damping == 1 and monitor.tol == 0 and not monitor.is_observed:
        form = ops.NetworkSpec(monitor.iterations, linear="gradient", scheme="amp")
        x = run_compiled(form, ops.Parameters([p.A], [], [], [factor]), p.y, p.x0)[0]
        monitor.divergence.warn(monitor.name, monitor.divergence.of(p, x))
        return p.restore(x)
    require_values(p, alpha)
    return run_monitored(p, monitor, lambda: Iterations(p, monitor, factor, float(damping)))
