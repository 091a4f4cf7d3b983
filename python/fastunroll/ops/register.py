"""How an operator is defined, and what every one of them needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .device import ELEMENTS, kernels

_library = torch.library.Library("fastunroll", "DEF")


def operator(schema: str, fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Defines an operator with this implementation, for the CPU and for CUDA; returns the operator."""

    def register(implementation: Callable[..., Any]) -> Any:
        name = schema[: schema.index("(")]
        _library.define(schema)
        for key in ("CPU", "CUDA"):
            _library.impl(name, implementation, key)
        torch.library.register_fake(f"fastunroll::{name}", fake, lib=_library)
        return getattr(torch.ops.fastunroll, name).default

    return register


def address(t: Tensor | None) -> int:
    return 0 if t is None else t.data_ptr()


def addresses(ts: Sequence[Tensor]) -> list[int]:
    return [t.data_ptr() for t in ts]


def contiguous(ts: Sequence[Tensor]) -> list[Tensor]:
    return [t.contiguous() for t in ts]


def require(fits: bool, operator_name: str) -> None:
    """Keeps a direct call of an operator within its memory. Public functions have said what is wrong before."""
    if not fits:
        raise RuntimeError(
            f"torch.ops.fastunroll.{operator_name}: shapes or dtypes do not fit; call it through fastunroll's functions"
        )


def alike(*tensors: Tensor | None) -> bool:
    """Whether all have one dtype and device, and kernels exist for them."""
    first, *others = (t for t in tensors if t is not None)
    return first.dtype in _types(first) and all(t.dtype == first.dtype and t.device == first.device for t in others)


def _types(like: Tensor) -> tuple[torch.dtype, ...]:
    """The real types that kernels exist for where this tensor is."""
    if kernels(like) is not None:
        return ELEMENTS
    return (torch.float32, torch.float64) if like.device.type == "cpu" else ()


def is_double(t: Tensor) -> bool:
    return t.dtype in (torch.float64, torch.complex128)


def is_observed() -> bool:
    """Whether something compiles, traces, transforms or watches the call, so that it must not go past torch."""
    return (
        _plain
        or torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
    )


def differentiable(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


_plain = False


@contextmanager
def plain() -> Iterator[None]:
    """Everything in plain PyTorch, to compare with."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def serves(x: Tensor, *, complex_too: bool = False) -> bool:
    """Whether a native kernel exists for this device and dtype.

    Not within ``torch.func`` transforms and forward-mode differentiation, which go through the plain operations.
    """
    if _plain or torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0:
        return False
    dtype = x.dtype.to_real() if complex_too and x.is_complex() else x.dtype
    return dtype in _types(x)
