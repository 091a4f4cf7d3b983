"""Classical solvers for batches of samples. Each file has one algorithm."""

from ..warn import AdjointWarning, ConvergenceWarning
from .admm import admm
from .amp import amp
from .certified import CertifiedResult, certified
from .duality import duality_gap
from .fista import fista
from .history import History
from .ista import ista
from .lambda_max import lambda_max
from .lasso import Lasso, LassoResult
from .lasso_call import lasso, lasso_path
from .primal_dual import primal_dual

__all__ = [
    "AdjointWarning",
    "CertifiedResult",
    "ConvergenceWarning",
    "History",
    "Lasso",
    "LassoResult",
    "admm",
    "amp",
    "certified",
    "duality_gap",
    "fista",
    "ista",
    "lambda_max",
    "lasso",
    "lasso_path",
    "primal_dual",
]
