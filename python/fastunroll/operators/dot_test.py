"""The dot test of solvers: whether ``A.adjoint`` is the adjoint of A, on which steps and duality gaps depend."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from .._checks import shape_text
from ..samples import column, inner, inner_by_parts, norm, random_directions
from ..units import units
from ..warn import AdjointWarning, warn
from .known import Known, known
from .products import leaving


class Products(Protocol):
    """A x and Aᴴ y, for batches of samples."""

    def forward(self, x: Tensor, /) -> Tensor: ...

    def adjoint(self, y: Tensor, /) -> Tensor: ...


def examine(op: Any, A: Products, x: Tensor, y: Tensor) -> Known:
    """One product with A and one with Aᴴ: ⟨A u, v⟩ = ⟨u, Aᴴ v⟩ for random u and v, for each sample; what is known of A.

    ``x`` and ``y`` are batches such as A, the products of ``op``, takes. It is judged where it is not known already.

    Raises:
        ValueError: A mixes samples, or writes to its argument.

    Warns:
        AdjointWarning: A and Aᴴ do not fit.
    """
    u, v = _directions(x, y)
    measured, back = leaving("A", A.forward, u), leaving("A.adjoint", A.adjoint, v)
    seen = torch.stack([inner_by_parts(measured, v), inner_by_parts(u, back)])
    found = known(op, (x.shape, x.dtype, y.shape, y.dtype, y.device), seen)
    if not found.sound:
        found.sound = _judge(measured, back, u, v)
    return found


_KEPT = 1 << 25  # bytes of the largest directions that are kept
_latest: tuple[Any, tuple[Tensor, Tensor]] = None, (torch.empty(0), torch.empty(0))


def _directions(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Random u and v of norm 1 for each sample: always the same for the same shapes."""
    global _latest
    kind = x.shape, x.dtype, y.shape, y.dtype, y.device
    latest, found = _latest
    if latest != kind or any(t._version for t in found):  # an operator may write to what it is given
        generator = torch.Generator().manual_seed(0)
        found = random_directions(x, generator), random_directions(y, generator)
        if max(t.nbytes for t in found) <= _KEPT and not torch.is_inference_mode_enabled():
            _latest = kind, found
    return found


def _judge(measured: Tensor, back: Tensor, u: Tensor, v: Tensor) -> bool:
    """Whether A u and Aᴴ v fit.

    Of random u and v of norm 1 both products are about ‖A u‖/√m and ‖Aᴴ v‖/√n in size; what differs by more than half
    of the digits of that is no rounding. Where the products of all samples together are the same and those of some
    sample are not, A mixes samples: it takes what are called samples for one signal.
    """
    unit = units(torch.cat([measured.abs().flatten(1), back.abs().flatten(1)], 1))  # no square vanishes
    measured, back = measured / column(unit, measured), back / column(unit, back)
    left, right = inner(measured, v), inner(u, back)
    size = torch.maximum(norm(measured) / v[0].numel() ** 0.5, norm(back) / u[0].numel() ** 0.5)
    precision = torch.finfo(size.dtype)
    limit = precision.eps**0.5 * size + 1e3 * precision.tiny / unit  # near the smallest numbers rounding is coarser
    apart = left - right
    wrong = apart.abs() > limit  # what is not finite is not: others refuse it, or keep it within its sample
    if not bool(wrong.any()):
        return True
    finite, share = torch.isfinite(apart), unit / unit.max()  # in one unit for all
    if bool((share * apart)[finite].sum().abs() <= torch.linalg.vector_norm((share * limit)[finite])):
        shape = shape_text(v.shape[1:])
        raise ValueError(
            f"A must treat the samples of a batch apart, but it mixes them: y of shape {shape_text(v.shape)} counts as "
            f"{len(v)} samples of shape {shape}, so give y[None] if it is one signal, or state the shape of one in "
            "A.shape_out"
        )
    worst = int(torch.where(wrong, apart.abs() / limit, 0.0).argmax())
    measured_product, back_product = (float(product[worst] * unit[worst]) for product in (left, right))
    warn(
        f"A.adjoint must be the adjoint of A, but for random x and y ⟨A x, y⟩ = {measured_product:.6g} and "
        f"⟨x, A.adjoint(y)⟩ = {back_product:.6g}: steps, gaps and results mean nothing until it is, with A linear",
        AdjointWarning,
    )
    return False
