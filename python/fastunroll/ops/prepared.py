"""The shortest way into the kernels, for modules where no gradient is recorded: a call costs microseconds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .memory import empty
from .network import Form, Parameters, bound, fits, sizes
from .packed import Packed
from .register import serves


def _is_plain() -> bool:
    """Whether a call can go past torch: nothing records, compiles or transforms it."""
    return not (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
    )


class Prepared:
    """What a module keeps between calls: its matrices packed, its parameters bound."""

    __slots__ = ("_dtype", "_m", "_n", "_packed")

    def __init__(self) -> None:
        self._packed: Packed | None = None

    def run(self, form: Form, p: Parameters, y: Tensor, keep: bool) -> Tensor | None:
        """All layers from zero; None where the operator has to be asked, which also says what is wrong."""
        if not _is_plain() or type(y) is not Tensor:
            return None
        tensors = [t for group in p for t in group]
        ready = self._packed
        if ready is None or not ready.fits(tensors):
            ready = self._packed = self._prepare(form, p, tensors)
        if (
            ready is None
            or not serves(y)
            or y.dtype is not self._dtype
            or y.layout is not torch.strided
            or y.dim() == 0
            or y.shape[-1] != self._m
            or not y.is_contiguous()
        ):
            return None
        lead = y.shape[:-1]
        x = empty((form.layers, *lead, self._n) if keep else (*lead, self._n), y.dtype)
        ready.network.forward(
            y.numel() // self._m, torch.get_num_threads(), y.data_ptr(), 0, 0, keep, x.data_ptr(), 0, 0
        )
        return x

    def _prepare(self, form: Form, p: Parameters, tensors: list[Tensor]) -> Packed | None:
        usable = all(
            isinstance(t, Tensor) and serves(t) and t.layout is torch.strided and t.is_contiguous()
            and not t.is_inference() for t in tensors
        )  # fmt: skip
        if not usable:
            return None
        m, n = sizes(form, p)
        if not fits(form, p, tensors[0].new_empty(0, m), None, None):
            return None
        self._dtype, self._m, self._n = tensors[0].dtype, m, n
        return Packed(bound(form, p), tensors, len(p.first) + len(p.second))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a module prepares itself."""
        return Prepared, ()
