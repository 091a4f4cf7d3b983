"""Classical solvers, batched: one algorithm a file."""

from .fista import fista as fista
from .ista import ista as ista

__all__ = ["fista", "ista"]
