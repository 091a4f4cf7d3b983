"""The direct way of a product: a native call that looks at its tensors itself, before anything is asked in Python.

A question in Python takes as long as a product with a small picture. So a way asks few, and declines by None where a
tensor is not as usual, where a gradient is recorded, or where PyTorch has to see the call. The method itself then says
what is wrong, or computes the product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from .. import ops
from ..ops.tensors import is_batched

if TYPE_CHECKING:
    from .pictures import PictureOperator

Method = TypeVar("Method", bound=Callable[..., Any])
FULL = torch.float32, torch.float64  # in which kernels compute
AT_ONCE = 1 << 22  # bytes of what is computed at once, where pictures go one after the other
COILS_AT_ONCE = 1 << 20  # and where their coils do

_is_traced: Callable[[], bool] = torch._C._is_tracing


# What is kept of a tensor of an operator, such as a packed spectrum. A call takes the monitor of the tensor, the tensor
# itself, what a product is given, how many threads, and whether gradients are recorded. It returns the product, None
# where native code cannot compute it, or False where the monitor finds that the tensor has changed.
Kept = Callable[..., "Tensor | bool | None"]


def directly(way: Callable[..., Tensor | None]) -> Callable[[Method], Method]:
    """Gives a method of an operator a direct way: ``way(op, *arguments)``."""

    def decorate(method: Method) -> Method:
        method.way = way  # type: ignore[attr-defined]
        return method

    return decorate


def held(op: torch.nn.Module, name: str) -> Tensor:
    """The tensor of an operator: quickly, where it is a buffer."""
    found = op._buffers.get(name)
    return getattr(op, name) if found is None else found


def is_kept(source: Tensor) -> bool:
    """Whether a call is direct, and what it makes of a tensor can be kept for the next one.

    Where a gradient is recorded it cannot, and in inference mode it would be a tensor of that mode.
    """
    return (
        ops.is_direct()
        and not (source.requires_grad and torch.is_grad_enabled())
        and type(source) in (Tensor, torch.nn.Parameter)
        and source.is_cpu
        and source.is_contiguous()
        and not torch.is_inference_mode_enabled()
    )


def of_kept(
    kind: Hashable, source: Tensor, make: Callable[[], Kept | None], version: Hashable, *given: Any
) -> Tensor | None:
    """The product of ``given`` by what ``make`` makes of a tensor of an operator, which is kept until that changes.

    ``make`` returns None where there is nothing of the kind, and then there is no product.
    """
    if not ops.is_native():
        return None
    found: Tensor | bool | None = False
    more = torch.get_num_threads(), torch.is_grad_enabled()
    entry = ops.latest(kind, source, version)
    if entry is not None:
        found = entry.value(entry.monitor, source, *given, *more)
    if found is False:
        entry = ops.entry(kind, [source], lambda: make() or _nothing, version) if is_kept(source) else None
        found = None if entry is None else entry.value(entry.monitor, source, *given, *more)
    return None if found is False else found  # type: ignore[return-value]


def _nothing(monitor: Any, tensor: Tensor, *given: Any) -> bool | None:
    """What is kept where there is nothing of the kind."""
    return None if monitor.is_current([tensor]) else False


def filtered(
    op: PictureOperator, name: str, kind: tuple[Any, ...], spectrum: Callable[[Tensor], Tensor], x: Any,
    z: Tensor | None = None, *, maps: Tensor | None = None, adjoint: bool = False, number: float = 0.0,
    added: Tensor | None = None,
) -> Tensor | None:  # fmt: skip
    """F⁻¹ diag(d) F x − z, or its sum over coils; with the sum of ``added`` and ``number``·x in the place of x.

    Args:
        op: the operator.
        name: that of its tensor of which d is made.
        kind: what else d depends on.
        spectrum: d for pictures like x.
        x: pictures.
        z: like x; None for zero.
        maps: the sensitivities of coils.
        adjoint: whether conj(d) takes the place of d.
        number: a number on which d depends.
        added: pictures like x; None for x alone.
    """
    if op.picture_dims != 2 or type(x) is not Tensor or _is_traced():  # whose shape is not of numbers
        return None
    shape, stated = x.shape, op.shape_in
    if len(shape) < 2 or not x.numel() or (op.is_stated and stated is not None and shape[-len(stated) :] != stated):
        return None
    version, make = (shape[-2], shape[-1], x.dtype, number), partial(_packed, op, spectrum, x)
    return of_kept(("filter", type(op), *kind), held(op, name), make, version, x, z, maps, adjoint, added, number)


def _packed(op: PictureOperator, spectrum: Callable[[Tensor], Tensor], x: Tensor) -> ops.PackedFilter | None:
    """What the kernels read of d for pictures like x; None where there is none, or x is to be converted."""
    if not ops.is_supported_on_cpu(x, complex_too=True):
        return None
    try:
        taken = op.samples(x)
    except (TypeError, ValueError):  # which the method raises again, with its own name of x
        return None
    if taken is not x:
        return None
    return ops.PackedFilter(spectrum(x).contiguous(), (x.shape[-2], x.shape[-1]), not x.is_complex())


def some_after_others(
    op: PictureOperator, name: str, of_op: Sequence[Tensor], x: Any, dims: int, times: int = 1
) -> Tensor | None:
    """A product with many pictures, some after the others: what is computed between stays in a cache.

    Fresh memory for all pictures takes longer than their transforms. None where all are few, or a gradient is recorded.

    Args:
        op: the operator, of which all pictures have the same tensors.
        name: of the product.
        of_op: these.
        x: pictures (..., *sample).
        dims: the dimensions of a sample.
        times: how many times as large as a sample what is computed is.
    """
    if not _is_plain(x) or x.dim() <= dims:
        return None
    lead, sample = x.shape[: x.dim() - dims], x.shape[x.dim() - dims :]
    count, of_each = math.prod(lead), math.prod(sample) * x.element_size() * times
    some = max(1, AT_ONCE // max(1, of_each))
    if count <= some or not op.is_shared or not all(is_kept(t) for t in of_op):
        return None
    product, flat = getattr(op, name), x.reshape(count, *sample)
    try:
        first = product(flat[:some])
    except (TypeError, ValueError):  # which the method raises again, with the shape of x
        return None
    (found,) = ops.empty([(count, *first.shape[1:])], first.dtype)
    found[:some] = first
    for start in range(some, count, some):
        found[start : start + some] = product(flat[start : start + some])
    return found.reshape(*lead, *first.shape[1:])


def of_coils(t: Tensor, coils: slice | None, dims: int = 2) -> Tensor:
    """What a tensor (..., C, H, W) has for some coils; itself for all, as batches of gradients cannot be sliced."""
    if coils is None:
        return t
    index: tuple[Any, ...] = ..., coils, *[slice(None)] * dims
    return t[index]


def by_coils(
    of_op: Sequence[Tensor], x: Tensor, coils: int, make: Callable[[slice | None], Tensor], dims: int = 2
) -> Tensor:
    """What ``make`` makes of some coils, for all of them: (..., C, H, W).

    It makes few after the others where all would leave the cache, and fresh memory take longer than the transforms; all
    at once where a gradient is recorded, or PyTorch watches.

    Args:
        of_op: the tensors of the operator.
        x: pictures of one coil, (..., H, W).
        coils: C.
        make: takes coils, or None for all, and returns (..., some, H, W).
        dims: the dimensions of a picture.
    """
    if torch.compiler.is_compiling() or not _is_plain(x) or not all(is_kept(t) for t in of_op):
        return make(None)
    dtype = x.dtype.to_complex()
    some = max(1, COILS_AT_ONCE // max(1, x.numel() * dtype.itemsize))
    if some >= coils or dtype.to_real() not in FULL:
        return make(None)
    (found,) = ops.empty([(*x.shape[:-dims], coils, *x.shape[-dims:])], dtype)
    for first in range(0, coils, some):
        part = slice(first, first + some)
        of_coils(found, part, dims).copy_(make(part))
    return found


def _is_plain(x: Any) -> bool:
    """Whether pictures are a tensor of the CPU whose gradient is not recorded, and no batch of gradients."""
    return type(x) is Tensor and x.is_cpu and not is_batched(x) and not (x.requires_grad and torch.is_grad_enabled())


def number_of(rho: object) -> float | None:
    """ρ as a number; None where it is none, or its gradient may be recorded."""
    if type(rho) is float:
        return rho
    if type(rho) is not Tensor or rho.numel() != 1 or rho.dtype not in FULL or not rho.is_cpu:
        return None
    return None if rho.requires_grad or ops.is_tracing() else float(rho)


def has_own_solve(op: PictureOperator, of_class: type[PictureOperator]) -> bool:
    """Whether the ``solve`` of an operator is that of a class, and nothing else that was put in its place."""
    return type(op).solve is of_class.solve and "solve" not in op.__dict__
