"""The native kernels as torch operators, with what autograd, torch.compile and torch.export need to know of them.

This is the only module that calls the native one. An operator takes and returns plain batches, (samples, columns), of
float32 or float64 on the CPU, and trusts its arguments: :mod:`fastunroll.prox` and :mod:`fastunroll.iterations` check
them, flatten leading dimensions, and go to :mod:`fastunroll.reference` where no kernel serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import _fastunroll

_library = torch.library.Library("fastunroll", "DEF")


def _operator(schema: str, fake: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Defines an operator with this CPU implementation; returns the operator."""

    def register(implementation: Callable[..., Any]) -> Any:
        name = schema[: schema.index("(")]
        _library.define(schema)
        _library.impl(name, implementation, "CPU")
        torch.library.register_fake(f"fastunroll::{name}", fake, lib=_library)
        return getattr(torch.ops.fastunroll, name).default

    return register


def _address(t: Tensor | None) -> int:
    return 0 if t is None else t.data_ptr()


def _addresses(ts: Sequence[Tensor]) -> list[int]:
    return [t.data_ptr() for t in ts]


def _contiguous(ts: Sequence[Tensor]) -> list[Tensor]:
    return [t.contiguous() for t in ts]


def _is_double(t: Tensor) -> bool:
    return t.dtype in (torch.float64, torch.complex128)


# --- soft threshold -----------------------------------------------------------------------------------------------


def _soft_threshold_fake(x: Tensor, theta: Tensor, outer: int, middle: int, inner: int) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_operator(
    "soft_threshold(Tensor x, Tensor theta, SymInt outer, SymInt middle, SymInt inner) -> Tensor",
    _soft_threshold_fake,
)
def _soft_threshold(x: Tensor, theta: Tensor, outer: int, middle: int, inner: int) -> Tensor:
    x, theta = x.contiguous(), theta.contiguous()
    out = torch.empty_like(x)
    _fastunroll.soft_threshold(
        _is_double(x), (outer, middle, inner), torch.get_num_threads(), x.is_complex(),
        x.data_ptr(), theta.data_ptr(), out.data_ptr(),
    )  # fmt: skip
    return out


def _soft_threshold_backward_fake(
    grad: Tensor, out: Tensor, theta: Tensor, outer: int, middle: int, inner: int
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(out), torch.empty_like(theta, memory_format=torch.contiguous_format)


@_operator(
    "soft_threshold_backward(Tensor grad, Tensor out, Tensor theta, SymInt outer, SymInt middle, SymInt inner)"
    " -> (Tensor, Tensor)",
    _soft_threshold_backward_fake,
)
def _soft_threshold_backward(
    grad: Tensor, out: Tensor, theta: Tensor, outer: int, middle: int, inner: int
) -> tuple[Tensor, Tensor]:
    grad, out, theta = grad.contiguous(), out.contiguous(), theta.contiguous()
    grad_x, grad_theta = torch.empty_like(out), torch.empty_like(theta)
    _fastunroll.soft_threshold_backward(
        _is_double(out), (outer, middle, inner), torch.get_num_threads(), out.is_complex(),
        out.data_ptr(), theta.data_ptr(), grad.data_ptr(), grad_x.data_ptr(), grad_theta.data_ptr(),
    )  # fmt: skip
    return grad_x, grad_theta


class _SoftThreshold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, theta: Tensor, layout: tuple[int, int, int]) -> Tensor:
        out: Tensor = _soft_threshold(x, theta, *layout)
        ctx.save_for_backward(out, theta)
        ctx.layout = layout
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_theta = _soft_threshold_backward(grad, *ctx.saved_tensors, *ctx.layout)
        return grad_x, grad_theta, None


# --- products -----------------------------------------------------------------------------------------------------


def _product_fake(x: Tensor, A: Tensor, adjoint: bool, start: Tensor | None) -> Tensor:
    return x.new_empty(x.shape[0], A.shape[1 if adjoint else 0])


@_operator("product(Tensor x, Tensor A, bool adjoint, Tensor? start) -> Tensor", _product_fake)
def _product(x: Tensor, A: Tensor, adjoint: bool, start: Tensor | None) -> Tensor:
    x, A = x.contiguous(), A.contiguous()
    start = None if start is None else start.contiguous()
    out = _product_fake(x, A, adjoint, start)
    _fastunroll.product(
        _is_double(x), (x.shape[0], *A.shape), torch.get_num_threads(), adjoint,
        A.data_ptr(), x.data_ptr(), _address(start), out.data_ptr(),
    )  # fmt: skip
    return out


def _outer_fake(g: Tensor, x: Tensor) -> Tensor:
    return g.new_empty(g.shape[1], x.shape[1])


@_operator("outer(Tensor g, Tensor x) -> Tensor", _outer_fake)
def _outer(g: Tensor, x: Tensor) -> Tensor:
    g, x = g.contiguous(), x.contiguous()
    out = _outer_fake(g, x)
    _fastunroll.outer(
        _is_double(x), (g.shape[0], g.shape[1], x.shape[1]), torch.get_num_threads(),
        g.data_ptr(), x.data_ptr(), out.data_ptr(),
    )  # fmt: skip
    return out


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, A: Tensor, adjoint: bool, start: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, A)
        ctx.adjoint = adjoint
        out: Tensor = _product(x, A, adjoint, start)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, A = ctx.saved_tensors
        need_x, need_A, _, need_start = ctx.needs_input_grad
        return (
            _product(grad, A, not ctx.adjoint, None) if need_x else None,
            (_outer(x, grad) if ctx.adjoint else _outer(grad, x)) if need_A else None,
            None,
            grad if need_start else None,
        )


# --- ISTA and FISTA -----------------------------------------------------------------------------------------------


def _ista_fake(
    y: Tensor, A: Tensor, x0: Tensor | None, step: Tensor, theta: Tensor | None, momentum: list[float],
    iterations: int, keep: bool,
) -> Tensor:  # fmt: skip
    shape = (y.shape[0], A.shape[1])
    return y.new_empty((iterations, *shape) if keep else shape)


@_operator(
    "ista(Tensor y, Tensor A, Tensor? x0, Tensor step, Tensor? theta, float[] momentum, int iterations, bool keep)"
    " -> Tensor",
    _ista_fake,
)
def _ista(
    y: Tensor, A: Tensor, x0: Tensor | None, step: Tensor, theta: Tensor | None, momentum: list[float],
    iterations: int, keep: bool,
) -> Tensor:  # fmt: skip
    y, A = y.contiguous(), A.contiguous()
    x0 = None if x0 is None else x0.contiguous()
    theta = None if theta is None else theta.contiguous()
    out = _ista_fake(y, A, x0, step, theta, momentum, iterations, keep)
    _fastunroll.ista(
        _is_double(y), (iterations, y.shape[0], *A.shape), torch.get_num_threads(), A.data_ptr(), float(step),
        _address(theta), 0 if theta is None else theta.numel(), momentum, y.data_ptr(), _address(x0), keep,
        out.data_ptr(),
    )  # fmt: skip
    return out


class _IstaStep(torch.autograd.Function):
    """x⁺ = S_θ(x − t·Aᵀ(A x − y)), or the gradient step alone if θ is None. θ has one value or n."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, A: Tensor, step: Tensor, theta: Tensor | None) -> Tensor:
        out: Tensor = _ista(y, A, x, step, theta, [], 1, False)
        ctx.save_for_backward(x, y, A, step, theta, None if theta is None else out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, A, step, theta, out = ctx.saved_tensors
        grad_theta = None
        if theta is not None:
            layout = (1, 1, out.numel()) if theta.numel() == 1 else (out.shape[0], theta.numel(), 1)
            grad, grad_theta = _soft_threshold_backward(grad, out, theta, *layout)
        need_x, need_y, need_A, need_step, _ = ctx.needs_input_grad
        seen = _product(grad, A, False, None)  # A g
        residual = _product(x, A, False, -y) if need_A or need_step else None
        return (
            _product(-step * seen, A, True, grad) if need_x else None,
            step * seen if need_y else None,
            -step * (_outer(residual, grad) + _outer(seen, x)) if need_A else None,
            -(seen * residual).sum() if need_step else None,
            grad_theta,
        )


# --- LISTA --------------------------------------------------------------------------------------------------------


def _lista_fake(
    y: Tensor,
    w1: list[Tensor],
    w2: list[Tensor],
    theta: list[Tensor],
    x0: Tensor | None,
    layers: int,
    keep: bool,
) -> Tensor:
    shape = (y.shape[0], w1[0].shape[0])
    return y.new_empty((layers, *shape) if keep else shape)


@_operator(
    "lista(Tensor y, Tensor[] w1, Tensor[] w2, Tensor[] theta, Tensor? x0, int layers, bool keep) -> Tensor",
    _lista_fake,
)
def _lista(
    y: Tensor,
    w1: list[Tensor],
    w2: list[Tensor],
    theta: list[Tensor],
    x0: Tensor | None,
    layers: int,
    keep: bool,
) -> Tensor:
    y, w1, w2, theta = y.contiguous(), _contiguous(w1), _contiguous(w2), _contiguous(theta)
    x0 = None if x0 is None else x0.contiguous()
    out = _lista_fake(y, w1, w2, theta, x0, layers, keep)
    n, m = w1[0].shape
    _fastunroll.lista_forward(
        _is_double(y), (layers, y.shape[0], m, n), torch.get_num_threads(),
        _addresses(w1), _addresses(w2), _addresses(theta), theta[0].numel(), y.data_ptr(), _address(x0), keep,
        out.data_ptr(),
    )  # fmt: skip
    return out


def _lista_backward_fake(
    grad: Tensor, y: Tensor, w1: list[Tensor], w2: list[Tensor], theta: list[Tensor], x0: Tensor | None, x: Tensor,
    needs: list[bool],
) -> list[Tensor]:  # fmt: skip
    need_y, need_x0, *need_weights = needs
    out = [y.new_empty(y.shape)] if need_y else []
    out += [x.new_empty(x.shape[1:])] if need_x0 else []
    for need, weights in zip(need_weights, (w1, w2, theta), strict=True):
        out += [w.new_empty(w.shape) for w in weights] if need else []
    return out


@_operator(
    "lista_backward(Tensor grad, Tensor y, Tensor[] w1, Tensor[] w2, Tensor[] theta, Tensor? x0, Tensor x, bool[] needs)"
    " -> Tensor[]",
    _lista_backward_fake,
)
def _lista_backward(
    grad: Tensor, y: Tensor, w1: list[Tensor], w2: list[Tensor], theta: list[Tensor], x0: Tensor | None, x: Tensor,
    needs: list[bool],
) -> list[Tensor]:  # fmt: skip
    """The gradients that ``needs`` asks for, of (y, x0, w1..., w2..., theta...) in that order."""
    grad, y, w1, w2 = grad.contiguous(), y.contiguous(), _contiguous(w1), _contiguous(w2)
    x0 = None if x0 is None else x0.contiguous()
    out = _lista_backward_fake(grad, y, w1, w2, theta, x0, x, needs)
    left = iter(out)
    sizes = (1, 1, len(w1), len(w2), len(theta))
    parts = [
        [next(left).data_ptr() for _ in range(size)] if need else [] for need, size in zip(needs, sizes, strict=True)
    ]
    n, m = w1[0].shape
    _fastunroll.lista_backward(
        _is_double(y), (x.shape[0], y.shape[0], m, n), torch.get_num_threads(),
        _addresses(w1), _addresses(w2), len(theta), theta[0].numel(), y.data_ptr(), _address(x0), x.data_ptr(),
        grad.data_ptr(), grad.dim() == 3, *(p[0] if p else 0 for p in parts[:2]), *parts[2:],
    )  # fmt: skip
    return out


class _Lista(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        layers: int,
        keep: bool,
        counts: tuple[int, int],
        y: Tensor,
        x0: Tensor | None,
        *weights: Tensor,
    ) -> Tensor:
        w1, w2, theta = _split(weights, counts)
        # x is all that the gradient needs besides the arguments: its zeros are the mask of every layer.
        x: Tensor = _lista(y, w1, w2, theta, x0, layers, True)
        ctx.save_for_backward(y, x0, x, *weights)
        ctx.counts = counts
        return x if keep else x[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, x0, x, *weights = ctx.saved_tensors
        w1, w2, theta = _split(weights, ctx.counts)
        need_y, need_x0, *need_weights = ctx.needs_input_grad[3:]
        groups = _split(need_weights, ctx.counts)
        needs = [need_y, need_x0, *(any(g) for g in groups)]
        found = iter(_lista_backward(grad, y, w1, w2, theta, x0, x, needs))
        out: list[Tensor | None] = [None, None, None]
        for need, size in zip(needs, (1, 1, *map(len, groups)), strict=True):
            out += [next(found) if need else None for _ in range(size)]
        return tuple(out)


def _split(weights: Sequence[Any], counts: tuple[int, int]) -> tuple[list[Any], list[Any], list[Any]]:
    first, second = counts[0], counts[0] + counts[1]
    return list(weights[:first]), list(weights[first:second]), list(weights[second:])


# --- what the rest of the package calls: differentiable where a gradient is asked for, at no cost where none is ---


def _differentiable(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def serves(x: Tensor, *, complex_too: bool = False) -> bool:
    """Whether a native kernel exists for this device and dtype."""
    types = (torch.float32, torch.float64) + ((torch.complex64, torch.complex128) if complex_too else ())
    return x.device.type == "cpu" and x.dtype in types


def soft_threshold(x: Tensor, theta: Tensor, layout: tuple[int, int, int]) -> Tensor:
    """X and theta are contiguous; ``layout`` is x as (outer, middle, inner), theta having ``middle`` values."""
    if _differentiable(x, theta):
        out: Tensor = _SoftThreshold.apply(x, theta, layout)
        return out
    return _soft_threshold(x, theta, *layout)


def product(x: Tensor, A: Tensor, adjoint: bool, start: Tensor | None) -> Tensor:
    """``start`` + x Aᵀ, or + x A."""
    if _differentiable(x, A, start):
        return _Product.apply(x, A, adjoint, start)
    return _product(x, A, adjoint, start)


def ista_step(x: Tensor, y: Tensor, A: Tensor, step: Tensor, theta: Tensor | None) -> Tensor:
    """One iteration; ``theta`` has one value or n, or is None for the gradient step alone."""
    if _differentiable(x, y, A, step, theta):
        return _IstaStep.apply(x, y, A, step, theta)
    return _ista(y, A, x, step, theta, [], 1, False)


def ista(
    y: Tensor,
    A: Tensor,
    x0: Tensor | None,
    step: Tensor,
    theta: Tensor,
    momentum: Sequence[float],
    keep: bool,
) -> Tensor:
    """All iterations in one call; not differentiable."""
    return _ista(y, A, x0, step, theta, list(momentum), len(momentum), keep)


def lista(
    y: Tensor, w1: Sequence[Tensor], w2: Sequence[Tensor], theta: Sequence[Tensor], x0: Tensor | None, layers: int,
    keep: bool,
) -> Tensor:  # fmt: skip
    """All layers in one call; each list has one entry or ``layers``."""
    if _differentiable(y, x0, *w1, *w2, *theta):
        return _Lista.apply(layers, keep, (len(w1), len(w2)), y, x0, *w1, *w2, *theta)
    return _lista(y, list(w1), list(w2), list(theta), x0, layers, keep)
