"""Whether iterations went away from the solution rather than towards it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .._precision import own_precision
from ..samples import inner
from ..warn import ConvergenceWarning, warn
from .duality import objective
from .problem import Problem, can_be_read


@dataclass(frozen=True)
class Divergence:
    """How a solver that diverged is known.

    rise: the largest objective that a run has which converges, over that of zero or of its start. fix: what to do.
    """

    rise: float
    fix: str

    def of(self, p: Problem, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Which samples diverged, (B,): of finite data x (B, ...) has an objective that rose, or is no number.

        residual: A x − y, if it is known.
        """
        if not (can_be_read(p.y) and p.prior.has_value):
            return torch.zeros(p.batch, dtype=torch.bool)
        with torch.no_grad(), own_precision(p.y):
            highest = inner(p.y, p.y) / 2
            if p.x0 is not None:
                highest = torch.maximum(highest, objective(p, p.x0, p.start_residual))
            residual = p.residual(x) if residual is None else residual
            diverged = ~(objective(p, x, residual) <= self.rise * highest)
            if not bool(diverged.any()):
                return diverged
            for given in (p.y, p.x0):
                if given is not None:
                    diverged = diverged & torch.isfinite(given).flatten(1).all(1)
            if p.A is not None and bool(diverged.any()) and not bool(torch.isfinite(p.A).all()):
                return torch.zeros_like(diverged)
        return diverged

    def warn(self, name: str, diverged: Tensor) -> None:
        """One sentence, if any sample did."""
        if bool(diverged.any()):
            warn(
                f"{name}: {int(diverged.sum())} of {diverged.numel()} samples diverged, to an objective above that of "
                f"where they started or to no number: {self.fix}",
                ConvergenceWarning,
            )
