"""LISTA: all layers in one call, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .. import _fastunroll
from .packed import packed
from .register import address, addresses, alike, contiguous, differentiable, is_double, operator, require


def _require_fit(
    y: Tensor, w1: list[Tensor], w2: list[Tensor], theta: list[Tensor], x0: Tensor | None, layers: int, name: str
) -> None:
    counts = {len(w1), len(w2), len(theta)}
    require(layers > 0 and counts <= {1, layers} and w1[0].dim() == 2, name)
    n, m = w1[0].shape
    require(
        y.dim() == 2 and y.shape[1] == m and (x0 is None or x0.shape == (y.shape[0], n))
        and {w.shape for w in w1} == {(n, m)} and {w.shape for w in w2} == {(n, n)}
        and {t.numel() for t in theta} in ({1}, {n}) and alike(y, x0, *w1, *w2, *theta),
        name,
    )  # fmt: skip


def _lista_fake(
    y: Tensor,
    w1: list[Tensor],
    w2: list[Tensor],
    theta: list[Tensor],
    x0: Tensor | None,
    layers: int,
    keep: bool,
    reuse: bool,
) -> Tensor:
    shape = (y.shape[0], w1[0].shape[0])
    return y.new_empty((layers, *shape) if keep else shape)


@operator(
    "lista(Tensor y, Tensor[] w1, Tensor[] w2, Tensor[] theta, Tensor? x0, int layers, bool keep, bool reuse)"
    " -> Tensor",
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
    reuse: bool,
) -> Tensor:
    """``keep``: return every layer. ``reuse``: weights packed by an earlier call may be used again."""
    _require_fit(y, w1, w2, theta, x0, layers, "lista")
    y, w1, w2, theta = y.contiguous(), contiguous(w1), contiguous(w2), contiguous(theta)
    x0 = None if x0 is None else x0.contiguous()
    out = _lista_fake(y, w1, w2, theta, x0, layers, keep, reuse)
    n, m = w1[0].shape
    panels = packed(w1, w2, reuse)
    _fastunroll.lista_forward(
        is_double(y), (layers, y.shape[0], m, n), torch.get_num_threads(), panels.data_ptr(), len(w1), len(w2),
        addresses(theta), theta[0].numel(), y.data_ptr(), address(x0), keep, out.data_ptr(),
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


@operator(
    "lista_backward(Tensor grad, Tensor y, Tensor[] w1, Tensor[] w2, Tensor[] theta, Tensor? x0, Tensor x,"
    " bool[] needs) -> Tensor[]",
    _lista_backward_fake,
)
def _lista_backward(
    grad: Tensor, y: Tensor, w1: list[Tensor], w2: list[Tensor], theta: list[Tensor], x0: Tensor | None, x: Tensor,
    needs: list[bool],
) -> list[Tensor]:  # fmt: skip
    """The gradients that ``needs`` asks for, of (y, x0, w1..., w2..., theta...) in that order."""
    _require_fit(y, w1, w2, theta, x0, x.shape[0], "lista_backward")
    fits = x.shape[1:] == (y.shape[0], w1[0].shape[0]) and grad.shape in (x.shape, x.shape[1:]) and len(needs) == 5
    require(fits and alike(y, x, grad), "lista_backward")
    grad, y, w1, w2 = grad.contiguous(), y.contiguous(), contiguous(w1), contiguous(w2)
    x0 = None if x0 is None else x0.contiguous()
    out = _lista_backward_fake(grad, y, w1, w2, theta, x0, x, needs)
    left = iter(addresses(out))
    sizes = (1, 1, len(w1), len(w2), len(theta))
    at_y, at_x0, *at_weights = (
        [next(left) for _ in range(size)] if need else [] for need, size in zip(needs, sizes, strict=True)
    )
    n, m = w1[0].shape
    _fastunroll.lista_backward(
        is_double(y), (x.shape[0], y.shape[0], m, n), torch.get_num_threads(),
        addresses(w1), addresses(w2), len(theta), theta[0].numel(), y.data_ptr(), address(x0), x.data_ptr(),
        grad.data_ptr(), grad.dim() == 3, at_y[0] if at_y else 0, at_x0[0] if at_x0 else 0, *at_weights,
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
        x: Tensor = _lista(y, w1, w2, theta, x0, layers, True, False)
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


def lista(
    y: Tensor, w1: Sequence[Tensor], w2: Sequence[Tensor], theta: Sequence[Tensor], x0: Tensor | None, layers: int,
    keep: bool,
) -> Tensor:  # fmt: skip
    """All layers in one call; each list has one entry or ``layers``."""
    if differentiable(y, x0, *w1, *w2, *theta):
        return _Lista.apply(layers, keep, (len(w1), len(w2)), y, x0, *w1, *w2, *theta)
    return _lista(y, list(w1), list(w2), list(theta), x0, layers, keep, True)
