"""Networks with a certificate: a duality gap for each output, and a solver for outputs that miss the tolerance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from .. import _checks
from ..arrays import answer, from_array, is_array
from ..operators.convert import OperatorLike, matrix_or_operator
from ..operators.linear_operator import LinearOperator
from ..operators.products import batch_shape
from ..warn import no_convergence_warnings
from .duality import duality_gap
from .fista import fista
from .history import History
from .lasso import Lasso
from .sparse import is_sparse


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
    residual, say), and the result is right whatever the network does. The solver is :class:`Lasso` for a matrix, and
    :func:`fista` with restarts for an operator. An operator may hold something for each sample, so its solver gets the
    whole batch where any sample is above ``tol``.

    Args:
        model: takes y (..., m) and returns x (..., n): a network of :mod:`fastunroll.nn` or any function.
        A: (m, n), or a :class:`Lasso` of it, which may have been prepared before; without weights, ridge or sign
            constraint. Or a matrix for every sample (B, m, n), or any operator
            (:func:`fastunroll.operators.as_operator`), for y (..., *A.shape_out) and x (..., *A.shape_in).
        lam: λ > 0: a number, or a function of y that returns one a sample (...).
        tol: relative to ½‖y‖². It decides what the solver has to do: networks reach 1e-2 to 1e-3.
        max_iter: steps of the solver, at most.

    Raises:
        TypeError: ``model`` cannot be called, or A is neither a matrix nor an operator.
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
        A: Lasso | OperatorLike,
        lam: float | Callable[[Tensor], Tensor],
        tol: float = 1e-4,
        *,
        max_iter: int = 10000,
    ) -> None:
        if not callable(model):
            raise TypeError(f"model must be a network or a function of y, got {type(model).__name__}")
        self.model = model
        self.solver: Lasso | LinearOperator = _solver(A)
        self.lam = lam if callable(lam) else _checks.positive("lam", lam)
        self.tol, self.max_iter = _checks.positive("tol", tol), _checks.count("max_iter", max_iter)

    def _lam(self, y: Tensor) -> Any:
        return self.lam(y) if callable(self.lam) else self.lam

    @torch.no_grad()
    def __call__(self, y: Tensor) -> CertifiedResult:
        """Runs the network on y (..., m), and the solver where that is not enough."""
        given, y = y, from_array(y, "y") if is_array(y) else y
        samples, shape = self._shapes(_checks.tensor("y", y))
        begin = seconds_at(y.device)
        x = self.model(y)
        got = _checks.tensor("the output of model", x).shape
        if got[: len(samples)] != samples or (shape is not None and got != (*samples, *shape)):
            wanted = _checks.shape_text((*samples, *(("...",) if shape is None else shape)))
            raise ValueError(f"model must return x of shape {wanted}, got {_checks.shape_text(got)}")
        after_network = seconds_at(y.device)
        lam = self._lam(y)
        gap = duality_gap(x, y, self.solver.A if isinstance(self.solver, Lasso) else self.solver, _beside(lam, x))
        finished = ~(gap <= self.tol)
        after_gap = seconds_at(y.device)
        iterations = torch.zeros(finished.shape, dtype=torch.int64, device=y.device)
        if bool(finished.any()):
            found, found_gap, made = self._finish(y, lam, x, finished)
            better = finished & ((found_gap < gap) | gap.isnan())
            x, gap = torch.where(_beside(better, x), found, x), torch.where(better, found_gap, gap)
            iterations = torch.where(finished, made, iterations)
        seconds = {
            "network": after_network - begin,
            "gap": after_gap - after_network,
            "solver": seconds_at(y.device) - after_gap,
        }
        share = float(finished.double().mean()) if finished.numel() else 0.0
        x, gap, converged, done, made = (answer(v, given) for v in (x, gap, gap <= self.tol, finished, iterations))
        return CertifiedResult(x, gap, converged, done, made, share, seconds)

    def _shapes(self, y: Tensor) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
        """The dimensions that count samples, and the shape of one sample of x, if it is known."""
        if isinstance(self.solver, Lasso):
            _checks.columns("y", y, self.solver.A.shape[0], self.solver.A.shape)
            return tuple(y.shape[:-1]), (self.solver.A.shape[1],)
        return batch_shape(self.solver, y), self.solver.shape_in

    def _finish(self, y: Tensor, lam: Any, x: Tensor, some: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x, gaps and steps by the solver from x, for the samples that are True in ``some`` at least."""
        if not isinstance(self.solver, Lasso):
            return self._fista(y, lam, x)
        own = lam[some] if isinstance(lam, Tensor) and lam.dim() else lam
        with no_convergence_warnings():
            found = self.solver.solve(y[some], own, tol=self.tol, x0=x[some], max_iter=self.max_iter)
        gap = torch.full(some.shape, torch.nan, dtype=found.gap.dtype, device=y.device)
        steps = torch.zeros(some.shape, dtype=torch.int64, device=y.device)
        gap[some], steps[some] = found.gap, found.iterations
        x = x.clone()
        x[some] = found.x
        return x, gap, steps

    def _fista(self, y: Tensor, lam: Any, x0: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        history = History()
        like = y if x0 is None else x0
        if x0 is None and isinstance(lam, Tensor) and lam.dim():
            assert isinstance(self.solver, LinearOperator)
            like = self.solver.adjoint(y)
        with no_convergence_warnings():
            x = fista(
                self.solver, y, _beside(lam, like), x0=x0, tol=self.tol, iterations=self.max_iter, restart=True,
                history=history,
            )  # fmt: skip
        assert history.samples is not None
        return x, history.samples.gap, history.samples.iterations

    def _alone(self, y: Tensor, lam: Any) -> Tensor:
        """The gaps that the solver reaches without the network."""
        if not isinstance(self.solver, Lasso):
            return self._fista(y, lam, None)[1]
        with no_convergence_warnings():
            gap: Tensor = self.solver.solve(y, lam, tol=self.tol, max_iter=self.max_iter).gap
        return gap

    @torch.no_grad()
    def compare(self, y: Tensor) -> str:
        """One sentence: the time of the network with the solver, and of the solver alone, on these samples."""
        y = from_array(y, "y") if is_array(y) else y
        lam = self._lam(y)
        for run in (lambda: self(y), lambda: self._alone(y, lam)):
            run()  # the first pays for what is kept
        result = self(y)
        begin = seconds_at(y.device)
        alone = self._alone(y, lam)
        seconds, both = seconds_at(y.device) - begin, sum(result.seconds.values())
        return (
            f"{alone.numel()} samples to a gap of {self.tol:g}: network and solver {1e3 * both:.3g} ms "
            f"({100 * result.share:.3g} % finished by the solver, {int(result.converged.sum())} converged), "
            f"solver alone {1e3 * seconds:.3g} ms ({int((alone <= self.tol).sum())} converged)"
        )


def _solver(A: Any) -> Lasso | LinearOperator:
    """The solver that finishes: a Lasso, or an operator for FISTA."""
    if not isinstance(A, Lasso):
        found = A if is_sparse(A) else matrix_or_operator(A)
        if isinstance(found, LinearOperator):
            return found
        A = Lasso(found)
    if A.weights is not None or A.ridge or A.nonnegative:
        raise ValueError("certified needs a plain Lasso(A): without weights, ridge or nonnegative")
    return A


def _beside(values: Any, x: Tensor) -> Any:
    """Numbers of each sample, (...), such that they broadcast with x."""
    if not isinstance(values, Tensor) or not values.dim():
        return values
    return values.reshape(*values.shape, *[1] * (x.dim() - values.dim()))
