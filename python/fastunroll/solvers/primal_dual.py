"""The primal-dual method of Chambolle and Pock, which needs products with A and Aᴴ alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _checks, ops
from ..arrays import takes_arrays
from ..engine.layers import Layers
from ..operators.convert import OperatorLike
from ..prox import Proximal
from ..schemes import PrimalDual
from ..steps import GradientStep
from .batch import Batch, run_monitored
from .divergence import Divergence
from .duality import distance, measures
from .history import Callback, History, Monitor
from .lipschitz import rounded_down, squared_norm, step_of
from .picture_layers import are_compiled, arguments, layers
from .problem import Problem, positive_scalar, problem, require_precision, require_values

# The objective of x rises for a while where τ/σ is far from good: seen to 1.1 times that of where it started.
DIVERGENCE = Divergence(
    10.0, "give tau and sigma with tau·sigma·‖A‖² ≤ 1, and check that A.adjoint is the adjoint of A"
)


@dataclass(frozen=True)
class Rule:
    """The numbers of all iterations."""

    tau: Tensor
    sigma: Tensor
    omega: float


class Plain(Batch):
    """The iterations in PyTorch. Each begins by the dual step at a = x + ω(x − x_before), of which the first is at x0.

    So the last iteration computes no u that nobody reads.
    """

    state: tuple[str, ...] = ("u", "before")

    def __init__(self, p: Problem, rule: Rule, monitor: Monitor) -> None:
        super().__init__(p, monitor)
        self.rule, self.last = rule, monitor.iterations
        self.before: Tensor | None = None  # the iterate before this one
        self.u: Tensor | None = None
        self.begin()
        self.drop_converged()

    def begin(self) -> None:
        """Computes the first u."""
        sigma = self.rule.sigma
        self.u = sigma / (1 + sigma) * self.start_residual()

    def start_residual(self) -> Tensor:
        """A x − y at the start."""
        return self.p.start_residual

    def residual(self, x: Tensor) -> Tensor:
        """A x − y."""
        return self.active.residual(x)

    def slope(self, u: Tensor) -> Tensor:
        """Aᴴu."""
        return self.active.adjoint(u)

    def move(self) -> None:
        x, rule = self.iterate, self.rule
        assert self.u is not None
        if self.before is not None:
            ahead = x + rule.omega * (x - self.before)
            self.u = (self.u + rule.sigma * self.residual(ahead)) / (1 + rule.sigma)
        self.before = x
        self.iterate = self.next_proximal_step(x - rule.tau * self.slope(self.u), self.active.lam * rule.tau)

    def measured_gap(self) -> Tensor:
        active, x = self.active, self.iterate
        residual = active.residual(x)
        return distance(active, x, residual, active.adjoint(residual))

    def measures(self) -> dict[str, Tensor]:
        """Returns the numbers that a history stores."""
        return measures(self.p, self.x.detach())


class Collapsed(Plain):
    """The same for operators whose AᴴA is cheap: Aᴴu takes the place of u, and AᴴA a − Aᴴy that of A a − y."""

    def start_residual(self) -> Tensor:
        return self.p.start_slope

    def residual(self, x: Tensor) -> Tensor:
        return self.active.collapsed_gradient(x)

    def slope(self, u: Tensor) -> Tensor:
        return u


class Pictures(Collapsed):
    """The same where layers over pictures are compiled: a block of iterations is one native call for all pictures."""

    @staticmethod
    def is_supported(p: Problem, rule: Rule) -> bool:
        """Whether there is such a call for this problem: Aᴴu has no gradient, also not one of what a prior learns."""
        learns = ops.differentiable(*p.prior.parameters())
        return not learns and are_compiled(p, lambda: _layers(p, rule, 1), rule.tau, rule.sigma)

    def begin(self) -> None:
        """Computes nothing: the native call makes the first Aᴴu."""

    def moves(self, count: int) -> None:
        net = _layers(self.p, self.rule, count)
        x0 = self.p.x0 if self.u is None else self.iterate  # without one the first Aᴴu takes no product
        given = arguments(net, self.p.At_y, x0, self.u, self.proximal_steps)
        self.proximal_steps += count
        if self.proximal_steps == self.last:
            self.iterate = ops.picture_layers(given)[0]
            return
        x, self.u = ops.picture_layers_and_state(given)
        self.iterate = x[0]


def _layers(p: Problem, rule: Rule, count: int) -> Layers:
    """Iterations as layers."""
    scheme = PrimalDual([rule.sigma], [torch.full_like(rule.sigma, rule.omega)])
    return layers(p, scheme, GradientStep(p.operator, step=[rule.tau]), rule.tau, p.lam * rule.tau, count)


def _engine(p: Problem, rule: Rule) -> type[Plain]:
    if Pictures.is_supported(p, rule):
        return Pictures
    return Collapsed if p.is_collapsed else Plain


def _steps(p: Problem, tau: Tensor | float | None, sigma: Tensor | float | None) -> tuple[Tensor, Tensor]:
    """τ and σ. Where one is not given, τσ‖A‖² ≤ 1; where neither is, τ = σ."""
    first = None if tau is None else positive_scalar("tau", tau, p.y)
    second = None if sigma is None else positive_scalar("sigma", sigma, p.y)
    if first is None:
        if second is None:
            root = rounded_down(1 / math.sqrt(squared_norm(p)), p.y)
            return root, root
        return step_of(p, None) / second, second
    return first, step_of(p, None) / first if second is None else second


@takes_arrays("y")
def primal_dual(
    A: OperatorLike,
    y: Tensor,
    lam: Tensor | float,
    *,
    tau: Tensor | float | None = None,
    sigma: Tensor | float | None = None,
    omega: float = 1.0,
    iterations: int = 100,
    tol: float = 0.0,
    x0: Tensor | None = None,
    nonnegative: bool = False,
    prox: Proximal | None = None,
    callback: Callback | None = None,
    progress: bool = False,
    history: History | None = None,
) -> Tensor:
    """Iterations of the primal-dual method of Chambolle and Pock on min ½‖A x − y‖² + λ‖x‖₁.

    x⁺ = S_{λτ}(x − τ·Aᴴu), u⁺ = (u + σ·(A(x⁺ + ω·(x⁺ − x)) − y))/(1 + σ), where u starts as σ/(1 + σ)·(A x0 − y). It
    converges if τσ‖A‖² ≤ 1 and ω = 1. With ``nonnegative`` x⁺ = max(x − τ·Aᴴu − λτ, 0). An iteration is one product
    each with A and Aᴴ, and solves no linear system. Where AᴴA is cheap, it is one product with AᴴA. Over pictures with
    a compiled prior, all iterations are one native call.

    Args:
        A: (m, n), not zero, or a matrix for every sample (B, m, n); or any operator
            (:func:`fastunroll.operators.as_operator`) for batches (B, ...).
        y: (..., m); for an operator (B, ...), or (..., *A.shape_out) where A states the shape of one sample. An array
            of another library gives a result of its kind.
        lam: λ ≥ 0: a number, one a coordinate (n,), or one a sample (..., 1).
        tau: τ > 0, the step of x. By default τ = σ = 1/L with the L ≥ ‖A‖ of :func:`fista`'s step; where σ is given,
            τ = 1/(L²σ).
        sigma: σ > 0, the step of u; where τ is given, 1/(L²τ) by default. Both are taken as they are, also where
            τσ‖A‖² > 1.
        omega: ω between 0 and 1, how far beyond x⁺ A is applied.
        iterations: how many, ≥ 1; with ``tol`` at most.
        tol: the relative duality gap of x (:func:`duality_gap`) at which a sample stops, looked at every 10 iterations;
            0 never stops.
        x0: where x starts, (..., n); zero by default.
        nonnegative: require x ≥ 0. What is negative in x0 starts at zero.
        prox: of another R in the place of ‖x‖₁, from :mod:`fastunroll.prox` or your own. Where R has no duality gap,
            ``tol`` is compared with the KKT residual ‖x − prox_λ(x − Aᴴ(A x − y))‖/‖Aᴴy‖.
        callback: called every 10 iterations and at the end as ``callback(iteration, x)``; True ends the run.
        progress: show a progress bar.
        history: a :class:`History` to fill.

    Returns:
        x, (..., n); differentiable in y, λ, A, τ, σ and x0, by unrolling. The L of a default is a constant.

    Raises:
        TypeError: not floating point, half precision, dtypes differ, A is neither a matrix nor an operator, or x is
            complex with ``nonnegative``.
        ValueError: shapes do not fit, devices differ, λ < 0, infinite or NaN, τ ≤ 0, σ ≤ 0, ω not between 0 and 1,
            ``tol`` < 0, ``iterations`` < 1, or an operator mixes samples.

    Warns:
        ConvergenceWarning: samples did not reach ``tol``, or diverged, as where τσ‖A‖² > 1.
        AdjointWarning: ``A.adjoint`` is not the adjoint of A.

    Equivalent to::

        u = sigma / (1 + sigma) * (x @ A.mT - y)
        for _ in range(iterations):
            before, z = x, x - tau * u @ A.conj()
            x = torch.sgn(z) * torch.relu(z.abs() - lam * tau)  # nonnegative: torch.relu(z - lam * tau)
            u = (u + sigma * ((x + omega * (x - before)) @ A.mT - y)) / (1 + sigma)

    Reference: Chambolle and Pock, *A first-order primal-dual algorithm for convex problems with applications to
    imaging*, 2011.
    """
    monitor = Monitor("primal_dual", DIVERGENCE, iterations, tol, callback, progress, history)
    p = problem(A, y, lam, x0, nonnegative=nonnegative, prox=prox)
    require_precision(p.y)
    require_values(p, tau, sigma)
    if _checks.not_negative("omega", omega) > 1:
        raise ValueError(f"omega must be a number between 0 and 1, got {omega!r}")
    rule = Rule(*_steps(p, tau, sigma), float(omega))
    p = p.in_units()
    engine = _engine(p, rule)
    return run_monitored(p, monitor, lambda: engine(p, rule, monitor))
