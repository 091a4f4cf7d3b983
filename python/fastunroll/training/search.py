"""Search for parameters that have no useful gradient: HyperLISTA's three numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import torch

from .. import _checks
from ..data import Samples
from ..nn import HyperLISTA
from .arguments import function, loss_value, network
from .losses import Loss, supervised
from .samples import checked

GRID: Mapping[str, Sequence[float]] = {
    "c1": (0.01, 0.02, 0.03, 0.05, 0.07, 0.1),
    "c2": (0.0, 0.01, 0.02, 0.035),
    "c3": (5.0, 10.0, 20.0, 40.0, 60.0),
}


@torch.no_grad()
def search(
    model: HyperLISTA,
    samples: Samples | tuple[torch.Tensor, torch.Tensor | None],
    *,
    loss: Loss = supervised,
    grid: Mapping[str, Sequence[float]] = GRID,
    steps: int = 60,
) -> float:
    """Sets c₁, c₂, c₃ in place to the best of a grid, improved by Nelder and Mead's simplex; returns their loss.

    The grid is judged by the first 256 samples, the simplex by all: a few hard ones decide where a pooled error ends.

    Args:
        model: whose numbers are searched.
        samples: (y, x) to judge by, some thousands; x may be None for a loss that needs no truth.
        loss: see :mod:`fastunroll.training`.
        grid: values of each number.
        steps: of the simplex.

    Raises:
        TypeError: an argument is of another kind.
        ValueError: ``grid`` lacks one of c1, c2, c3 or a value of it; a value is negative; or steps < 1.

    Reference: Nelder and Mead, *A simplex method for function minimization*, 1965.
    """
    network(model, HyperLISTA)
    function("loss", loss)
    steps = _checks.count("steps", steps)
    points = [torch.tensor(c, dtype=torch.float64) for c in product(*_grid(grid))]
    judged = checked("samples", samples)

    def value(c: torch.Tensor, count: int | None = None) -> float:
        y, x = judged.y[:count], None if judged.x is None else judged.x[:count]
        model.c.copy_(c)
        found = float(loss_value(loss(model(y), y, x)))
        return found if found == found else float("inf")

    start = model.c.clone()
    try:
        best = _simplex(value, min(points, key=lambda c: value(c, 256)), steps)
        return value(best.abs())
    except BaseException:
        model.c.copy_(start)
        raise


def _grid(grid: object) -> list[list[float]]:
    """The values of c₁, c₂, c₃."""
    if not isinstance(grid, Mapping):
        raise TypeError(f"grid must map c1, c2 and c3 to values, got {_checks.shown(grid)}")
    if grid.keys() != GRID.keys():
        raise ValueError(f"grid must have values of c1, c2 and c3, got {', '.join(map(str, grid))}")
    for name, values in grid.items():
        if not isinstance(values, (list, tuple)) or not values:
            raise ValueError(f"grid[{name!r}] must be a list of at least one number, got {_checks.shown(values)}")
    return [[_checks.not_negative(f"a value of grid[{name!r}]", v) for v in grid[name]] for name in GRID]


def _simplex(value: Callable[[torch.Tensor], float], start: torch.Tensor, steps: int) -> torch.Tensor:
    size = len(start)
    corners = [(value(start), start)]
    for i in range(size):
        moved = start.clone()
        moved[i] = moved[i] * 1.2 if moved[i] else 0.005
        corners.append((value(moved), moved))
    for _ in range(steps):
        corners.sort(key=lambda corner: corner[0])
        centre = torch.stack([c for _, c in corners[:-1]]).mean(0)
        worst_value, worst = corners[-1]

        def at(t: float, centre: torch.Tensor = centre, worst: torch.Tensor = worst) -> tuple[float, torch.Tensor]:
            point = centre + t * (centre - worst)
            return value(point), point

        reflected = at(1.0)
        if reflected[0] < corners[0][0]:
            corners[-1] = min(reflected, at(2.0), key=lambda corner: corner[0])
        elif reflected[0] < corners[-2][0]:
            corners[-1] = reflected
        else:
            inside = at(0.5 if reflected[0] < worst_value else -0.5)
            if inside[0] < min(worst_value, reflected[0]):
                corners[-1] = inside
            else:
                first = corners[0][1]
                corners[1:] = [(value(p), p) for p in (first + 0.5 * (c - first) for _, c in corners[1:])]
    return min(corners, key=lambda corner: corner[0])[1]
