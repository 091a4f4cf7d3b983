"""All layers over pictures in one call: the operators and their gradients."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..reference_pictures import proximal_step
from .backends import is_supported_on_cpu
from .cpu import pictures as cpu
from .cpu.pictures import PRIORS, PictureLayers
from .library import differentiate, operator, require, untraced
from .spectral import broadcasts, coil_normal, fits, fits_coils, fourier_normal
from .tensors import differentiable, have_same_dtype_and_device, is_batched, is_tracing, real_dtype

_TENSORS = 8  # of the arguments
_LEARNED = 0, 1, 4, 5, 6, 7  # z, x0, step, theta, beta, filters
_SAVED_BYTES = 32 << 20


def picture_layers(p: PictureLayers, kept: int = 1) -> Tensor:
    """The last layers x⁺ = P(v − t·(H v − z)) at v = x + β·(x − x_before), with H = AᴴA and z = Aᴴy.

    A call with gradients keeps all layers of its first pictures, and what goes into ``"box"``, ``"total_variation"``
    and ``"filter_bank"``, of as many pictures as 32 MB hold. Backward computes the layers of the other pictures again,
    one picture after another: the memory does not grow with batch × layers. h and the maps get no gradient.

    Equivalent to :func:`plain_picture_layers`, the same in PyTorch.

    Args:
        p: z: Aᴴy, pictures (..., H, W), real or complex, on the CPU. x0: like z; None for zero. The first layer has
            x_before = x0. h, maps: H v is ``fourier_normal(v, h)`` with ``normal="fourier"``, or
            ``coil_normal(v, maps, h)`` with maps; ``h * v`` with ``normal="weights"``. step, theta, beta: a number for
            each layer, (K,); theta is None where P has no threshold, beta is None for zero. prior: ``"identity"``,
            ``"soft"``, ``"nonnegative"``, ``"box"`` between ``low`` and ``high``, ``"total_variation"`` with
            ``iterations``, or ``"filter_bank"`` with filters (K, count, h, h) and theta (K, count).
        kept: how many layers are returned.

    Returns:
        (kept, ..., H, W).
    """
    if is_batched(*p.tensors) or differentiable(p.h, p.maps) or p.z.numel() == 0:
        return plain_picture_layers(p)[-kept:]
    saves = differentiable(*p.tensors) and not is_tracing()
    x: Tensor = (_untraced if saves else _picture_layers)(*p, kept, _saved_pictures(p) if saves else 0)[0]
    return x


def _saved_pictures(p: PictureLayers) -> int:
    """Of how many pictures all layers are kept for the gradient."""
    return min(math.prod(p.z.shape[:-2]), _SAVED_BYTES // (math.prod(p.saved_shape) * p.z.element_size()))


def plain_picture_layers(p: PictureLayers) -> Tensor:
    """The specification of :func:`picture_layers`, in PyTorch. Returns every layer."""
    x = torch.zeros_like(p.z) if p.x0 is None else p.x0
    before, layers = x, []
    for k in range(len(p.step)):
        v = x if p.beta is None else x + p.beta[k] * (x - before)
        if p.normal == "weights":
            slope = p.h * v - p.z
        elif p.maps is None:
            slope = fourier_normal(v, p.h, p.z)
        else:
            slope = coil_normal(v, p.maps, p.h, p.z)
        theta, filters = (None if t is None else t[k] for t in (p.theta, p.filters))
        before, x = x, proximal_step(v - p.step[k] * slope, p.prior, theta, p.low, p.high, p.iterations, filters)
        layers.append(x)
    return torch.stack(layers)


def fits_pictures(p: PictureLayers) -> bool:
    """Whether the kernels take these arguments."""
    z, h, numbers = p.z, p.h, [t for t in (p.step, p.theta, p.beta, p.filters) if t is not None]
    if not is_supported_on_cpu(z, complex_too=True) or z.dim() < 2 or z.numel() == 0 or h.is_complex():
        return False
    if p.normal == "weights":
        normal_fits = h.dim() >= 2 and broadcasts(h.shape, z.shape) and p.maps is None
    else:
        normal_fits = p.normal == "fourier" and (fits(z, h, None) if p.maps is None else fits_coils(z, p.maps, h, None))
    return (
        normal_fits
        and h.dtype == real_dtype(z)
        and (p.x0 is None or (p.x0.shape == z.shape and have_same_dtype_and_device(z, p.x0)))
        and p.prior in PRIORS
        and (p.theta is None) == (p.prior in ("identity", "box"))
        and (p.prior not in ("nonnegative", "box") or not z.is_complex())
        and (p.prior != "total_variation" or p.iterations > 0)
        and p.step.dim() == 1
        and len(p.step) > 0
        and _fits_numbers(p)
        and have_same_dtype_and_device(h, *numbers)
    )


def _fits_numbers(p: PictureLayers) -> bool:
    """Whether there is a number for each layer, of a bank a filter and a threshold for each filter."""
    of_layers, bank = p.step.shape, p.filters
    if (bank is None) == (p.prior == "filter_bank") or (p.beta is not None and p.beta.shape != of_layers):
        return False
    if bank is None:
        return p.theta is None or p.theta.shape == of_layers
    sides = bank.shape[2:]
    return (
        bank.dim() == 4
        and bank.numel() > 0
        and p.theta is not None
        and p.theta.shape == bank.shape[:2]
        and p.theta.shape[:1] == of_layers
        and sides[0] == sides[1] <= min(p.z.shape[-2:])
    )


def _fake(z: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    *given, kept, saved_pictures = others
    return z.new_empty(kept, *z.shape), z.new_empty(saved_pictures, *PictureLayers(z, *given).saved_shape)


_SCHEMA = (
    "Tensor z, Tensor? x0, Tensor h, Tensor? maps, Tensor step, Tensor? theta, Tensor? beta, Tensor? filters,"
    " str normal, str prior, float low, float high, int iterations"
)


@operator(f"picture_layers({_SCHEMA}, int kept, int saved_pictures) -> (Tensor, Tensor)", _fake)
def _picture_layers(*arguments: Any) -> tuple[Tensor, Tensor]:
    """The last ``kept`` layers; and all layers of the first pictures, for the gradient."""
    *given, kept, saved_pictures = arguments
    p = PictureLayers(*given)
    require(
        fits_pictures(p) and 0 < kept <= len(p.step) and 0 <= saved_pictures <= math.prod(p.z.shape[:-2]),
        "picture_layers",
    )
    return cpu.forward(p, kept, saved_pictures)


def _backward_fake(grad: Tensor, *others: Any) -> list[Tensor]:
    needs = others[-1]
    like = [others[i] for i in _LEARNED]
    like[1] = others[0]
    return [t.new_empty(t.shape) for t, need in zip(like, needs, strict=True) if need]


@operator(f"picture_layers_backward(Tensor grad, {_SCHEMA}, Tensor saved, bool[] needs) -> Tensor[]", _backward_fake)
def _picture_layers_backward(grad: Tensor, *arguments: Any) -> list[Tensor]:
    """The gradients that ``needs`` asks for: of z, x0, step, theta, beta and filters."""
    *given, saved, needs = arguments
    p = PictureLayers(*given)
    require(
        fits_pictures(p) and len(needs) == len(_LEARNED) and 0 < len(grad) <= len(p.step)
        and grad.shape[1:] == p.z.shape and have_same_dtype_and_device(grad, p.z, saved)
        and len(saved) <= math.prod(p.z.shape[:-2]) and saved.shape[1:] == p.saved_shape
        and not any(need and given[i] is None for i, need in zip(_LEARNED[2:], needs[2:], strict=True)),
        "picture_layers_backward",
    )  # fmt: skip
    return [t for t in cpu.backward(grad, p, saved, needs) if t is not None]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:_TENSORS], output[1])
    ctx.others = inputs[_TENSORS:-2]
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    *tensors, saved = ctx.saved_tensors
    p = PictureLayers(*tensors, *ctx.others)
    require(not any(ctx.needs_input_grad[2:4]), "picture_layers (with a gradient of h or of maps)")
    if grad is None:
        return (None,) * (len(p) + 2)
    needs = [ctx.needs_input_grad[i] for i in _LEARNED]
    if torch.is_grad_enabled() or is_batched(grad):
        found = _plain_gradients(grad, p, needs)
    else:
        found = iter(_picture_layers_backward(grad, *p, saved, needs))
    gradients: list[Tensor | None] = [None] * (len(p) + 2)
    for i, need in zip(_LEARNED, needs, strict=True):
        gradients[i] = next(found) if need else None
    return tuple(gradients)


def _plain_gradients(grad: Tensor, p: PictureLayers, needs: list[bool]) -> Any:
    """The gradients by PyTorch, for second derivatives and batches of gradients."""
    create_graph = torch.is_grad_enabled()
    leaves: list[Any] = [*p]
    wanted = []
    for i, need in zip(_LEARNED, needs, strict=True):
        if need:
            leaves[i] = leaves[i].view_as(leaves[i]) if create_graph else leaves[i].detach().requires_grad_()
            wanted.append(leaves[i])
    with torch.enable_grad():
        x = plain_picture_layers(PictureLayers(*leaves))[-len(grad) :]
        return iter(
            torch.autograd.grad(x, wanted, grad, create_graph=create_graph, allow_unused=True, materialize_grads=True)
        )


differentiate(_picture_layers, _backward, _save)

_untraced = untraced(_picture_layers, _save, _backward)
