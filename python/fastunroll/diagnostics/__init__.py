"""Diagnoses unrolled networks layer by layer: parameters, errors, and the distance from the classical algorithm."""

from .decomposition import Decomposition
from .inspection import report
from .result import Report

__all__ = ["Decomposition", "Report", "report"]
