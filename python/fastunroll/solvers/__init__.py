"""Classical solvers for batches of samples. Each file has one algorithm."""

from ..warn import AdjointWarning as AdjointWarning
from ..warn import ConvergenceWarning as ConvergenceWarning
from .admm import admm as admm
from .amp import amp as amp
from .certified import CertifiedResult as CertifiedResult
from .certified import certified as certified
from .duality import duality_gap as duality_gap
from .fista import fista as fista
from .history import History as History
from .ista import ista as ista
from .lambda_max import lambda_max as lambda_max
from .lasso import Lasso as Lasso
from .lasso import LassoResult as LassoResult
from .lasso_call import lasso as lasso
from .lasso_call import lasso_path as lasso_path

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
]
