"""Random compositions of operators of imaging, each with its dense matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastunroll as fu
import torch
from fastunroll.operators.restricted import Restricted, restricted
from torch import Tensor

from . import matrices
from .draw import Draw
from .imaging import KINDS, SQUARE, Held, Operator, Pictures, one
from .matrices import Size
from .subject import Leaves

lin = fu.operators


def _parts(first: Operator, *others: Operator) -> dict[str, Any]:
    parts = (first, *others)
    return {
        "leaves": {name: t for part in parts for name, t in part.leaves.items()},
        "of_samples": tuple(name for part in parts for name in part.of_samples),
        "is_each": any(part.is_each for part in parts),
        "is_real": any(part.is_real for part in parts),
    }


def _like(op: Operator, p: Pictures, size: Size) -> Pictures:
    return Pictures(p.real, p.is_complex or op.is_real, size, p.lead)


def composed(d: Draw, p: Pictures) -> Operator:
    """A B, where B is an operator on pictures, or the inverse of a transform."""
    inner = one(d, p, SQUARE, "inner ")
    inverse = d.chance("adjoint inside", 0.5) and not inner.leaves
    size = inner.shape_out
    if len(size) != p.dims:
        return inner
    outer = one(d, _like(inner, p, size), [name for name in KINDS if name != "Convolution"], "outer ")
    if len(outer.shape_in) != p.dims:
        return outer

    def make(v: Leaves, learn: bool) -> Any:
        made = inner.make(v, learn)
        return outer.make(v, learn) @ (made.H if inverse else made)

    def matrix(op: Any) -> Tensor:
        first, second = op.operators
        A, B = outer.matrix(first), inner.matrix(second.operator if inverse else second)
        B = B.mH if inverse else B
        dtype = torch.promote_types(A.dtype, B.dtype)
        return A.to(dtype) @ B.to(dtype)

    return Operator(make, matrix, p.size, outer.shape_out, **_parts(outer, inner))


def several(d: Draw, p: Pictures) -> Operator:
    """Operators on the same pictures: one above the other, or their sum."""
    first = one(d, p, ("Blur", "circular Blur", "Fourier", "Mask", "DCT", "Wavelet"), "first ")
    if len(first.shape_in) != p.dims:
        return first
    second = one(d, p, ("Fourier",) if first.is_real else ("Mask", "circular Blur"), "second ")
    if first.shape_out != second.shape_out:
        return first
    is_sum = d.chance("sum", 0.5)
    each = first.is_each or second.is_each  # whose results have an unknown number of dimensions
    kind = lin.Sum if is_sum or each else lin.Stack
    d.say(f"composition={kind.__name__}")

    def matrix(op: Any) -> Tensor:
        A, B = first.matrix(op.operators[0]), second.matrix(op.operators[1])
        if kind is lin.Stack:
            return matrices.stacked(A, B)
        return A.to(torch.promote_types(A.dtype, B.dtype)) + B

    shape_out = first.shape_out if kind is lin.Sum else (2, *first.shape_out)
    return Operator(
        lambda v, learn: kind(first.make(v, learn), second.make(v, learn)), matrix, p.size, shape_out,
        **_parts(first, second),
    )  # fmt: skip


def scaled(d: Draw, p: Pictures) -> Operator:
    """c A."""
    op = one(d, p, KINDS)
    factor: Any = d.pick("factor of", ["number", "tensor", "complex number"])
    if factor == "complex number" and not (p.is_complex or op.is_real):
        factor = "number"
    number = complex(d.uniform(0.3, 1), d.uniform(-1, 1)) if factor == "complex number" else d.uniform(-1, 1)
    parts = _parts(op)
    if factor == "tensor":
        parts["leaves"]["factor"] = torch.tensor(number, dtype=p.real)

    def make(v: Leaves, learn: bool) -> Any:
        if factor != "tensor":
            return number * op.make(v, learn)
        c = v["factor"]
        return op.make(v, learn) * (torch.nn.Parameter(c.detach().clone()) if learn else c)

    def matrix(made: Any) -> Tensor:
        A = op.matrix(made.operator)
        return A * made.factor

    return Operator(make, matrix, op.shape_in, op.shape_out, **parts)


def kept(d: Draw, p: Pictures) -> Operator:
    """diag(keep) A, some measurements of A."""
    op = one(d, p, KINDS)
    held = Held(d, p, "keep ")
    shape = tuple(1 if d.random.random() < 0.3 else n for n in op.shape_out)
    keep = held.keep("keep", (torch.rand(shape, dtype=torch.float64) < 0.7).to(p.real))
    parts = _parts(op)
    parts["leaves"] |= held.leaves

    def matrix(made: Any) -> Tensor:
        if not isinstance(made, Restricted):
            return op.matrix(made)  # whose mask has the weights
        return matrices.masked(made.keep, op.matrix(made.operator), op.shape_out)

    return Operator(
        lambda v, learn: restricted(op.make(v, learn), v[keep]), matrix, op.shape_in, op.shape_out, learns=False,
        **parts,
    )  # fmt: skip


def reversed_(d: Draw, p: Pictures) -> Operator:
    """Aᴴ."""
    op = one(d, p, KINDS)
    if op.is_real:  # whose y are of another type
        return op
    return Operator(
        lambda v, learn: op.make(v, learn).H, lambda made: op.matrix(made.operator).mH, op.shape_out, op.shape_in,
        **_parts(op),
    )  # fmt: skip


COMPOSITIONS: dict[str, Callable[[Draw, Pictures], Operator]] = {
    "composed": composed, "several": several, "scaled": scaled, "restricted": kept, "adjoint": reversed_,
}  # fmt: skip


def operator(d: Draw, p: Pictures) -> Operator:
    if d.chance("composition", 0.3):
        return COMPOSITIONS[d.pick("composition", list(COMPOSITIONS))](d, p)
    return one(d, p, KINDS)
