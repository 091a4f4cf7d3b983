"""Tables of numbers whose rows are dictionaries. ``print`` shows them as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e6 else f"{value:.4g}"
    return str(value)


class Table(list[dict[str, Any]]):
    """A list of rows. Each row is a dictionary of values by the names of the columns."""

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__(dict(row) for row in rows)

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(name for row in self for name in row))

    def _cells(self) -> list[list[str]]:
        columns = self.columns
        return [columns, *([_cell(row.get(name)) for name in columns] for row in self)]

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells)

    def markdown(self) -> str:
        """Returns the table in Markdown."""
        head, *rows = self._cells()
        lines = [head, ["---:"] * len(head), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
