"""The base class of operators that are made of one other operator."""

from __future__ import annotations

from .linear_operator import LinearOperator


class Derived(LinearOperator):
    """An operator made of an operator A. It has the samples and the norm of A unless a subclass has others.

    Args:
        op: A.

    Raises:
        TypeError: ``op`` is no :class:`LinearOperator`.
    """

    def __init__(self, op: LinearOperator) -> None:
        super().__init__()
        self.operator: LinearOperator = require_operator(op)

    @property
    def own_batch(self) -> tuple[int, ...]:
        return self.operator.own_batch

    def stated_norm(self) -> float | None:
        """That of A."""
        return self.operator.stated_norm()

    def norm(self) -> float:
        """That of A."""
        return self.operator.norm()

    @property
    def solves(self) -> bool:
        """Whether A has a solve that is better than conjugate gradients."""
        return self.operator.solves


def require_operator(op: object) -> LinearOperator:
    if not isinstance(op, LinearOperator):
        fix = "*operators" if isinstance(op, (list, tuple)) else "fu.operators.as_operator(op)"
        raise TypeError(f"an operator must be a fu.operators.LinearOperator, got {type(op).__name__}: use {fix}")
    return op
