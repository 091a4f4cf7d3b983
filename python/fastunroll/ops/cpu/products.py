"""Products with a matrix on the CPU, and sums of outer products over samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import _fastunroll
from ..cache import cached
from ..tensors import address, contiguous_or_none, is_double

_LARGEST_PACKED = 64 << 20  # bytes; the packed form of a matrix takes as much memory again


def packed_matrix(A: Tensor, adjoint: bool, bfloat16: bool = False) -> Any:
    """The packed matrix of products with A, which is cached while A does not change; None for large matrices.

    bfloat16: round its float32 values; a matrix of any size is then packed.
    """
    if not A.is_contiguous() or (A.nbytes > _LARGEST_PACKED and not bfloat16):
        return None
    shape = A.shape[0], A.shape[1]
    return cached(
        ("product", adjoint, bfloat16, _fastunroll.instruction_set()), [A],
        lambda: _fastunroll.PackedMatrix(
            is_double(A), shape, torch.get_num_threads(), adjoint, A.data_ptr(), bfloat16
        ),
    )  # fmt: skip


def product(x: Tensor, A: Tensor, adjoint: bool, start: Tensor | None) -> Tensor:
    packed = packed_matrix(A, adjoint)
    x, A, start = x.contiguous(), A.contiguous(), contiguous_or_none(start)
    out = x.new_empty(x.shape[0], A.shape[1 if adjoint else 0])
    _fastunroll.product(
        is_double(x), (x.shape[0], *A.shape), torch.get_num_threads(), adjoint,
        A.data_ptr(), packed, x.data_ptr(), address(start), out.data_ptr(),
    )  # fmt: skip
    return out


def outer(g: Tensor, x: Tensor) -> Tensor:
    g, x = g.contiguous(), x.contiguous()
    out = g.new_empty(g.shape[1], x.shape[1])
    _fastunroll.outer(
        is_double(x), (g.shape[0], g.shape[1], x.shape[1]), torch.get_num_threads(),
        g.data_ptr(), x.data_ptr(), out.data_ptr(),
    )  # fmt: skip
    return out
