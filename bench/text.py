"""How the pages of results write cases, numbers and rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

LOAD_BOUND = "bound: multiply-adds with rows of a cached block, GFLOP/s"


def label(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in fields.items())


def digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in cells) + " |"
