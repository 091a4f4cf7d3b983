"""Warnings of solvers, which point to the line of the caller."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor


class ConvergenceWarning(UserWarning):
    """Some samples diverged, or did not reach the tolerance asked for."""


class AdjointWarning(UserWarning):
    """An operator's ``adjoint`` is not its adjoint, so that gaps and results mean nothing."""


@contextmanager
def no_convergence_warnings() -> Iterator[None]:
    """For callers who say themselves which samples have converged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def warn(message: str, category: type[Warning]) -> None:
    """Warns at the line outside of this package, and of PyTorch's modules, from which the call came."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(("fastunroll.", "torch.")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def warn_unless_converged(name: str, gap: Tensor, converged: Tensor, tol: float, iterations: int) -> None:
    """Warns of samples whose gap, of shape (...), is still above ``tol`` after the last of all ``iterations``."""
    if bool(converged.all()):
        return
    numbers = gap[~converged & gap.isfinite()]
    if numbers.numel():
        advice = f"(the largest is at {float(numbers.max()):.1e}): allow more iterations or a larger tol"
    else:
        advice = "since they hold NaN or infinity: check y, and how large x is"
    warn(
        f"{name}: {int((~converged).sum())} of {converged.numel()} samples did not reach tol = {tol:g} within "
        f"{iterations} iterations {advice}",
        ConvergenceWarning,
    )
