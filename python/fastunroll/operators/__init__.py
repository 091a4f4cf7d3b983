"""Linear operators: write ``forward`` and ``adjoint``, and use them in every solver, loss and network."""

from .check import check as check
from .composition import Adjoint as Adjoint
from .composition import Composed as Composed
from .composition import Identity as Identity
from .composition import Scaled as Scaled
from .composition import Sum as Sum
from .convert import as_operator as as_operator
from .dense import Dense as Dense
from .linear_operator import LinearOperator as LinearOperator

__all__ = ["Adjoint", "Composed", "Dense", "Identity", "LinearOperator", "Scaled", "Sum", "as_operator", "check"]
