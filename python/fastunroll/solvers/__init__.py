"""Classical solvers, batched: one algorithm a file."""

from .fista import fista as fista
from .ista import ista as ista
from .lasso import Lasso as Lasso
from .lasso import LassoResult as LassoResult
from .lasso import lambda_max as lambda_max
from .lasso import lasso as lasso
from .lasso import lasso_path as lasso_path

__all__ = ["Lasso", "LassoResult", "fista", "ista", "lambda_max", "lasso", "lasso_path"]
