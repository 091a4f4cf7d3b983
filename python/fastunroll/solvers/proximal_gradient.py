"""Proximal gradient iterations that watch their samples: for ISTA and FISTA with a tolerance, and for operators."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import ops
from ..prox import soft_threshold
from .batch import Batch, watched
from .divergence import Divergence
from .duality import measure, measures
from .history import EVERY, Watch
from .problem import Problem
from .samples import column, inner

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


class Native:
    """All iterations in one native call, or a block of them: the CPU, a real matrix."""

    def __init__(self, p: Problem, rule: Rule, tol: float) -> None:
        assert p.A is not None
        self.p, self.rule, self.tol = p, rule, tol
        self.state = ops.State.begin(p.start(), rule.accelerated)
        self.matrix, self.lam = p.A, p.lam.reshape(1, -1) if p.lam.dim() < 2 else p.lam

    @staticmethod
    def serves(p: Problem, rule: Rule) -> bool:
        """Whether it can do this."""
        tensors = (p.A, p.y, p.lam, p.x0, rule.step)
        return p.A is not None and ops.serves_proximal_gradient(p.y) and not ops.differentiable(*tensors)

    @property
    def x(self) -> Tensor:
        return self.state.x

    @property
    def gap(self) -> Tensor:
        return self.state.gap

    @property
    def made(self) -> Tensor:
        return self.state.made

    def advance(self, count: int) -> bool:
        """So many iterations more; whether all have converged."""
        ops.proximal_gradient(
            self.matrix, self.p.y, self.lam, float(self.rule.step), self.state, iterations=count, every=EVERY,
            restarts=self.rule.restart, monotone=self.rule.monotone, tol=self.tol,
        )  # fmt: skip
        return self.tol > 0 and bool((self.gap <= self.tol).all())

    def measures(self) -> dict[str, Tensor]:
        """What a history holds."""
        return measures(self.p, self.x)


_VECTORS = ("iterate", "slope", "residual")


class Plain(Batch):
    """The same in PyTorch: any device and type, operators, and gradients.

    The gradient at v = x + β(x − o) is g + β(g − g_o), as it is affine: so the products are those with x, of which
    objective and gap are needed besides.
    """

    state = (*_VECTORS[1:], *(f"{name}_other" for name in _VECTORS), "t", "beta", "lowest")

    def __init__(self, p: Problem, rule: Rule, tol: float) -> None:
        super().__init__(p, tol)
        self.rule = rule
        self.t, self.beta = torch.ones_like(self.gap), torch.zeros_like(self.gap)
        self.evaluate()
        self.iterate_other, self.slope_other, self.residual_other = self.iterate, self.slope, self.residual
        self.lowest = self.measured()[0]
        self.look()

    def evaluate(self) -> None:
        self.residual = self.going.residual(self.iterate)
        self.slope = self.going.adjoint(self.residual)

    def measured(self) -> tuple[Tensor, Tensor]:
        """Objective and gap."""
        with torch.no_grad():
            return measure(self.iterate, self.residual, self.slope, self.going.y, self.going.lam)

    def measured_gap(self) -> Tensor:
        return self.measured()[1]

    def move(self) -> None:
        rule, x = self.rule, self.iterate
        v, slope = x, self.slope
        if rule.accelerated:
            beta = column(self.beta, x)
            v, slope = x + beta * (x - self.iterate_other), slope + beta * (slope - self.slope_other)
        following = soft_threshold(v - rule.step * slope, self.going.lam * rule.step)
        uphill = inner(v - following, following - x).detach() > 0 if rule.restart else None
        self.iterate, self.iterate_other = following, x
        self.slope_other, self.residual_other = self.slope, self.residual
        self.evaluate()
        if not rule.accelerated:
            return
        rejected = self.take_back() if rule.monotone else None
        t = (1 + (1 + 4 * self.t.square()).sqrt()) / 2
        self.beta = (self.t - 1 if rejected is None else torch.where(rejected, -self.t, self.t - 1)) / t
        self.t = t
        if uphill is not None:
            self.beta, self.t = torch.where(uphill, 0.0, self.beta), torch.where(uphill, 1.0, t)

    def take_back(self) -> Tensor:
        """Iterates by which the objective rises, but for rounding, change places with the ones before: which ones."""
        objective = self.measured()[0]
        rejected = objective > self.lowest * (1 + 4 * torch.finfo(objective.dtype).eps)
        self.lowest = torch.where(objective < self.lowest, objective, self.lowest)
        for name in _VECTORS:
            now, other = getattr(self, name), getattr(self, f"{name}_other")
            back = column(rejected, now)
            setattr(self, name, torch.where(back, other, now))
            setattr(self, f"{name}_other", torch.where(back, now, other))
        return rejected

    def measures(self) -> dict[str, Tensor]:
        """What a history holds."""
        return measures(self.p, self.x.detach())


def run(p: Problem, rule: Rule, watch: Watch) -> Tensor:
    """The iterations that ``watch`` asks for: (..., n), with the leading shape of y."""
    p = p.in_units()
    engine = Native if Native.serves(p, rule) else Plain
    return watched(p, watch, lambda: engine(p, rule, watch.tol))
