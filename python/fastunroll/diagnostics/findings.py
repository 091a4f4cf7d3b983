"""Summarises the numbers of a report in a few plain sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from ..table import Table
from .decomposition import Decomposition

_LARGE_UPDATE, _SMALL_UPDATE = 0.1, 0.01  # relative updates of the iterate
_WORSE_DB, _WORSE_KKT = 0.05, 1.01  # smallest growth of an error that counts: of the NMSE in dB, of the KKT as a factor
_NEGLIGIBLE = 1e-3  # thresholds below this share of the largest threshold count as zero
# Density explodes at a layer whose output has at least this density and this growth over the layer before.
_EXPLODED_DENSITY, _EXPLODED_GROWTH = 0.3, 2.0


def findings(layers: Table, parameters: Sequence[str], decomposition: Decomposition | None) -> list[str]:
    """Returns sentences on the updates, the error, the density, the thresholds and the decomposition."""
    sentences = [_movement(layers), _error(layers), _density(layers)]
    if "threshold" in parameters:
        sentences.append(_thresholds(layers))
    if decomposition is not None:
        sentences.append(_decomposition(decomposition))
    return [s for s in sentences if s]


def numbered(layers: Iterable[int]) -> str:
    """Returns the text for a list of layers: "layers 1–3 and 7" for [1, 2, 3, 7]."""
    runs: list[list[int]] = []
    for k in layers:
        if runs and k == runs[-1][-1] + 1:
            runs[-1].append(k)
        else:
            runs.append([k])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs]
    several = len(runs) > 1 or len(runs[0]) > 1
    return f"layer{'s' * several} " + ", ".join(texts[:-1]) + " and " * (len(texts) > 1) + texts[-1]


def _column(layers: Table, name: str) -> list[Any]:
    return [row.get(name) for row in layers]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _movement(layers: Table) -> str:
    updates = _column(layers, "update")
    large = [k for k, u in enumerate(updates, 1) if u >= _LARGE_UPDATE]
    small = [k for k, u in enumerate(updates, 1) if u < _SMALL_UPDATE]
    if not any(updates):
        return "Every iterate is zero, so no layer changes anything."
    parts = []
    if large:
        parts.append(f"{numbered(large)} change{'s' * (len(large) == 1)} the iterate by a tenth or more")
    if small:
        parts.append(f"{numbered(small)} change{'s' * (len(small) == 1)} it by less than 1 %")
    return _capital(", ".join(parts)) + "." if parts else "Every layer changes the iterate by less than a tenth."


def _error(layers: Table) -> str:
    in_db = layers[0].get("nmse_db") is not None
    values = _column(layers, "nmse_db" if in_db else "kkt_residual")
    if any(value is None or math.isnan(value) for value in values):
        return ""

    def is_worse(value: float, than: float) -> bool:
        return value > than + _WORSE_DB if in_db else value > than * _WORSE_KKT

    def text(value: float) -> str:
        return f"{value:.1f} dB" if in_db else f"{value:.2g}"

    # Networks start from zero, which has an NMSE of 0 dB. The KKT residual of zero depends on λ.
    before = [0.0 if in_db else math.inf, *values]
    worse = [k for k, (a, b) in enumerate(pairwise(before), 1) if is_worse(b, a)]
    best = min(range(len(values)), key=values.__getitem__)
    sentence = f"The {'NMSE' if in_db else 'KKT residual'} goes from {text(values[0])} to {text(values[-1])}"
    if is_worse(values[-1], values[best]):
        sentence += f" and is best after layer {best + 1}, with {text(values[best])}"
    verb = "makes" if len(worse) == 1 else "make"
    return sentence + (f", and {numbered(worse)} {verb} it worse." if worse else ", and no layer makes it worse.")


def _density(layers: Table) -> str:
    density = _column(layers, "density")
    densest = max(range(len(density)), key=density.__getitem__)
    text = f"The last iterate has {100 * density[-1]:.3g} % nonzeros"
    if density[densest] > density[-1]:
        text += f", and the densest iterate, of layer {densest + 1}, has {100 * density[densest]:.3g} %"
    jumps = [k for k, (a, b) in enumerate(pairwise(density), 2) if b >= _EXPLODED_DENSITY and b >= _EXPLODED_GROWTH * a]
    return text + (f". The density explodes at {numbered(jumps)}." if jumps else ".")


def _thresholds(layers: Table) -> str:
    theta = _column(layers, "threshold")
    largest = max((t for t in theta if math.isfinite(t)), default=math.nan)
    negligible = [k for k, t in enumerate(theta, 1) if t <= _NEGLIGIBLE * largest]
    if len(negligible) == len(theta):
        return "All thresholds are zero, so no layer shrinks anything."
    unusual = {
        "practically zero": negligible,
        "infinite, so the output is zero": [k for k, t in enumerate(theta, 1) if t == math.inf],
    }
    return " ".join(_thresholds_are(value, numbers) for value, numbers in unusual.items() if numbers)


def _thresholds_are(value: str, layers: Sequence[int]) -> str:
    several = len(layers) > 1
    return f"The threshold{'s' * several} of {numbered(layers)} {'are' if several else 'is'} {value}."


def _decomposition(d: Decomposition) -> str:
    last = d.layers[-1]
    text = f"The network ends at distance {last['error']:.3g} from the reference"
    if last["ideal_error"] is not None:
        text += f", and the ideal algorithm at {last['ideal_error']:.3g} after the same number of steps"
    text += "."
    if d.rho > 1:
        worst = max(d.layers, key=lambda row: row["rate"])["layer"]
        text += f" The ideal step leads away from the reference at the input of layer {worst} (ρ = {d.rho:.3g})."
    if any(last[name] is None or not math.isfinite(last[name]) for name in ("bound", "bound/error", "own_bound")):
        return text + " There is no finite bound."
    text += f" The bound is {last['bound/error']:.3g} times the error"
    return text + (
        f", and {last['own_bound'] / last['error']:.3g} times with the rate of each layer." if last["error"] else "."
    )
