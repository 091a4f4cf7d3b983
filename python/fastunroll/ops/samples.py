"""All layers over a matrix for each sample in one call: the operators and their gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import reference
from .backends import is_supported_on_cpu
from .cpu import samples as cpu
from .library import differentiate, operator, require, untraced
from .plain_gradients import gradients_of
from .tensors import contiguous, contiguous_or_none, differentiable, have_same_dtype_and_device, is_batched, is_tracing


def sample_layers(
    A: Tensor, y: Tensor, x0: Tensor | None, step: Tensor, theta: Tensor, beta: Tensor | None, prox: str,
    keep: bool = False,
) -> Tensor:  # fmt: skip
    """Every layer x⁺ = P_θ(v + t·Aᵀ(y − A v)) at v = x + β·(x − x_before), with A of each sample.

    Equivalent to :func:`plain_layers`, the same in PyTorch.

    Args:
        A: (B, m, n), real, on the CPU.
        y: (B, m).
        x0: (B, n); None for zero. The first layer has x_before = x0.
        step: t of each layer, (K,).
        theta: θ of each layer, (K, 1) or (K, n).
        beta: β of each layer, (K,); None for zero.
        prox: ``"soft"`` or ``"nonnegative"``.
        keep: return every layer.

    Returns:
        (K, B, n); without ``keep`` and gradients only the last two layers, (min(K, 2), B, n).
    """
    tensors = [t for t in (A, y, x0, step, theta, beta) if t is not None]
    if is_batched(*tensors):
        return plain_layers(A, y, x0, step, theta, beta, prox)
    saves = differentiable(*tensors)
    kept = len(step) if saves or keep else min(len(step), 2)
    call = _sample_layers if is_tracing() or not saves else _untraced
    x: Tensor = call(A, y, x0, step, theta, beta, prox, kept, saves)[0]
    return x


def plain_layers(
    A: Tensor, y: Tensor, x0: Tensor | None, step: Tensor, theta: Tensor, beta: Tensor | None, prox: str
) -> Tensor:
    """The specification of :func:`sample_layers`, in PyTorch. Returns every layer."""
    x = A.new_zeros(y.shape[0], A.shape[2]) if x0 is None else x0
    before, layers = x, []

    def gradient_step(v: Tensor, t: Tensor) -> Tensor:
        r = y - (A @ v.unsqueeze(-1)).squeeze(-1)
        return v + t * (A.mT @ r.unsqueeze(-1)).squeeze(-1)

    for k in range(len(step)):
        v = x if beta is None else x + beta[k] * (x - before)
        before, x = x, reference.proximal_step(gradient_step(v, step[k]), prox, theta[k], 1.0, 1, 0)
        layers.append(x)
    return torch.stack(layers)


def _fits(A: Tensor, y: Tensor, x0: Tensor | None, step: Tensor, theta: Tensor, beta: Tensor | None, prox: str) -> bool:
    batch, m, n = A.shape if A.dim() == 3 else (-1, -1, -1)
    return (
        is_supported_on_cpu(A)
        and prox in ("soft", "nonnegative")
        and y.shape == (batch, m)
        and (x0 is None or x0.shape == (batch, n))
        and step.dim() == 1
        and len(step) > 0
        and theta.shape in ((len(step), 1), (len(step), n))
        and (beta is None or beta.shape == step.shape)
        and have_same_dtype_and_device(A, y, x0, step, theta, beta)
    )


def _fake(
    A: Tensor, y: Tensor, x0: Tensor | None, step: Tensor, theta: Tensor, beta: Tensor | None, prox: str, kept: int,
    saves: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    batch, m, n = A.shape
    return A.new_empty(kept, batch, n), A.new_empty(len(step) if saves else 0, batch, m)


@operator(
    "sample_layers(Tensor A, Tensor y, Tensor? x0, Tensor step, Tensor theta, Tensor? beta, str prox, int kept,"
    " bool saves) -> (Tensor, Tensor)",
    _fake,
)
def _sample_layers(
    A: Tensor, y: Tensor, x0: Tensor | None, step: Tensor, theta: Tensor, beta: Tensor | None, prox: str, kept: int,
    saves: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The last ``kept`` layers; with ``saves`` the residuals too, which the gradient needs besides every layer."""
    require(_fits(A, y, x0, step, theta, beta, prox) and 0 < kept <= len(step), "sample_layers")
    A, y, step, theta = contiguous([A, y, step, theta])
    return cpu.forward(A, y, contiguous_or_none(x0), step, theta, contiguous_or_none(beta), prox, kept, saves)


def _backward_fake(
    grad: Tensor, A: Tensor, y: Tensor, x0: Tensor | None, step: Tensor, theta: Tensor, beta: Tensor | None, prox: str,
    x: Tensor, residuals: Tensor, needs: list[bool],
) -> list[Tensor]:  # fmt: skip
    batch, _, n = A.shape
    shapes = [A.shape, y.shape, (batch, n), step.shape, theta.shape, step.shape]
    return [A.new_empty(shape) for shape, need in zip(shapes, needs, strict=True) if need]


@operator(
    "sample_layers_backward(Tensor grad, Tensor A, Tensor y, Tensor? x0, Tensor step, Tensor theta, Tensor? beta,"
    " str prox, Tensor x, Tensor residuals, bool[] needs) -> Tensor[]",
    _backward_fake,
)
def _sample_layers_backward(
    grad: Tensor, A: Tensor, y: Tensor, x0: Tensor | None, step: Tensor, theta: Tensor, beta: Tensor | None, prox: str,
    x: Tensor, residuals: Tensor, needs: list[bool],
) -> list[Tensor]:  # fmt: skip
    """The gradients that ``needs`` asks for: of A, y, x0, step, theta and beta."""
    require(
        _fits(A, y, x0, step, theta, beta, prox) and len(needs) == 6 and grad.shape == x.shape
        and x.shape == (len(step), *A.shape[::2]) and residuals.shape == (len(step), *A.shape[:2])
        and have_same_dtype_and_device(A, grad, x, residuals),
        "sample_layers_backward",
    )  # fmt: skip
    grad, A, step, theta, x, residuals = contiguous([grad, A, step, theta, x, residuals])
    x0, beta = contiguous_or_none(x0), contiguous_or_none(beta)
    found = cpu.backward(grad, A, x0, step, theta, beta, prox, x, residuals, needs)
    return [t for t in found if t is not None]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.prox, _, _ = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    *tensors, x, residuals = ctx.saved_tensors
    needs = [*ctx.needs_input_grad[:6]]
    require(len(x) == len(residuals), "sample_layers (without saves)")
    grad = torch.zeros_like(x) if grad is None else grad
    if torch.is_grad_enabled() or is_batched(grad):
        layers = partial(plain_layers, prox=ctx.prox)
        found = gradients_of(lambda *t: [layers(*t)], tensors, needs, [grad])
    else:
        native = iter(_sample_layers_backward(grad, *tensors, ctx.prox, x, residuals, needs))
        found = [next(native) if need else None for need in needs]
    return *found, None, None, None


differentiate(_sample_layers, _backward, _save)

_untraced = untraced(_sample_layers, _save, _backward)
