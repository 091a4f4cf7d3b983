"""What a person should see first in the numbers of a report, in plain sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from ..table import Table
from .decomposition import Decomposition

_MOVING, _STILL = 0.1, 0.01  # relative update
_WORSE_DB, _WORSE_KKT = 0.05, 1.01  # what an error must grow by before it counts, in dB and as a factor
_NEGLIGIBLE = 1e-3  # of the largest threshold
_DENSE, _EXPLODING = 0.3, 2.0  # density that is no longer sparse, and growth over one layer


def findings(layers: Table, parameters: Sequence[str], decomposition: Decomposition | None) -> list[str]:
    """Sentences on what moves, what gets worse, density, thresholds, and the decomposition."""
    sentences = [_movement(layers), _error(layers), _density(layers)]
    if "threshold" in parameters:
        sentences.append(_thresholds(layers))
    if decomposition is not None:
        sentences.append(_decomposition(decomposition))
    return [s for s in sentences if s]


def numbered(layers: Iterable[int]) -> str:
    """Layers by their numbers: [1, 2, 3, 7] is "layers 1–3 and 7"."""
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
    moving = [k for k, u in enumerate(updates, 1) if u >= _MOVING]
    still = [k for k, u in enumerate(updates, 1) if u < _STILL]
    if not any(updates):
        return "No layer moves anything: every iterate is zero."
    parts = []
    if moving:
        parts.append(f"{numbered(moving)} change{'s' * (len(moving) == 1)} the iterate by a tenth or more")
    if still:
        parts.append(f"{numbered(still)} change{'s' * (len(still) == 1)} it by less than 1 %")
    return _capital("; ".join(parts)) + "." if parts else "Every layer changes the iterate by less than a tenth."


def _error(layers: Table) -> str:
    in_db = layers[0].get("nmse_db") is not None
    values = _column(layers, "nmse_db" if in_db else "kkt_residual")
    if any(value is None or math.isnan(value) for value in values):
        return ""

    def is_worse(value: float, than: float) -> bool:
        return value > than + _WORSE_DB if in_db else value > than * _WORSE_KKT

    def text(value: float) -> str:
        return f"{value:.1f} dB" if in_db else f"{value:.2g}"

    # The zero that networks start from has an NMSE of 0 dB; its KKT residual depends on λ.
    before = [0.0 if in_db else math.inf, *values]
    worse = [k for k, (a, b) in enumerate(pairwise(before), 1) if is_worse(b, a)]
    best = min(range(len(values)), key=values.__getitem__)
    sentence = f"The {'NMSE' if in_db else 'KKT residual'} goes from {text(values[0])} to {text(values[-1])}"
    if is_worse(values[-1], values[best]):
        sentence += f" and is best, {text(values[best])}, after layer {best + 1}"
    verb = "makes" if len(worse) == 1 else "make"
    return sentence + (f"; {numbered(worse)} {verb} it worse." if worse else "; no layer makes it worse.")


def _density(layers: Table) -> str:
    density = _column(layers, "density")
    most = max(range(len(density)), key=density.__getitem__)
    text = f"The last iterate has {100 * density[-1]:.3g} % nonzeros"
    if density[most] > density[-1]:
        text += f", the fullest, of layer {most + 1}, {100 * density[most]:.3g} %"
    jumps = [k for k, (a, b) in enumerate(pairwise(density), 2) if b >= _DENSE and b >= _EXPLODING * a]
    return text + (f"; density explodes at {numbered(jumps)}." if jumps else ".")


def _thresholds(layers: Table) -> str:
    theta = _column(layers, "threshold")
    largest = max((t for t in theta if math.isfinite(t)), default=math.nan)
    gone = [k for k, t in enumerate(theta, 1) if t <= _NEGLIGIBLE * largest]
    if len(gone) == len(theta):
        return "All thresholds are zero: nothing is shrunk."
    odd = {
        "all but zero": gone,
        "infinite, so that nothing passes": [k for k, t in enumerate(theta, 1) if t == math.inf],
    }
    return " ".join(_said(numbers, what) for what, numbers in odd.items() if numbers)


def _said(layers: Sequence[int], what: str) -> str:
    several = len(layers) > 1
    return f"The threshold{'s' * several} of {numbered(layers)} {'are' if several else 'is'} {what}."


def _decomposition(d: Decomposition) -> str:
    last = d.layers[-1]
    text = f"The network ends {last['error']:.3g} from the reference"
    if last["ideal_error"] is not None:
        text += f", the ideal algorithm after as many steps {last['ideal_error']:.3g}"
    if d.rho > 1:
        worst = max(d.layers, key=lambda row: row["rate"])["layer"]
        text += f"; the ideal step can lead away from it (ρ = {d.rho:.3g}, at the input of layer {worst})"
    if any(last[name] is None or not math.isfinite(last[name]) for name in ("bound", "bound/error", "own_bound")):
        return text + ", and there is no finite bound."
    text += f"; the bound is {last['bound/error']:.3g} times the error"
    return text + (
        f", with each layer's own rate {last['own_bound'] / last['error']:.3g} times." if last["error"] else "."
    )
