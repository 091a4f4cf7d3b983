"""Classical solvers, batched: one algorithm a file."""

from .admm import admm as admm
from .amp import amp as amp
from .duality import duality_gap as duality_gap
from .fista import fista as fista
from .history import ConvergenceWarning as ConvergenceWarning
from .history import History as History
from .ista import ista as ista

__all__ = ["ConvergenceWarning", "History", "admm", "amp", "duality_gap", "fista", "ista"]
