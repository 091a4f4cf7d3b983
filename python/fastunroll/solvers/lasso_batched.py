"""The Lasso in plain PyTorch, on any device: FISTA with restarts, then Newton steps on the support."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 20  # iterations between two looks at the gap
NEWTON_AFTER = 2  # blocks before supports are tried
CHUNK = 1 << 25  # values of one array of codes, or of gathered columns, at a time
PATIENCE = 25  # blocks that do not halve the gap, before a sample is given up


@dataclass(frozen=True)
class Problem:
    """What all samples share: min ½‖A x − y‖² + λ Σ wⱼ|xⱼ| + ½μ‖x‖²."""

    A: Tensor
    weights: Tensor | None
    nonnegative: bool
    ridge: float


def shrink(z: Tensor, theta: Tensor, nonnegative: bool) -> Tensor:
    return (z - theta).clamp_min(0) if nonnegative else torch.sgn(z) * (z.abs() - theta).clamp_min(0)


def gap_and_gradient(p: Problem, x: Tensor, y: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Relative duality gaps, with the best scaling of the residual as dual point; and r = Aᵀ(y − A x) − μ x.

    gap = ½(1 − s)²‖R‖² + Σ (λwⱼ|xⱼ| − s xⱼ rⱼ), where R = y − A x (and −√μ x, the rows that a ridge adds): the
    difference of primal and dual with what cancels left out.
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
    """x after a Newton step on its support, kept where no sign changes and else up to where the first one would."""
    support = x != 0
    most = int(support.sum(-1).max()) if support.numel() else 0
    if most == 0:
        return x
    order = support.to(torch.int8).argsort(dim=-1, descending=True, stable=True)[:, :most]
    inside = support.gather(1, order)
    columns = p.A.mT[order] * inside[..., None]  # (samples, most, m)
    gram = columns @ columns.mT
    rounding = 10 * torch.finfo(x.dtype).eps * gram.diagonal(dim1=-2, dim2=-1).amax(-1, keepdim=True)
    gram.diagonal(dim1=-2, dim2=-1).add_(torch.where(inside, p.ridge + rounding, 1.0))
    before = x.gather(1, order)
    force = torch.where(inside, r.gather(1, order) - limit.expand_as(x).gather(1, order) * before.sign(), 0.0)
    factor, failed = torch.linalg.cholesky_ex(gram)
    step = torch.cholesky_solve(force[..., None], factor)[..., 0]
    crosses = inside & (before * (before + step) <= 0)
    share = torch.where(crosses, -before / torch.where(crosses, step, 1.0), 1.0)
    least = share.amin(-1, keepdim=True)
    moved = torch.where(crosses & (share <= least), 0.0, before + least * step)
    usable = (failed == 0) & torch.isfinite(moved).all(-1)
    return torch.where(usable[:, None], x.scatter(1, order, torch.where(inside, moved, 0.0)), x)


def newton(p: Problem, x: Tensor, r: Tensor, limit: Tensor) -> Tensor:
    """As ``_newton``, so many samples at a time that their columns of A fit into memory."""
    support = int((x != 0).sum(-1).max()) if x.numel() else 0
    rows = max(1, CHUNK // max(1, support * p.A.shape[0]))
    parts = zip(x.split(rows), r.split(rows), limit.split(rows), strict=True)
    return torch.cat([_newton(p, *part) for part in parts]) if x.shape[0] > rows else _newton(p, x, r, limit)


def _solve(
    p: Problem, y: Tensor, lam: Tensor, step: float, tol: float, x0: Tensor | None, max_iter: int
) -> tuple[Tensor, Tensor, Tensor]:
    count, n = y.shape[0], p.A.shape[1]
    weights = torch.ones(n, dtype=y.dtype, device=y.device) if p.weights is None else p.weights

    x_all = y.new_zeros(count, n) if x0 is None else x0.clone()
    if p.nonnegative:
        x_all.clamp_min_(0)
    gap_all, iterations = y.new_full((count,), torch.nan), torch.zeros(count, dtype=torch.int64, device=y.device)
    active = torch.arange(count, device=y.device)
    x, limit = x_all, lam[:, None] * weights
    before, t = x, y.new_ones(count, 1)
    gap, r = gap_and_gradient(p, x, y, limit)
    halved, stalls = gap, torch.zeros(count, dtype=torch.int64, device=y.device)
    done_blocks = 0
    while True:
        bad = ~torch.isfinite(gap)
        x_all[active] = torch.where(bad[:, None], torch.nan, x)
        gap_all[active] = torch.where(bad, torch.nan, gap)
        better = gap <= halved / 2
        halved, stalls = torch.where(better, gap, halved), torch.where(better, 0, stalls + 1)
        more = (gap > tol) & ~bad & (stalls <= PATIENCE)
        if not bool(more.any()) or done_blocks * BLOCK >= max_iter:
            return x_all, gap_all, iterations
        if not bool(more.all()):
            active, x, before, t = active[more], x[more], before[more], t[more]
            y, limit, gap, r = y[more], limit[more], gap[more], r[more]
            halved, stalls = halved[more], stalls[more]
        for _ in range(BLOCK):
            following = (1 + (1 + 4 * t.square()).sqrt()) / 2
            v = x + (t - 1) / following * (x - before)
            z = v + step * ((y - v @ p.A.mT) @ p.A - p.ridge * v)
            before, x = x, shrink(z, step * limit, p.nonnegative)
            against = ((v - x) * (x - before)).sum(-1, keepdim=True) > 0
            t = torch.where(against, torch.ones_like(t), following)
            before = torch.where(against, x, before)
        iterations[active] += BLOCK
        done_blocks += 1
        gap, r = gap_and_gradient(p, x, y, limit)
        if done_blocks > NEWTON_AFTER:
            candidate = x
            for _ in range(3):
                candidate = newton(p, candidate, r, limit)
                better, r_new = gap_and_gradient(p, candidate, y, limit)
                r = torch.where(torch.isfinite(better)[:, None], r_new, r)
            wins = better < gap
            x, gap = torch.where(wins[:, None], candidate, x), torch.where(wins, better, gap)
            before = torch.where(wins[:, None], x, before)
            t = torch.where(wins[:, None], torch.ones_like(t), t)


def solve_batched(
    p: Problem, y: Tensor, lam: Tensor, tol: float, x0: Tensor | None, max_iter: int
) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, n), relative gaps (B,) and iterations (B,), each sample until its gap is at most ``tol``.

    A sample that is done is left out of all further work.
    """
    m, n = p.A.shape
    gram = p.A @ p.A.mT if m < n else p.A.mT @ p.A
    largest = float(torch.linalg.eigvalsh(gram.double())[-1]) if gram.numel() else 0.0
    step = 1 / max(1.0001 * (largest + p.ridge), torch.finfo(y.dtype).tiny)
    rows = max(1, CHUNK // max(1, n))
    found = []
    for first in range(0, max(1, y.shape[0]), rows):
        some = slice(first, first + rows)
        found.append(_solve(p, y[some], lam[some], step, tol, None if x0 is None else x0[some], max_iter))
    x, gap, iterations = (torch.cat(parts) for parts in zip(*found, strict=True))
    return x, gap, iterations
