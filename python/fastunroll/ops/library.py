"""The definition of torch operators: schema, implementation, fake, batching rule and gradient."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from .tensors import is_tracing

_library = torch.library.Library("fastunroll", "DEF")


def operator(schema: str, fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Defines an operator with this implementation, for the CPU and for CUDA; returns the operator.

    Under :func:`torch.vmap` the operator runs once for each slice.
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
    """The batching rule: one call of the operator for each slice."""

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
    """Gives an operator its gradient, for torch.compile, torch.export and all others that see operators alone."""
    torch.library.register_autograd(overload.name(), backward, setup_context=set_up, lib=_library)


def untraced(overload: Any, save: Callable[..., None], backward: Callable[..., Any]) -> Any:
    """The operator with its gradient for calls that torch does not trace: faster than what torch registers."""

    def forward(ctx: Any, *arguments: Any) -> Any:
        with below_autograd():
            out = overload(*arguments)
        save(ctx, arguments, out)
        return out

    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type(f"Untraced{overload.__name__}", (torch.autograd.Function,), methods).apply  # type: ignore[attr-defined]


def below_autograd() -> Any:
    """A context in which operators run without their gradient, for calls that need none."""
    return nullcontext() if is_tracing() else torch._C._AutoDispatchBelowAutograd()


def require(fits: bool, operator_name: str) -> None:
    """Keeps an operator within its memory. Public functions have explained wrong arguments before."""
    if not fits:
        raise RuntimeError(
            f"fastunroll.{operator_name}: the shapes or dtypes of its tensors do not fit each other; those of a network"
            " keep the shapes that it was made with, and one dtype, which net.to(dtype) changes for all"
        )
