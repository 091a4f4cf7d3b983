"""Support selection: the number of largest magnitudes that a layer does not shrink."""

from __future__ import annotations

from numbers import Real

from .. import _checks
from ..prox import L1, Proximal, SupportSelection


def schedule(selection: tuple[float, float] | None, layers: int, n: int) -> tuple[int, ...]:
    """Returns the support size of each layer k, min(p·(k + 1), p_max) % of n, or () if ``selection`` is None."""
    if selection is None:
        return ()
    valid = isinstance(selection, (tuple, list)) and len(selection) == 2
    if not valid or not all(isinstance(p, Real) and 0 <= p <= 100 for p in selection):
        raise ValueError(
            "selection must be two percentages, (growth per layer, maximum), or None, got "
            f"{_checks.shown(selection)}: the literature uses (1.2, 13.0)"
        )
    growth, maximum = selection
    return tuple(round(min(growth * (k + 1), maximum) / 100 * n) for k in range(layers))


def threshold_with(selection: tuple[float, float] | None, layers: int, n: int) -> Proximal:
    """Returns the soft threshold with support selection, or without it if ``selection`` is None."""
    support_sizes = schedule(selection, layers, n)
    return SupportSelection(support_sizes) if support_sizes else L1()
