"""The Lasso in plain PyTorch on any device, by FISTA with restarts and Newton steps on the support."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..operators.norm import spectral_norm
from ..prox import L1, NonNegativeL1
from ..units import units
from .support import Supports, parts

BLOCK = 20  # iterations between two measurements of the gap
NEWTON_AFTER = 40  # iterations before supports are tried
CHUNK = 1 << 25  # values of one array of codes at a time
PATIENCE = 25  # the blocks without half the gap after which a sample stops
MAX_WARM_START_GAP = 0.02  # a start with a larger gap makes more work than it saves
SUPPORT_SLACK = 32  # nonzeros more than A has rows: no solution need have as many
STEP_MARGIN = 1.0001  # for the rounding of products


@dataclass(frozen=True)
class Problem:
    """The problem min ½‖A x − y‖² + λ Σ wⱼ|xⱼ| + ½μ‖x‖² without y and λ, which all samples share."""

    A: Tensor
    weights: Tensor | None
    nonnegative: bool
    ridge: float

    def __deepcopy__(self, memo: dict[int, object]) -> Problem:
        A = self.A.clone() if self.A.layout != torch.strided else copy.deepcopy(self.A, memo)  # which PyTorch lacks
        return replace(self, A=A, weights=copy.deepcopy(self.weights, memo))

    def detach(self) -> Problem:
        return replace(self, A=self.A.detach(), weights=None if self.weights is None else self.weights.detach())

    def double(self) -> Problem:
        return replace(self, A=self.A.double(), weights=None if self.weights is None else self.weights.double())


def gap_and_gradient(p: Problem, x: Tensor, y: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Relative duality gaps, whose dual point is the residual times the best factor s; and r = Aᵀ(y − A x) − μ x.

    gap = ½(1 − s)²‖R‖² + Σ (λwⱼ|xⱼ| − s xⱼ rⱼ), where R is y − A x, with the rows −√μ x that a ridge adds. This is the
    difference of the primal and the dual objective without the terms that cancel.
    """
    residual = y - x @ p.A.mT
    r = residual @ p.A - p.ridge * x
    size = r if p.nonnegative else r.abs()
    power = residual.square().sum(-1) + p.ridge * x.square().sum(-1)
    tiny = torch.finfo(y.dtype).tiny
    bound = torch.where(size > 0, limit / size.clamp_min(tiny), torch.inf).amin(-1)
    scale = torch.minimum(1 + (x * r).sum(-1) / power.clamp_min(tiny), bound).clamp_min(0)
    gap = (1 - scale).square() * power / 2 + (limit * x.abs() - scale[:, None] * x * r).sum(-1)
    energy = y.square().sum(-1) / 2
    return torch.where(energy > 0, gap / energy.clamp_min(tiny), gap), r


def _newton(p: Problem, x: Tensor, r: Tensor, limit: Tensor) -> Tensor:
    """x after a Newton step on its support, which is shortened so that no sign changes."""
    equations = Supports(p.A, x)
    inside, before = equations.inside, equations.gather(x)
    diagonal = equations.gram.diagonal(dim1=-2, dim2=-1)
    equations.add_to_diagonal(p.ridge + 10 * torch.finfo(x.dtype).eps * diagonal.amax(-1, keepdim=True))
    factor, failed = torch.linalg.cholesky_ex(equations.gram)
    force = equations.gather(r) - equations.gather(limit) * before.sign()
    step = torch.cholesky_solve(force[..., None], factor)[..., 0]
    crosses = inside & (before * (before + step) <= 0)
    share = torch.where(crosses, -before / torch.where(crosses, step, 1.0), 1.0)
    least = share.amin(-1, keepdim=True)
    moved = torch.where(crosses & (share <= least), 0.0, before + least * step)
    usable = (failed == 0) & torch.isfinite(moved).all(-1)
    return torch.where(usable[:, None], equations.scatter(moved, x.shape[1]), x)


def newton(p: Problem, x: Tensor, r: Tensor, limit: Tensor) -> Tensor:
    """Runs ``_newton`` in parts that fit into memory, for the samples whose supports no other support could replace."""
    fits = (x != 0).sum(-1) <= (x.shape[1] if p.ridge > 0 else p.A.shape[0] + SUPPORT_SLACK)
    out = x.clone()
    rows = fits.nonzero()[:, 0]
    x, r, limit = x[rows], r[rows], limit[rows]
    for some in parts(p.A, x):
        out[rows[some]] = _newton(p, x[some], r[some], limit[some])
    return out


class Batched:
    """The solver of a problem without its Gram matrix.

    Gaps are measured in double precision, which no setting of a device rounds, because they are certificates.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.wide = problem if problem.A.dtype == torch.float64 else problem.double()
        lipschitz = problem.ridge + (spectral_norm(problem.A) ** 2 if problem.A.numel() else 0.0)
        self._step = 1 / max(STEP_MARGIN * lipschitz, torch.finfo(problem.A.dtype).tiny)

    def solve(
        self, y: Tensor, lam: Tensor, tol: float, x0: Tensor | None, max_iter: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, n), relative gaps (B,) and iterations (B,). Each sample stops when its gap is at most ``tol``."""
        unit = units(y)  # no square overflows, or vanishes
        y, lam = y / unit[:, None], lam / unit
        if x0 is not None:
            x0 = torch.nan_to_num(x0 / unit[:, None], 0.0, 0.0, 0.0)
        rows = max(1, CHUNK // max(1, self.problem.A.shape[1]))
        found = []
        for first in range(0, max(1, len(y)), rows):
            some = slice(first, first + rows)
            found.append(self._solve(y[some], lam[some], tol, None if x0 is None else x0[some], max_iter))
        x, gap, iterations = (torch.cat(some) for some in zip(*found, strict=True))
        loses_to_zero = gap > 1  # the gap between x = 0 and the dual point 0 is 1
        x[loses_to_zero], gap[loses_to_zero] = 0.0, 1.0
        x = x * unit[:, None]
        return x, torch.where(torch.isfinite(x).all(-1), gap, torch.nan), iterations

    def _measure(self, x: Tensor, y: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
        gap, r = gap_and_gradient(self.wide, x.to(self.wide.A), y.to(self.wide.A), limit.to(self.wide.A))
        return gap.to(y), r.to(y)

    def _start(self, x0: Tensor, y: Tensor, limit: Tensor) -> Tensor:
        """x0 if its gap is small enough to save work, else zero."""
        if self.problem.nonnegative:
            x0 = x0.clamp_min(0)
        return torch.where((self._measure(x0, y, limit)[0] <= MAX_WARM_START_GAP)[:, None], x0, 0.0)

    def _solve(
        self, y: Tensor, lam: Tensor, tol: float, x0: Tensor | None, max_iter: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        p, step = self.problem, self._step
        count, n = y.shape[0], p.A.shape[1]
        limit = lam[:, None] * (torch.ones_like(p.A[0]) if p.weights is None else p.weights)
        x_all = y.new_zeros(count, n) if x0 is None else self._start(x0, y, limit)
        gap_all, iterations = y.new_full((count,), torch.nan), torch.zeros(count, dtype=torch.int64, device=y.device)
        active = torch.arange(count, device=y.device)
        prox = (NonNegativeL1() if p.nonnegative else L1()).prox
        x = x_all
        before, t = x, y.new_ones(count, 1)
        gap, r = self._measure(x, y, limit)
        halved, stalls = gap, torch.zeros(count, dtype=torch.int64, device=y.device)
        done = 0
        while True:
            bad = ~torch.isfinite(gap)
            x_all[active] = torch.where(bad[:, None], torch.nan, x)
            gap_all[active] = torch.where(bad, torch.nan, gap)
            better = gap <= halved / 2
            halved, stalls = torch.where(better, gap, halved), torch.where(better, 0, stalls + 1)
            more = (gap > tol) & ~bad & (stalls <= PATIENCE)
            if not bool(more.any()) or done >= max_iter:
                return x_all, gap_all, iterations
            if not bool(more.all()):
                active, x, before, t = active[more], x[more], before[more], t[more]
                y, limit, gap, r = y[more], limit[more], gap[more], r[more]
                halved, stalls = halved[more], stalls[more]
            block = min(BLOCK, max_iter - done)
            for _ in range(block):
                following = (1 + (1 + 4 * t.square()).sqrt()) / 2
                v = x + (t - 1) / following * (x - before)
                z = v + step * ((y - v @ p.A.mT) @ p.A - p.ridge * v)
                before, x = x, prox(z, step * limit)
                against = ((v - x) * (x - before)).sum(-1, keepdim=True) > 0
                t = torch.where(against, torch.ones_like(t), following)
                before = torch.where(against, x, before)
            iterations[active] += block
            done += block
            gap, r = self._measure(x, y, limit)
            if done > NEWTON_AFTER:
                candidate = x
                for _ in range(3):
                    candidate = newton(p, candidate, r, limit)
                    better, r_new = self._measure(candidate, y, limit)
                    r = torch.where(torch.isfinite(better)[:, None], r_new, r)
                wins = better < gap
                x, gap = torch.where(wins[:, None], candidate, x), torch.where(wins, better, gap)
                before = torch.where(wins[:, None], x, before)
                t = torch.where(wins[:, None], torch.ones_like(t), t)
