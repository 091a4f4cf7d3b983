"""Detects samples whose iterations diverged."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .._precision import own_precision
from ..samples import energy
from ..warn import ConvergenceWarning, warn
from .problem import Problem, can_be_read


@dataclass(frozen=True)
class Divergence:
    """The test for divergence of a solver.

    rise: the largest ratio of the final objective to the objective of zero, or of the start, in a run that converges.
    fix: the advice of the warning.
    """

    rise: float
    fix: str

    def of(self, p: Problem, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Which samples diverged, (B,). Their data are finite, but the objective of x has risen or is NaN.

        x: (B, ...). residual: A x − y, if it is known.
        """
        if not (can_be_read(p.y) and p.prior.has_value):
            return torch.zeros(p.batch, dtype=torch.bool)
        with torch.no_grad(), own_precision(p.y):
            highest = p.energy / 2
            if p.x0 is not None:
                highest = torch.maximum(highest, _objective(p, p.x0, vars(p).get("start_residual")))
            diverged = ~(_objective(p, x, residual) <= self.rise * highest)
            if not bool(diverged.any()):
                return diverged
            for given in (p.y, p.x0):
                if given is not None:
                    diverged = diverged & torch.isfinite(given).flatten(1).all(1)
            if p.A is not None and bool(diverged.any()) and not bool(torch.isfinite(p.A).all()):
                return torch.zeros_like(diverged)
        return diverged

    def warn(self, name: str, diverged: Tensor) -> None:
        """Warns in one sentence if a sample diverged."""
        if bool(diverged.any()):
            warn(
                f"{name}: {int(diverged.sum())} of {diverged.numel()} samples diverged, to an objective above that of "
                f"where they started or to no number: {self.fix}",
                ConvergenceWarning,
            )


def _objective(p: Problem, x: Tensor, residual: Tensor | None) -> Tensor:
    """½‖A x − y‖² + λ·R(x), (B,), with A x − y where it is known."""
    return (p.misfit(x) if residual is None else energy(residual)) / 2 + p.prior.weighted(x, p.lam)
