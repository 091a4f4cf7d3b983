"""How an operator is defined, and what every one of them needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

_library = torch.library.Library("fastunroll", "DEF")


def operator(schema: str, fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Defines an operator with this CPU implementation; returns the operator."""

    def register(implementation: Callable[..., Any]) -> Any:
        name = schema[: schema.index("(")]
        _library.define(schema)
        _library.impl(name, implementation, "CPU")
        torch.library.register_fake(f"fastunroll::{name}", fake, lib=_library)
        return getattr(torch.ops.fastunroll, name).default

    return register


def address(t: Tensor | None) -> int:
    return 0 if t is None else t.data_ptr()


def addresses(ts: Sequence[Tensor]) -> list[int]:
    return [t.data_ptr() for t in ts]


def contiguous(ts: Sequence[Tensor]) -> list[Tensor]:
    return [t.contiguous() for t in ts]


def is_double(t: Tensor) -> bool:
    return t.dtype in (torch.float64, torch.complex128)


def differentiable(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def serves(x: Tensor, *, complex_too: bool = False) -> bool:
    """Whether a native kernel exists for this device and dtype."""
    types = (torch.float32, torch.float64) + ((torch.complex64, torch.complex128) if complex_too else ())
    return x.device.type == "cpu" and x.dtype in types
