"""Proximal gradient iterations that monitor their samples: for ISTA and FISTA with a tolerance, and for operators."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .. import ops
from ..engine.layers import Layers
from ..operators.products import Products, called
from ..prox.threshold import aligned
from ..samples import column, inner
from ..schemes import FISTA, ProximalGradient
from ..steps import GradientStep
from .batch import Batch, run_monitored
from .divergence import Divergence
from .duality import distance, measures, objective
from .history import EVERY, Monitor
from .picture_layers import are_compiled, arguments, layers
from .problem import Problem

# With a step of at most 1/‖A‖², and of less than 2/‖A‖² for ISTA, no iterate has a larger objective than the first: it
# decreases, and for FISTA its sum with ‖x − x_before‖²/2t does, as β ≤ 1. What is above 1 is for rounding.
DIVERGENCE = Divergence(1.01, "give a step of at most 1/‖A‖², and check that A.adjoint is the adjoint of A")


@dataclass(frozen=True)
class Rule:
    """How one iterate follows from another."""

    step: Tensor
    accelerated: bool = False
    restart: bool = False
    monotone: bool = False

    @property
    def by_sample(self) -> bool:
        """Whether samples have momenta of their own."""
        return self.restart or self.monotone


class Native:
    """Blocks of iterations as native calls, for a real matrix on the CPU."""

    def __init__(self, p: Problem, rule: Rule, monitor: Monitor) -> None:
        assert p.A is not None
        self.p, self.rule, self.tol = p, rule, monitor.tol
        self.state = ops.State.begin(p.start(), rule.accelerated)
        self.matrix, self.lam = p.A, p.lam.reshape(1, -1) if p.lam.dim() < 2 else p.lam

    @staticmethod
    def is_supported(p: Problem, rule: Rule) -> bool:
        """Whether the native code supports this problem."""
        tensors = (p.A, p.y, p.lam, p.x0, rule.step)
        return p.A is not None and p.is_lasso and ops.is_supported_on_cpu(p.y) and not ops.differentiable(*tensors)

    @property
    def x(self) -> Tensor:
        return self.state.x

    @property
    def gap(self) -> Tensor:
        return self.state.gap

    @property
    def iterations(self) -> Tensor:
        return self.state.iterations

    @property
    def known_residual(self) -> None:
        return None

    def advance(self, count: int) -> bool:
        """Runs ``count`` more iterations. Returns whether all samples have converged."""
        ops.proximal_gradient(
            self.matrix, self.p.y, self.lam, float(self.rule.step), self.state, iterations=count, every=EVERY,
            restarts=self.rule.restart, monotone=self.rule.monotone, nonnegative=self.p.nonnegative,
            tol=self.tol,
        )  # fmt: skip
        return self.tol > 0 and bool((self.gap <= self.tol).all())

    def measures(self) -> dict[str, Tensor]:
        """Returns the numbers that a history stores."""
        return measures(self.p, self.x)


_VECTORS = "iterate", "residual"


class Plain(Batch):
    """The iterations in PyTorch, for any device and dtype, operators, and gradients.

    An iteration takes one product with A and one with Aᴴ. A v − y is affine, so at v = x + β(x − x_before) it is
    r + β(r − r_before). A is applied to x, because the objective needs A x too, and Aᴴ to the residual at v. A gap
    takes another product with Aᴴ.
    """

    state = ("residual", "residual_at_v", "slope", *(f"{name}_before" for name in _VECTORS), "t", "beta", "lowest")

    def __init__(self, p: Problem, rule: Rule, monitor: Monitor) -> None:
        super().__init__(p, monitor)
        self.rule = rule
        # Python numbers, if possible, because PyTorch multiplies by them in the pass in which it adds.
        self.step: Any = rule.step if rule.step.requires_grad else float(rule.step)
        self.t: Any = 1.0
        self.beta: Any = 0.0
        if rule.by_sample:
            self.t, self.beta = torch.ones_like(self.gap), torch.zeros_like(self.gap)
        self.iterate_before = self.iterate
        self.slope: Tensor | None = None  # the gradient at v, where it is known
        self.passes: ops.OperatorPasses | None = None
        self.begin()
        self.lowest = self.objective() if rule.monotone else None
        self.drop_converged()

    def begin(self) -> None:
        """Computes what the first iteration needs besides the iterate."""
        self.residual = self.residual_at_v = self.residual_before = self.p.start_residual
        self.slope = self.p.start_slope
        self.passes = self.native_passes(self.residual)

    def native_passes(self, residual: Tensor) -> ops.OperatorPasses | None:
        """The passes between the products of an operator, where they are native."""
        p = self.p
        if p.A is not None or not p.is_lasso or self.rule.by_sample:
            return None
        theta, layout = aligned(p.lam * self.rule.step, self.iterate.shape)
        step = float(self.rule.step.detach())
        return ops.operator_passes(self.iterate, p.y, residual, theta, layout, step, p.nonnegative)

    @property
    def known_residual(self) -> Tensor | None:
        return self.residual if self.p.A is None else None

    def objective(self) -> Tensor:
        with torch.no_grad():
            return objective(self.active, self.iterate, self.residual)

    def measured_gap(self) -> Tensor:
        active = self.active
        slope = active.adjoint(self.residual) if self.slope is None else self.slope
        return distance(active, self.iterate, self.residual, slope)

    def extrapolated(self, now: Tensor, before: Tensor) -> Tensor:
        """now + β(now − before)."""
        if not isinstance(self.beta, float):
            return now + column(self.beta, now) * (now - before)
        return torch.lerp(before, now, 1 + self.beta) if self.beta else now

    @cached_property
    def is_finite(self) -> bool:
        """Whether y is: where only its sum overflows, the longer way is right too."""
        return bool(self.p.y.sum().isfinite())

    def extrapolated_residual(self) -> Tensor:
        """r + β(r − r_before), the residual at v. An infinite residual stays infinite, where ∞ − ∞ is NaN."""
        at_v = self.extrapolated(self.residual, self.residual_before)
        return at_v if self.is_finite else torch.where(self.residual.isinf(), self.residual, at_v)

    def proximal_step(self, slope: Tensor, v: Tensor | None = None) -> Tensor:
        """P(v − t·slope) at v = x + β(x − x_before), which is given where it is known."""
        v = self.extrapolated(self.iterate, self.iterate_before) if v is None else v
        moved = torch.sub(v, slope, alpha=self.step) if isinstance(self.step, float) else v - self.step * slope
        return self.next_proximal_step(moved, self.active.lam * self.rule.step)

    def move(self) -> None:
        rule, x = self.rule, self.iterate
        following = self.proximal_step(self.active.adjoint(self.residual_at_v) if self.slope is None else self.slope)
        uphill = None
        if rule.restart:
            v = self.extrapolated(x, self.iterate_before)
            uphill = inner(v - following, following - x).detach() > 0
        self.iterate, self.slope = following, None
        if rule.accelerated:
            self.iterate_before = x
        if rule.by_sample:
            self.residual_before = self.residual
            self.residual = self.active.residual(following)
            self.gather_momentum(self.take_back() if rule.monotone else None, uphill)
            self.residual_at_v = self.extrapolated_residual()
            return
        if rule.accelerated:
            self.gather_momentum()
        self.take_residual(self.active.residual(following))

    def take_residual(self, residual: Tensor) -> None:
        """Takes A x − y of the new iterate."""
        self.residual, self.residual_before = residual, self.residual
        self.residual_at_v = self.extrapolated_residual()

    def gather_momentum(self, rejected: Tensor | None = None, uphill: Tensor | None = None) -> None:
        """Computes β of the next iteration, for all samples or for each."""
        t = (1 + (1 + 4 * self.t**2) ** 0.5) / 2
        self.beta = (self.t - 1 if rejected is None else torch.where(rejected, -self.t, self.t - 1)) / t
        self.t = t
        if uphill is not None:
            self.beta, self.t = torch.where(uphill, 0.0, self.beta), torch.where(uphill, 1.0, t)

    def take_back(self) -> Tensor:
        """Swaps iterates that raise the objective by more than rounding with the iterates before. Returns which."""
        assert self.lowest is not None
        found = self.objective()
        rejected = found > self.lowest * (1 + 4 * torch.finfo(found.dtype).eps)
        self.lowest = torch.where(found < self.lowest, found, self.lowest)
        for name in _VECTORS:
            now, before = getattr(self, name), getattr(self, f"{name}_before")
            back = column(rejected, now)
            setattr(self, name, torch.where(back, before, now))
            setattr(self, f"{name}_before", torch.where(back, now, before))
        return rejected

    def measures(self) -> dict[str, Tensor]:
        """Returns the numbers that a history stores."""
        return measures(self.p, self.x.detach())


class BetweenProducts(Plain):
    """The iterations of an operator without a cheap AᴴA: a native pass after each product, where there are kernels.

    The passes look at each product themselves. Of one that is not as usual they make nothing: the checks of
    :class:`fastunroll.operators.products.Products` refuse it, or PyTorch goes on from one that has a gradient.
    """

    def moves(self, count: int) -> None:
        made = 0
        if self.passes is not None and self.p.products is not None:
            made = self.natively(self.passes, self.p.products.without_gradients(), count)
        super().moves(count - made)

    def natively(self, passes: ops.OperatorPasses, A: Products, count: int) -> int:
        """Makes iterations until a product has a gradient. Returns their number."""
        threads, accelerated = torch.get_num_threads(), self.rule.accelerated
        x, before, slope = self.iterate, self.iterate_before, self.slope
        at_v: Tensor | None = self.residual_at_v
        made = 0
        while made < count and at_v is not None:
            found = called("A.adjoint", A.apply_adjoint, at_v) if slope is None else slope
            following = passes.iterate(found, self.beta, threads)
            if following is None:
                slope = A.as_adjoint(found)
                following = passes.iterate(slope.contiguous(), self.beta, threads)
            if following is None:
                break
            x, before, slope, found, at_v = following, x, None, None, None  # whose memory the next product takes
            if accelerated:
                self.gather_momentum()
            product = called("A", A.apply, x)
            at_v = passes.residual_at(product, self.beta, threads)
            if at_v is None:
                product = A.as_forward(product)
                at_v = passes.residual_at(product.contiguous(), self.beta, threads)
            if at_v is not None:
                product = None
            made += 1
        self.iterate, self.iterate_before, self.slope, self.residual = x, before, slope, passes.residual
        if at_v is None:
            self.take_residual(product - self.p.y)
        else:
            self.residual_at_v = at_v
        if at_v is None or made < count:
            self.passes = None
        return made


class Collapsed(Plain):
    """The same for operators whose AᴴA is cheaper than a product each with A and Aᴴ: circular blurs, Fourier samples.

    The gradient at v is AᴴA v − Aᴴy, with Aᴴy computed once. A x − y is computed only where a gap or an objective is
    asked for, as a product with A, since ½⟨x, AᴴA x − 2Aᴴy⟩ + ½‖y‖² would lose the digits of a small residual.
    """

    @property
    def known_residual(self) -> None:
        return None

    def begin(self) -> None:
        self.slope = self.p.start_slope
        self.passes = self.native_passes(self.p.y)  # which are asked for no residual

    def measured_gap(self) -> Tensor:
        active, x = self.active, self.iterate
        residual = active.residual(x)
        return distance(active, x, residual, active.adjoint(residual))

    def proximal_step(self, slope: Tensor, v: Tensor | None = None) -> Tensor:
        if self.passes is not None:
            following = self.passes.iterate(slope.contiguous(), self.beta, torch.get_num_threads())
            if following is not None:
                return following
            self.passes = None  # PyTorch goes on from a product that has a gradient
        return super().proximal_step(slope, v)

    def move(self) -> None:
        x = self.iterate
        v = self.extrapolated(x, self.iterate_before)
        slope = self.active.collapsed_gradient(v) if self.slope is None else self.slope
        following = self.proximal_step(slope, v)
        uphill = inner(v - following, following - x).detach() > 0 if self.rule.restart else None
        self.iterate, self.slope = following, None
        if self.rule.accelerated:
            self.iterate_before = x
            self.gather_momentum(uphill=uphill)


class Pictures(Collapsed):
    """The same where layers over pictures are compiled: a block of iterations is one native call for all pictures."""

    @staticmethod
    def is_supported(p: Problem, rule: Rule) -> bool:
        """Whether there is such a call for this problem."""
        return not rule.by_sample and are_compiled(p, lambda: _layers(p, rule, [0.0]), rule.step)

    def begin(self) -> None:
        """Computes nothing: the native call begins by a gradient."""

    def moves(self, count: int) -> None:
        momenta = []
        for _ in range(count):
            momenta.append(self.beta)
            if self.rule.accelerated:
                self.gather_momentum()
        net = _layers(self.p, self.rule, momenta)
        given = arguments(net, self.p.At_y, self.iterate, self.iterate_before, self.proximal_steps)
        last = ops.picture_layers(given, min(count, 2))
        self.iterate_before = last[-2] if count > 1 else self.iterate
        self.iterate, self.slope = last[-1], None
        self.proximal_steps += count


def _layers(p: Problem, rule: Rule, momenta: list[float]) -> Layers:
    """Iterations as layers."""
    beta = torch.tensor(momenta, dtype=rule.step.dtype, device=rule.step.device)  # the step may be a lazy view
    scheme = FISTA([beta]) if rule.accelerated else ProximalGradient()
    linear = GradientStep(p.operator, step=[rule.step.reshape(())])
    return layers(p, scheme, linear, rule.step, p.lam * rule.step, len(momenta))


def _engine(p: Problem, rule: Rule) -> type[Native | Plain]:
    if Native.is_supported(p, rule):
        return Native
    if Pictures.is_supported(p, rule):
        return Pictures
    return Collapsed if p.is_collapsed and not rule.monotone else BetweenProducts


def run(p: Problem, rule: Rule, monitor: Monitor) -> Tensor:
    """Runs the iterations that ``monitor`` asks for. Returns x (..., n), with the leading shape of y."""
    p = p.in_units()
    engine = _engine(p, rule)
    return run_monitored(p, monitor, lambda: engine(p, rule, monitor))
