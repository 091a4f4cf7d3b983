"""Warnings of solvers, which point to the line of the caller."""

from __future__ import annotations

import sys
import warnings


class ConvergenceWarning(UserWarning):
    """Some samples diverged, or did not reach the tolerance asked for."""


class AdjointWarning(UserWarning):
    """An operator's ``adjoint`` is not its adjoint, so that gaps and results mean nothing."""


def warn(message: str, category: type[Warning]) -> None:
    """Warns at the line outside of this package from which the call came."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("fastunroll."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
