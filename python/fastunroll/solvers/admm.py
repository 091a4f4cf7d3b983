"""ADMM, which alternates a linear system and a proximal step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .. import _checks, ops
from ..arrays import takes_arrays
from ..engine.layers import Layers
from ..operators.convert import OperatorLike
from ..operators.products import called, has_data_step
from ..operators.solve import Factorised
from ..ops.conjugate_gradients import conjugate_gradients
from ..products import product
from ..prox import Proximal
from ..samples import total
from ..schemes import ADMM
from ..steps import DataStep
from .batch import Batch, run_monitored
from .divergence import Divergence
from .duality import distance, measures
from .history import EVERY, Callback, History, Monitor
from .picture_layers import are_compiled, arguments, layers
from .problem import Problem, positive_scalar, problem, require_precision, require_values

# The objective of z rises for a while where ρ is far from good: seen to 2.3 times that of zero.
DIVERGENCE = Divergence(
    100.0, "check that A.adjoint is the adjoint of A, and that solve(b, rho) solves (AᴴA + ρI)x = b, where it is given"
)

Solve = Callable[[Tensor, Tensor], Tensor]


class Corrected(Factorised):
    """The linear step of a matrix, argmin ½‖A x − y‖² + ρ/2‖x − w‖² = w + Kᴴ(y − A w). Each ρ is factorised once."""

    def __call__(self, p: Problem, w: Tensor, x: Tensor) -> Tensor:
        return w - product(p.residual(w), self.K, adjoint=True)


class Solved:
    """The linear step of an operator, by the user's or its own solve, or by conjugate gradients from x."""

    def __init__(self, p: Problem, solve: Solve | None, steps: int) -> None:
        assert p.operator is not None
        op = p.operator
        own = op.solve if op.solves else None
        is_one_pass = solve is None and own is not None and has_data_step(op)
        self.data_step = op.data_step if is_one_pass else None
        self.At_y, self.solve, self.steps = p.At_y, own if solve is None else solve, steps
        self.rho = torch.ones(())

    def factorise(self, rho: Tensor) -> None:
        self.rho = rho.to(self.At_y.real.dtype if self.At_y.is_complex() else self.At_y.dtype)

    def __call__(self, p: Problem, w: Tensor, x: Tensor) -> Tensor:
        if self.data_step is not None:
            return _checked("solve(b, rho)", self.data_step(w, self.At_y, self.rho), self.At_y)
        b = self.At_y + self.rho * w
        if self.solve is not None:
            return _checked("solve(b, rho)", called("solve(b, rho)", self.solve, b, self.rho), b)
        return conjugate_gradients(lambda v: p.normal(v) + self.rho * v, b, x, self.steps)[0]


def _checked(name: str, found: object, b: Tensor) -> Tensor:
    """What a call has returned, if it is of the shape and dtype of b."""
    if not isinstance(found, Tensor) or found.shape != b.shape:
        got = _checks.shape_text(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"{name} must return a tensor of shape {_checks.shape_text(b.shape)}, got {got}")
    if found.dtype != b.dtype:
        raise TypeError(f"{name} must return {b.dtype}, got {found.dtype}: convert it with .to()")
    return found


class Iterations(Batch):
    """The iterations of ADMM, with x, z and u of each sample, and one ρ for all samples."""

    state = ("u", "solution", "before")

    def __init__(
        self, p: Problem, monitor: Monitor, linear: Corrected | Solved, rho: Tensor, relaxation: float, adaptive: bool
    ) -> None:
        super().__init__(p, monitor)
        self.monitor, self.linear, self.relaxation, self.adaptive = monitor, linear, relaxation, adaptive
        self.u = torch.zeros_like(self.iterate)
        self.solution = self.before = self.iterate
        self.primal = self.dual = self.gap.new_zeros(())
        self.done = 0
        self.set_rho(rho)
        self.drop_converged()

    def set_rho(self, rho: Tensor) -> None:
        self.rho = rho
        self.linear.factorise(rho)

    def move(self) -> None:
        z = self.before = self.iterate
        self.solution = self.linear(self.active, z - self.u, self.solution)
        relaxed = self.relaxation * self.solution + (1 - self.relaxation) * z
        lam = self.active.lam
        self.iterate = self.next_proximal_step(relaxed + self.u, lam / self.rho.to(lam.dtype))
        self.u = self.u + relaxed - self.iterate
        self.done += 1
        if self.done % EVERY == 0:
            self.balance()

    def measured_gap(self) -> Tensor:
        active, z = self.active, self.iterate
        residual = active.residual(z)
        return distance(active, z, residual, active.adjoint(residual))

    def balance(self) -> None:
        """Doubles or halves ρ if one residual is ten times the other, in the first half of the iterations."""
        with torch.no_grad():
            moves = self.solution - self.iterate, self.iterate - self.before
            self.primal, moved = (torch.linalg.vector_norm(self.active.in_users_units(move)) for move in moves)
            self.dual = moved * self.rho.to(moved.dtype)
        if not self.adaptive or 2 * self.done > self.monitor.iterations:
            return
        primal, dual = float(self.primal), float(self.dual)
        factor = 2.0 if primal > 10 * dual else 0.5 if dual > 10 * primal else 1.0
        if factor != 1 and primal + dual < float("inf"):
            self.u = self.u / factor
            self.set_rho(self.rho * factor)

    def measures(self) -> dict[str, Tensor]:
        """Returns the numbers that a history stores."""
        with torch.no_grad():
            return {**measures(self.p, self.x), "rho": self.rho, "primal": self.primal, "dual": self.dual}


class Pictures(Iterations):
    """The same where layers over pictures are compiled: a block of iterations is one native call for all pictures."""

    @staticmethod
    def is_supported(p: Problem, solve: Solve | None, rho: Tensor) -> bool:
        """Whether there is such a call for this problem, and its linear step is that of the operator."""
        has_own = p.operator is not None and p.operator.solves and solve is None
        return has_own and are_compiled(p, lambda: _layers(p, rho, 1), rho)

    def moves(self, count: int) -> None:
        """Stops before each iteration after which the residuals are compared, for what they are made of."""
        while count > 0:
            compares = self.asked or (self.adaptive and 2 * self.done <= self.monitor.iterations)
            some = min(count, EVERY - self.done % EVERY) if compares else count
            is_last = compares and (self.done + some) % EVERY == 0
            if some > is_last:
                self.run(some - is_last)
            if is_last:
                u = self.u
                self.run(1)
                relaxed = self.u - u + self.iterate
                self.solution = self.before + (relaxed - self.before) / self.relaxation
                self.balance()
            count -= some

    def run(self, count: int) -> None:
        net = _layers(self.p, self.rho, count)
        given = arguments(net, self.p.At_y, self.iterate, self.u, self.proximal_steps)
        self.before = self.iterate
        x, self.u = ops.picture_layers_and_state(given._replace(relaxation=self.relaxation))
        self.iterate = x[-1]
        self.done += count
        self.proximal_steps += count


def _layers(p: Problem, rho: Tensor, count: int) -> Layers:
    """Iterations as layers."""
    rho = rho.detach().to(p.lam.dtype)
    return layers(p, ADMM([torch.ones_like(rho)]), DataStep(p.operator, rho), rho, p.lam / rho, count)


def mean_eigenvalue(p: Problem) -> Tensor:
    """The mean eigenvalue of AᴴA, ‖A‖_F²/n. That of an operator is estimated once, by A applied to random signs."""
    with torch.no_grad():
        if p.A is not None:
            return p.A.abs().double().square().sum() / p.A.shape[1]
        found = p.kept("mean eigenvalue", lambda: _estimate(p))
        return torch.tensor(found, dtype=torch.float64, device=p.y.device)


def _estimate(p: Problem) -> float:
    """The mean over samples, by the same signs for each: that of one where all have the same A."""
    like = p.start()
    signs = torch.randint(2, like.shape[1:], generator=torch.Generator().manual_seed(0)).to(like) * 2 - 1
    each = total(p.forward(signs.expand(like.shape).contiguous()).abs().double().square())
    if not each.numel():
        return 0.0
    return float(each[0] + (each - each[0]).mean()) / max(1, signs.numel())


@takes_arrays("y")
def admm(
    A: OperatorLike,
    y: Tensor,
    lam: Tensor | float,
    *,
    rho: Tensor | float | None = None,
    relaxation: float = 1.6,
    adaptive: bool = True,
    iterations: int = 100,
    tol: float = 0.0,
    x0: Tensor | None = None,
    solve: Solve | None = None,
    inner_iterations: int = 10,
    nonnegative: bool = False,
    prox: Proximal | None = None,
    callback: Callback | None = None,
    progress: bool = False,
    history: History | None = None,
) -> Tensor:
    """Iterations of ADMM on min ½‖A x − y‖² + λ‖z‖₁ with x = z, in scaled form; returns z.

    x = (AᴴA + ρI)⁻¹(Aᴴy + ρ(z − u)), x̂ = αx + (1 − α)z, z⁺ = S_{λ/ρ}(x̂ + u), u⁺ = u + x̂ − z⁺. With ``nonnegative``
    z⁺ = max(x̂ + u − λ/ρ, 0).

    Args:
        A: (m, n), or a matrix for every sample (B, m, n); or any operator
            (:func:`fastunroll.operators.as_operator`) for batches (B, ...).
        y: (..., m); for an operator (B, ...), or (..., *A.shape_out) where A states the shape of one sample. An array
            of another library gives a result of its kind.
        lam: λ ≥ 0: a number, one a coordinate (n,), or one a sample (..., 1).
        rho: ρ > 0; by default the mean eigenvalue of AᴴA, ‖A‖_F²/n, over all samples; of an operator it is estimated by
            one product and kept.
        relaxation: α between 0 and 2; above 1 it is over-relaxation.
        adaptive: every 10 iterations of the first half, double ρ if ‖x − z‖ > 10·ρ‖z − z_before‖, halve it if the other
            is ten times larger (over all samples: so a sample's result depends on the batch it is in).
        iterations: how many, ≥ 1; with ``tol`` at most.
        tol: the relative duality gap of z (:func:`duality_gap`) at which a sample stops, looked at every 10 iterations;
            0 never stops.
        x0: where z starts, (..., n); zero by default.
        solve: for an operator, ``solve(b, rho)`` returns the solution of (AᴴA + ρI)x = b, all (B, ...). By default it
            is ``A.solve`` where the operator has its own. Without either, conjugate gradients are used, and the
            iteration is inexact.
        inner_iterations: of conjugate gradients, from the solution before.
        nonnegative: require z ≥ 0. What is negative in x0 starts at zero.
        prox: of another R in the place of ‖x‖₁, from :mod:`fastunroll.prox` or your own. Where R has no duality gap,
            ``tol`` is compared with the KKT residual ‖x − prox_λ(x − Aᴴ(A x − y))‖/‖Aᴴy‖.
        callback: called every 10 iterations and at the end as ``callback(iteration, z)``; True ends the run.
        progress: show a progress bar.
        history: a :class:`History` to fill.

    Returns:
        z, (..., n); differentiable in y, λ, A and ρ, by unrolling.

    Raises:
        TypeError: not floating point, half precision, dtypes differ, A is neither a matrix nor an operator, or x is
            complex with ``nonnegative``.
        ValueError: shapes do not fit, devices differ, A is a matrix that is not finite, λ < 0, infinite or NaN, ρ ≤ 0
            or too small to factorise AᴴA + ρI, ``relaxation`` not between 0 and 2, ``tol`` < 0, ``iterations`` < 1,
            ``solve`` with a matrix, or an operator mixes samples.

    Warns:
        ConvergenceWarning: samples did not reach ``tol``, or diverged.
        AdjointWarning: ``A.adjoint`` is not the adjoint of A.

    Equivalent to::

        M = torch.linalg.inv(A.mH @ A + rho * torch.eye(n))
        for _ in range(iterations):
            x = (y @ A.conj() + rho * (z - u)) @ M.mT
            v = relaxation * x + (1 - relaxation) * z + u
            z = torch.sgn(v) * torch.relu(v.abs() - lam / rho)  # nonnegative: torch.relu(v - lam / rho)
            u = v - z

    Reference: Boyd, Parikh, Chu, Peleato and Eckstein, *Distributed optimization and statistical learning via the
    alternating direction method of multipliers*, 2011, sections 3.4.1, 3.4.3, 4.2.4 and 6.4.
    """
    monitor = Monitor("admm", DIVERGENCE, iterations, tol, callback, progress, history)
    p = problem(A, y, lam, x0, nonnegative=nonnegative, prox=prox)
    require_precision(p.y)
    require_values(p, rho)
    if not 0 < _checks.positive("relaxation", relaxation) < 2:
        raise ValueError(f"relaxation must be a number between 0 and 2, got {relaxation!r}")
    if solve is not None and (p.A is not None or not callable(solve)):
        raise ValueError("solve is a function for operators, solve(b, rho): a matrix is factorised")
    steps, adaptive = _checks.count("inner_iterations", inner_iterations), _checks.flag("adaptive", adaptive)
    p = p.in_units()

    def begin() -> Iterations:
        start = mean_eigenvalue(p) if rho is None else positive_scalar("rho", rho, p.y).double()
        start = torch.where(start > 0, start, 1.0)
        linear = Solved(p, solve, steps) if p.A is None else Corrected(_checks.finite_matrix("A", p.A))
        engine = Pictures if Pictures.is_supported(p, solve, start) else Iterations
        return engine(p, monitor, linear, start, float(relaxation), adaptive)

    return run_monitored(p, monitor, begin)
