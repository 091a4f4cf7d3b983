"""Layers over a matrix for each sample, on the CPU: one native call for all samples and layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import _fastunroll
from ..spec import PROXES
from ..tensors import address, is_double
from .memory import empty


def _numbers(A: Tensor, x0: Tensor | None, step: Tensor, theta: Tensor, beta: Tensor | None, prox: str) -> tuple[
    bool, tuple[int, int, int, int, int], int, int, tuple[int, int, int, int, int]
]:  # fmt: skip
    shape = (*A.shape, *theta.shape)
    tensors = A.data_ptr(), step.data_ptr(), theta.data_ptr(), address(beta), address(x0)
    return is_double(A), shape, torch.get_num_threads(), PROXES.index(prox), tensors


def forward(
    A: Tensor, y: Tensor, x0: Tensor | None, step: Tensor, theta: Tensor, beta: Tensor | None, prox: str, kept: int,
    saves: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The last ``kept`` layers, (kept, B, n), and, if asked for, the residuals of all, (K, B, m)."""
    (batch, m, n), layers = A.shape, len(step)
    x, residuals = empty([(kept, batch, n), (layers if saves else 0, batch, m)], A.dtype)
    of = _numbers(A, x0, step, theta, beta, prox)
    _fastunroll.sample_forward(*of, kept, (y.data_ptr(), x.data_ptr(), address(residuals)))
    return x, residuals


def backward(
    grad: Tensor, A: Tensor, x0: Tensor | None, step: Tensor, theta: Tensor, beta: Tensor | None, prox: str, x: Tensor,
    residuals: Tensor, needs: Sequence[bool],
) -> list[Tensor | None]:  # fmt: skip
    """The gradients of A, y, x0, step, theta and beta that ``needs`` asks for; None for the others."""
    (batch, m, n), (layers, thetas) = A.shape, theta.shape
    shapes = [(batch, m, n), (batch, m), (batch, n), (layers, batch), (layers, batch, thetas), (layers, batch)]
    found = iter(empty([shape for shape, need in zip(shapes, needs, strict=True) if need], A.dtype))
    each = [next(found) if need else None for need in needs]
    _fastunroll.sample_backward(
        *_numbers(A, x0, step, theta, beta, prox), (x.data_ptr(), residuals.data_ptr(), grad.data_ptr()),
        tuple(map(address, each)),
    )  # fmt: skip
    return [*each[:3], *(None if t is None else t.sum(1) for t in each[3:])]
