"""Whether the adjoint of an operator is its adjoint: what steps, gaps and residuals of a solver rest on."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .._checks import shape_text
from .samples import column, inner, norm, random_directions
from .units import units
from .warn import AdjointWarning, warn


class Products(Protocol):
    """A x and Aᴴ y, for batches of samples."""

    def forward(self, x: Tensor, /) -> Tensor: ...

    def adjoint(self, y: Tensor, /) -> Tensor: ...


def examine(A: Products, x: Tensor, y: Tensor) -> Tensor:
    """One product with A and one with Aᴴ: ⟨A u, v⟩ = ⟨u, Aᴴ v⟩ for random u and v, for each sample.

    ``x`` and ``y`` are batches such as A takes. Of random u and v of norm 1 both products are about ‖A u‖/√m and
    ‖Aᴴ v‖/√n in size; what differs by more than half of the digits of that is no rounding. Where the products of all
    samples together are the same and those of some sample are not, A mixes samples: it takes what are called samples
    for one signal.

    Returns:
        (5, B): what was seen of both products, by which :func:`fastunroll.solvers.known.kept` knows A again.

    Raises:
        ValueError: A mixes samples.

    Warns:
        AdjointWarning: A and Aᴴ do not fit.
    """
    generator = torch.Generator().manual_seed(0)
    u, v = random_directions(x, generator), random_directions(y, generator)
    measured, back = A.forward(u), A.adjoint(v)
    unit = units(torch.cat([measured.abs().flatten(1), back.abs().flatten(1)], 1))  # no square vanishes
    measured, back = measured / column(unit, measured), back / column(unit, back)
    left, right = inner(measured, v), inner(u, back)
    sizes = norm(measured), norm(back)
    seen = torch.stack([unit, left, right, *sizes])
    size = torch.maximum(sizes[0] / y[0].numel() ** 0.5, sizes[1] / x[0].numel() ** 0.5)
    precision = torch.finfo(size.dtype)
    limit = precision.eps**0.5 * size + 1e3 * precision.tiny / unit  # near the smallest numbers rounding is coarser
    apart = left - right
    wrong = apart.abs() > limit  # what is not finite is not: others refuse it, or keep it within its sample
    if not bool(wrong.any()):
        return seen
    finite, share = torch.isfinite(apart), unit / unit.max()  # in one unit for all
    if bool((share * apart)[finite].sum().abs() <= torch.linalg.vector_norm((share * limit)[finite])):
        shape = shape_text(y.shape[1:])
        raise ValueError(
            f"A must treat the samples of a batch apart, but it mixes them: y of shape {shape_text(y.shape)} counts as "
            f"{len(y)} samples of shape {shape}, so give y[None] if it is one signal, or state the shape of one in "
            "A.shape_out"
        )
    worst = int(torch.where(wrong, apart.abs() / limit, 0.0).argmax())
    measured_product, back_product = (float(product[worst] * unit[worst]) for product in (left, right))
    warn(
        f"A.adjoint must be the adjoint of A, but for random x and y ⟨A x, y⟩ = {measured_product:.6g} and "
        f"⟨x, A.adjoint(y)⟩ = {back_product:.6g}: steps, gaps and results mean nothing until it is, with A linear",
        AdjointWarning,
    )
    return seen
