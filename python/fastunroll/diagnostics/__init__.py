"""Diagnoses unrolled networks layer by layer: parameters, errors, and the distance from the classical algorithm."""

from .decomposition import Decomposition as Decomposition
from .inspection import report as report
from .result import Report as Report

__all__ = ["Decomposition", "Report", "report"]
