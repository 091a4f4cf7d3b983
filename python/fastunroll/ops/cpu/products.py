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


class AdjointProduct:
    """The function y ↦ Aᵀy for contiguous batches of any leading shape: (..., m) to (..., n).

    The packed matrix of each instruction set is kept, because looking it up takes longer than a small product.
    """

    __slots__ = ("_A", "_is_double", "_packed")

    def __init__(self, A: Tensor) -> None:
        self._A, self._is_double = A.contiguous(), is_double(A)
        self._packed: dict[str, Any] = {}

    def __call__(self, y: Tensor) -> Tensor:
        A, kind = self._A, _fastunroll.instruction_set()
        if kind not in self._packed:
            self._packed[kind] = packed_matrix(A, True)
        m, n = A.shape
        out = y.new_empty(*y.shape[:-1], n)
        _fastunroll.product(
            self._is_double, (y.numel() // m, m, n), torch.get_num_threads(), True,
            A.data_ptr(), self._packed[kind], y.data_ptr(), 0, out.data_ptr(),
        )  # fmt: skip
        return out


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
