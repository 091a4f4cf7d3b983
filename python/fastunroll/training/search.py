"""Searches the three numbers of HyperLISTA, which have no useful gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import torch

from .. import _checks
from ..data import Samples
from ..nn import HyperLISTA
from .arguments import loss_value, require_callable, require_network
from .losses import Loss, supervised
from .samples import checked_samples

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
    """Searches the numbers c₁, c₂, c₃ of HyperLISTA, sets them in place, and returns their loss.

    A grid search finds the starting point, and the simplex method of Nelder and Mead improves it. The grid search uses
    the first 256 samples. The simplex method uses all samples, because a few hard samples dominate the pooled error.

    Args:
        model: the network.
        samples: the pair (y, x) that the loss is measured on, a few thousand samples. x may be None if the loss needs
            no ground truth.
        loss: see :mod:`fastunroll.training`.
        grid: the candidate values of "c1", "c2" and "c3".
        steps: the number of steps of the simplex method.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: ``grid`` lacks c1, c2 or c3, or has no value for it; a value is negative; or ``steps`` < 1.

    Reference: Nelder and Mead, *A simplex method for function minimization*, 1965.
    """
    require_network(model, HyperLISTA)
    require_callable("loss", loss)
    steps = _checks.count("steps", steps)
    points = [torch.tensor(c, dtype=torch.float64) for c in product(*_grid(grid))]
    checked = checked_samples("samples", samples)

    def loss_at(c: torch.Tensor, count: int | None = None) -> float:
        y, x = checked.y[:count], None if checked.x is None else checked.x[:count]
        model.c.copy_(c)
        value = float(loss_value(loss(model(y), y, x)))
        return value if value == value else float("inf")

    start = model.c.clone()
    try:
        best = _nelder_mead(loss_at, min(points, key=lambda c: loss_at(c, 256)), steps)
        return loss_at(best.abs())
    except BaseException:
        model.c.copy_(start)
        raise


def _grid(grid: object) -> list[list[float]]:
    """Returns the candidate values of c₁, c₂ and c₃."""
    if not isinstance(grid, Mapping):
        raise TypeError(f"grid must map c1, c2 and c3 to values, got {_checks.shown(grid)}")
    if grid.keys() != GRID.keys():
        raise ValueError(f"grid must have values of c1, c2 and c3, got {', '.join(map(str, grid))}")
    for name, values in grid.items():
        if not isinstance(values, (list, tuple)) or not values:
            raise ValueError(f"grid[{name!r}] must be a list of at least one number, got {_checks.shown(values)}")
    return [[_checks.not_negative(f"a value of grid[{name!r}]", v) for v in grid[name]] for name in GRID]


def _nelder_mead(value: Callable[[torch.Tensor], float], start: torch.Tensor, steps: int) -> torch.Tensor:
    """Returns the point that Nelder and Mead's simplex method finds from ``start``."""
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
