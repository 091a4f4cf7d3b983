"""Linear operators: ``op(x)``, ``op.adjoint(y)``, ``op.gradient(x, y)``, ``op.norm()``."""

from .dense import Dense as Dense

__all__ = ["Dense"]
