"""The speed of a network with the guarantee of a solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from .. import _checks
from .duality import duality_gap
from .lasso import Array, Lasso


def seconds_at(device: torch.device) -> float:
    """The time at which the device has done what was asked of it: CUDA is still busy when a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


@dataclass(frozen=True)
class CertifiedResult:
    """What a :class:`certified` network returns.

    Attributes:
        x: (..., n): the network's output where its gap was small enough, the solver's elsewhere, if that is better.
        gap: (...), relative duality gaps of x.
        converged: (...), whether the gap is at most the tolerance.
        refined: (...), whether the solver had to refine the sample.
        iterations: (...), the solver's steps.
        share: of samples that the solver had to finish.
        seconds: what was spent, by part: "network", "gap" and "solver".
    """

    x: Tensor
    gap: Tensor
    converged: Tensor
    refined: Tensor
    iterations: Tensor
    share: float
    seconds: dict[str, float]

    def __repr__(self) -> str:
        spent = ", ".join(f"{name} {1e3 * s:.3g} ms" for name, s in self.seconds.items())
        done = f"{int(self.converged.sum())} of {self.converged.numel()} converged"
        by_solver = f"{100 * self.share:.3g} % finished by the solver"
        return f"CertifiedResult(x={tuple(self.x.shape)}, {done}, {by_solver}; {spent})"


class certified:
    """A network whose every output is within ``tol`` of the optimum of min ½‖A x − y‖² + λ‖x‖₁, by its duality gap.

    The network runs first; the duality gap of each sample is measured; samples above ``tol`` go to the solver, which
    starts from the network's output. So the mean cost is the network's if it was trained for this problem (on the KKT
    residual, say), and the result is right whatever the network does.

    Args:
        model: takes y (..., m) and returns x (..., n): a network of :mod:`fastunroll.nn` or any function.
        A: (m, n), or a :class:`Lasso` of it, which may have been prepared before; without weights, ridge or sign
            constraint.
        lam: λ > 0: a number, or a function of y that returns one a sample (...).
        tol: relative to ½‖y‖². It decides what the solver has to do: networks reach 1e-2 to 1e-3.
        max_iter: steps of the solver, at most.

    Raises:
        TypeError: ``model`` cannot be called.
        ValueError: numbers out of range, or a :class:`Lasso` of another problem.

    Example::

        solve = fu.solvers.certified(net, A, lam=0.1, tol=1e-3)
        result = solve(y)
        print(result)             # how many the solver had to finish, and where the time went
        print(solve.compare(y))   # the same by the solver alone
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        A: Array | Lasso,
        lam: float | Callable[[Tensor], Tensor],
        tol: float = 1e-4,
        *,
        max_iter: int = 10000,
    ) -> None:
        if not callable(model):
            raise TypeError(f"model must be a network or a function of y, got {type(model).__name__}")
        self.model = model
        self.solver = A if isinstance(A, Lasso) else Lasso(A)
        if self.solver.weights is not None or self.solver.ridge or self.solver.nonnegative:
            raise ValueError("certified needs a plain Lasso(A): without weights, ridge or nonnegative")
        self.lam = lam if callable(lam) else _checks.positive("lam", lam)
        self.tol, self.max_iter = _checks.positive("tol", tol), _checks.count("max_iter", max_iter)

    def _lam(self, y: Tensor) -> Any:
        return self.lam(y) if callable(self.lam) else self.lam

    @torch.no_grad()
    def __call__(self, y: Tensor) -> CertifiedResult:
        """Runs the network on y (..., m), and the solver where that is not enough."""
        _checks.columns("y", _checks.tensor("y", y), self.solver.A.shape[0], self.solver.A.shape)
        begin = seconds_at(y.device)
        x = self.model(y)
        shape = (*y.shape[:-1], self.solver.A.shape[1])
        if _checks.tensor("the output of model", x).shape != shape:
            raise ValueError(
                f"model must return x of shape {_checks.shape_text(shape)}, got {_checks.shape_text(x.shape)}"
            )
        after_network = seconds_at(y.device)
        lam = self._lam(y)
        per_sample = lam[..., None] if isinstance(lam, Tensor) and lam.dim() else lam
        gap = duality_gap(x, y, self.solver.A, per_sample)
        finished = ~(gap <= self.tol)
        after_gap = seconds_at(y.device)
        iterations = torch.zeros(finished.shape, dtype=torch.int64, device=y.device)
        if bool(finished.any()):
            some = lam[finished] if isinstance(lam, Tensor) and lam.dim() else lam
            found = self.solver.solve(y[finished], some, tol=self.tol, x0=x[finished], max_iter=self.max_iter)
            x, gap = x.clone(), gap.clone()
            better = (found.gap < gap[finished]) | gap[finished].isnan()
            x[finished] = torch.where(better[:, None], found.x, x[finished])
            gap[finished] = torch.where(better, found.gap, gap[finished])
            iterations[finished] = found.iterations
        seconds = {
            "network": after_network - begin,
            "gap": after_gap - after_network,
            "solver": seconds_at(y.device) - after_gap,
        }
        share = float(finished.double().mean()) if finished.numel() else 0.0
        return CertifiedResult(x, gap, gap <= self.tol, finished, iterations, share, seconds)

    @torch.no_grad()
    def compare(self, y: Tensor) -> str:
        """One sentence: the time of the network with the solver, and of the solver alone, on these samples."""
        lam = self._lam(y)
        for run in (lambda: self(y), lambda: self.solver.solve(y, lam, tol=self.tol, max_iter=self.max_iter)):
            run()  # the first pays for what is kept
        result = self(y)
        begin = seconds_at(y.device)
        alone = self.solver.solve(y, lam, tol=self.tol, max_iter=self.max_iter)
        seconds, both = seconds_at(y.device) - begin, sum(result.seconds.values())
        return (
            f"{y[..., 0].numel()} samples to a gap of {self.tol:g}: network and solver {1e3 * both:.3g} ms "
            f"({100 * result.share:.3g} % finished by the solver, {int(result.converged.sum())} converged), "
            f"solver alone {1e3 * seconds:.3g} ms ({int(alone.converged.sum())} converged)"
        )
