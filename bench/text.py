"""Formats cases, numbers and rows for the pages of results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

LOAD_BOUND = "bound: multiply-adds with rows of a cached block, GFLOP/s"


def label(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in fields.items())


def digits(value: float) -> str:
    """Returns a number with three significant digits, without an exponent."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in cells) + " |"


def table(head: Sequence[str], names: int, rows: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table whose first columns are names and whose other columns are numbers."""
    rule = ["---" if i < names else "---:" for i in range(len(head))]
    return "\n".join(map(row, (head, rule, *rows)))


def median(found: Mapping[str, float]) -> str:
    return digits(found["median"])


def quartiles(found: Mapping[str, float], scale: float = 1.0) -> str:
    middle, q1, q3 = (digits(scale * found[q]) for q in ("median", "q1", "q3"))
    return middle if q1 == q3 else f"{middle} [{q1}–{q3}]"


def ratio(found: Mapping[str, float], show: Callable[[Mapping[str, float]], str] = quartiles) -> str:
    """Returns the time of a rival over that of fastunroll, with a mark if fastunroll loses."""
    return ("▼ " if found["median"] < 1 else "") + show(found)
