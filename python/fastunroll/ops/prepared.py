"""The shortest way into the kernels, for modules where no gradient is recorded: a call costs microseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .memory import empty
from .network import Form, Parameters, bound, fits, sizes
from .packed import Packed
from .register import serves


def _is_observed() -> bool:
    """Whether something compiles, traces, transforms or watches the call, so that it must not go past torch."""
    return (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
    )


class Prepared:
    """What a module keeps between calls: its matrices packed, its parameters bound."""

    __slots__ = ("_dtype", "_layers", "_m", "_n", "_packed")

    def __init__(self) -> None:
        self._packed: Packed | None = None

    def run(
        self, tensors: list[Tensor], describe: Callable[[], tuple[Form, Parameters]], y: Tensor, keep: bool
    ) -> Tensor | None:
        """All layers from zero; None where the operator has to be asked, which also says what is wrong.

        ``tensors`` are all parameters in order; ``describe`` says what they are, and is asked when they are new.
        """
        if torch.is_grad_enabled() or type(y) is not Tensor or not y.is_cpu or _is_observed():
            return None
        ready = self._packed
        if ready is None or not ready.fits(tensors):
            ready = self._packed = self._prepare(tensors, *describe())
        if ready is None or y.dtype is not self._dtype or y.layout is not torch.strided or not y.is_contiguous():
            return None
        *lead, m = y.shape or (0,)
        if m != self._m:
            return None
        x = empty((self._layers, *lead, self._n) if keep else (*lead, self._n), self._dtype)
        threads = torch.get_num_threads()
        ready.network.forward(y.numel() // m, threads, y.data_ptr(), 0, 0, keep, x.data_ptr(), 0, 0)
        return x

    def _prepare(self, tensors: list[Tensor], form: Form, p: Parameters) -> Packed | None:
        usable = all(
            isinstance(t, Tensor) and serves(t) and t.layout is torch.strided and t.is_contiguous()
            and not t.is_inference() for t in tensors
        )  # fmt: skip
        if not usable:
            return None
        m, n = sizes(form, p)
        if not fits(form, p, tensors[0].new_empty(0, m), None, None):
            return None
        self._dtype, self._layers, self._m, self._n = tensors[0].dtype, form.layers, m, n
        return Packed(bound(form, p), tensors, len(p.first) + len(p.second))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a module prepares itself."""
        return Prepared, ()
