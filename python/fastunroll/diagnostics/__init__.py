"""What each layer of an unrolled network does: its parameters, its errors, and how far it is from its algorithm."""

from .decomposition import Decomposition as Decomposition
from .inspection import report as report
from .result import Report as Report

__all__ = ["Decomposition", "Report", "report"]
