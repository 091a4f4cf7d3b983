"""Support selection: which of the largest magnitudes pass a threshold unshrunk."""

from __future__ import annotations

from numbers import Real

from .. import _checks


def schedule(selection: tuple[float, float] | None, layers: int, n: int) -> tuple[int, ...]:
    """How many of n pass in each layer: the first percentage, times k + 1, at most the second; nothing for None."""
    if selection is None:
        return ()
    valid = isinstance(selection, (tuple, list)) and len(selection) == 2
    if not valid or not all(isinstance(p, Real) and 0 <= p <= 100 for p in selection):
        raise ValueError(
            "selection must be two percentages, (more in each layer, at most), or None, got "
            f"{_checks.shown(selection)}: the literature uses (1.2, 13.0)"
        )
    percent, most = selection
    return tuple(round(min(percent * (k + 1), most) / 100 * n) for k in range(layers))
