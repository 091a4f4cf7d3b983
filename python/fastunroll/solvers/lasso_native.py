"""The Lasso in native code."""

from __future__ import annotations

from torch import Tensor

from .lasso_batched import Problem, solve_batched


def serves(A: Tensor) -> bool:
    return False


class Prepared:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def is_current(self) -> bool:
        return True

    def solve(
        self, y: Tensor, lam: Tensor, tol: float, x0: Tensor | None, max_iter: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        return solve_batched(self.problem, y, lam, tol, x0, max_iter)
