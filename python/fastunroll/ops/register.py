"""How an operator is defined, and what every one of them needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from .device import ELEMENTS, kernels

_library = torch.library.Library("fastunroll", "DEF")


def operator(schema: str, fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Defines an operator with this implementation, for the CPU and for CUDA; returns the operator.

    Under :func:`torch.vmap` it runs once for each slice.
    """

    def register(implementation: Callable[..., Any]) -> Any:
        name = schema[: schema.index("(")]
        _library.define(schema)
        for key in ("CPU", "CUDA"):
            _library.impl(name, implementation, key)
        torch.library.register_fake(f"fastunroll::{name}", fake, lib=_library)
        overload = getattr(torch.ops.fastunroll, name).default
        if overload._schema.returns:
            torch.library.register_vmap(f"fastunroll::{name}", _slice_by_slice(overload), lib=_library)
        return overload

    return register


def _slice_by_slice(overload: Any) -> Callable[..., Any]:
    """The rule for batches of an operator's arguments: one call for each slice."""

    def slice_of(value: Any, dim: Any, i: int) -> Any:
        if isinstance(value, (list, tuple)):
            dims = dim if isinstance(dim, (list, tuple)) else [dim] * len(value)
            return [slice_of(v, d, i) for v, d in zip(value, dims, strict=True)]
        return value if dim is None else value.select(dim, i)

    def rule(info: Any, dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        calls = [
            overload(*(slice_of(a, d, i) for a, d in zip(args, dims, strict=True))) for i in range(info.batch_size)
        ]
        if isinstance(calls[0], Tensor):
            return torch.stack(calls), 0
        stacked = [torch.stack(results) for results in zip(*calls, strict=True)]
        return (stacked, [0] * len(stacked)) if isinstance(calls[0], list) else (tuple(stacked), (0,) * len(stacked))

    return rule


def differentiate(overload: Any, backward: Callable[..., Any], set_up: Callable[..., None]) -> None:
    """Gives an operator its gradient, for tracing, compiling and whatever else sees operators alone."""
    torch.library.register_autograd(overload.name(), backward, setup_context=set_up, lib=_library)


def below_autograd() -> Any:
    """A context in which operators run without their gradient, for calls that need none."""
    return nullcontext() if is_tracing() else torch._C._AutoDispatchBelowAutograd()


def address(t: Tensor | None) -> int:
    return 0 if t is None else t.data_ptr()


def addresses(ts: Sequence[Tensor]) -> list[int]:
    return [t.data_ptr() for t in ts]


def contiguous(ts: Sequence[Tensor]) -> list[Tensor]:
    return [t.contiguous() for t in ts]


def is_plain(t: object) -> bool:
    """Whether native code may be handed a tensor's address: a tensor or parameter itself, and no object of a subclass,
    whose values may lie elsewhere; strided; and with no negation or conjugation that was put off.
    """
    return (
        type(t) in _PLAIN
        and t.layout is torch.strided  # type: ignore[attr-defined]
        and not (t.is_nested or t.is_neg() or t.is_conj())  # type: ignore[attr-defined]
    )


_PLAIN = (Tensor, torch.nn.Parameter)


def ready(t: Tensor) -> Tensor:
    """The tensor with its values one after another in memory, and nothing put off."""
    return t.resolve_conj().resolve_neg().contiguous()


def require(fits: bool, operator_name: str) -> None:
    """Keeps an operator within its memory. Public functions have said what is wrong with their arguments before."""
    if not fits:
        raise RuntimeError(
            f"fastunroll.{operator_name}: the shapes or dtypes of its tensors do not fit each other; those of a network"
            " keep the shapes that it was made with, and one dtype, which net.to(dtype) changes for all"
        )


def have_same_dtype_and_device(*tensors: Tensor | None) -> bool:
    """Whether the tensors have one dtype and device for which kernels exist."""
    first, *others = (t for t in tensors if t is not None)
    return first.dtype in _types(first) and all(t.dtype == first.dtype and t.device == first.device for t in others)


def _types(like: Tensor) -> tuple[torch.dtype, ...]:
    """The real types that kernels exist for where this tensor is."""
    if kernels(like) is not None:
        return ELEMENTS
    return (torch.float32, torch.float64) if like.device.type == "cpu" else ()


def is_double(t: Tensor) -> bool:
    return t.dtype in (torch.float64, torch.complex128)


def is_tracing() -> bool:
    """Whether torch compiles, traces, transforms or watches the call, which must then go through its dispatcher."""
    return (
        _plain
        or torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
    )


def has_tangents() -> bool:
    """Whether tensors may be dual numbers, of forward-mode differentiation; ``torch.no_grad`` does not end it."""
    return torch.autograd.forward_ad._current_level >= 0


def is_jit_tracing() -> bool:
    """Whether ``torch.jit.trace`` records the call: narrower than :func:`is_tracing`."""
    return not torch.compiler.is_compiling() and torch._C._is_tracing()


def is_batched(*tensors: Tensor | None) -> bool:
    """Whether some are batches of gradients (``is_grads_batched=True``), of which operators see one slice alone."""
    batched: Callable[[Tensor], bool] = torch._C._functorch.is_legacy_batchedtensor
    return not torch.compiler.is_compiling() and any(t is not None and batched(t) for t in tensors)


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


def is_supported(x: Tensor, *, complex_too: bool = False) -> bool:
    """Whether a native kernel exists for this device and dtype.

    Not within ``torch.func`` transforms and forward-mode differentiation, which go through the plain operations.
    """
    if _plain or torch._C._are_functorch_transforms_active() or has_tangents():
        return False
    dtype = x.dtype.to_real() if complex_too and x.is_complex() else x.dtype
    return dtype in _types(x)


def is_supported_on_cpu(x: Tensor) -> bool:
    """Whether the CPU engine has kernels for this tensor; some algorithms have kernels there alone."""
    return x.device.type == "cpu" and kernels(x) is None and is_supported(x)
