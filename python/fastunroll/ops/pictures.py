"""All layers over pictures in one call: the operators and their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..reference_pictures import proximal_step
from ..reference_wavelets import shrink_details
from .backends import is_supported_on_cpu
from .cpu import pictures as cpu
from .cpu.pictures import PRIORS, PictureLayers
from .library import differentiate, operator, require, untraced
from .spectral import broadcasts, coil_normal, fits, fits_coils, fourier_normal
from .tensors import differentiable, have_same_dtype_and_device, is_batched, is_tracing, real_dtype

_TENSORS = 7  # of the arguments
_LEARNED = 0, 1, 4, 5, 6  # z, x0, step, theta, beta
_MOST_TAPS = 32  # of the filters of a wavelet


def picture_layers(p: PictureLayers, kept: int = 1) -> Tensor:
    """The last layers x⁺ = P(v − t·(H v − z)) at v = x + β·(x − x_before), with H = AᴴA and z = Aᴴy.

    Backward, the layers of one picture after another are computed again: the memory does not grow with batch × layers.
    h, the maps and ``before`` get no gradient.

    Equivalent to :func:`plain_picture_layers`, the same in PyTorch.

    Args:
        p: z: Aᴴy, pictures (..., H, W), real or complex, on the CPU. x0: like z; None for zero. The first layer has
            x_before = x0, or ``before``. h, maps: H v is ``fourier_normal(v, h)`` with ``normal="fourier"``, or
            ``coil_normal(v, maps, h)`` with maps; ``h * v`` with ``normal="weights"``. step, theta, beta: a number for
            each layer, (K,); theta is None where P has no threshold, beta is None for zero. prior: ``"identity"``,
            ``"soft"``, ``"nonnegative"``, ``"box"`` between ``low`` and ``high``, ``"total_variation"`` with
            ``iterations``, or ``"wavelet"``, the soft threshold of wavelet details, with the filter ``low_pass``,
            ``levels``, theta (K, 3·levels), and the ``moves`` of the grid, 2K pixels: down and right for each layer.
            before: like z; None for x0.
        kept: how many layers are returned.

    Returns:
        (kept, ..., H, W).
    """
    has_no_backward = differentiable(p.h, p.maps) or (p.before is not None and differentiable(*p.tensors))
    if is_batched(*p.tensors) or has_no_backward or p.z.numel() == 0:
        return plain_picture_layers(p)[-kept:]
    call = _untraced if differentiable(*p.tensors) and not is_tracing() else _picture_layers
    x: Tensor = call(*p, kept)
    return x


def plain_picture_layers(p: PictureLayers) -> Tensor:
    """The specification of :func:`picture_layers`, in PyTorch. Returns every layer."""
    x = torch.zeros_like(p.z) if p.x0 is None else p.x0
    before, layers = x if p.before is None else p.before, []
    for k in range(len(p.step)):
        v = x if p.beta is None else x + p.beta[k] * (x - before)
        if p.normal == "weights":
            slope = p.h * v - p.z
        elif p.maps is None:
            slope = fourier_normal(v, p.h, p.z)
        else:
            slope = coil_normal(v, p.maps, p.h, p.z)
        before, x = x, _proximal_step(p, k, v - p.step[k] * slope)
        layers.append(x)
    return torch.stack(layers)


def _proximal_step(p: PictureLayers, k: int, u: Tensor) -> Tensor:
    theta = None if p.theta is None else p.theta[k]
    if p.prior == "wavelet" and theta is not None:
        return shrink_details(u, theta, p.low_pass, p.levels, p.moves[2 * k : 2 * k + 2])
    return proximal_step(u, p.prior, theta, p.low, p.high, p.iterations)


def _fits_wavelet(p: PictureLayers) -> bool:
    taps, sides = len(p.low_pass), p.z.shape[-2:]
    return (
        p.levels > 0
        and taps in range(2, _MOST_TAPS + 1, 2)
        and all(n % 2**p.levels == 0 for n in sides)
        and len(p.moves) == 2 * len(p.step)
        and all(0 <= move < 2**p.levels for move in p.moves)
    )


def fits_pictures(p: PictureLayers) -> bool:
    """Whether the kernels take these arguments."""
    z, h, numbers = p.z, p.h, [t for t in (p.step, p.theta, p.beta) if t is not None]
    bands = (3 * p.levels,) if p.prior == "wavelet" else ()
    if not is_supported_on_cpu(z, complex_too=True) or z.dim() < 2 or z.numel() == 0 or h.is_complex():
        return False
    if p.normal == "weights":
        normal_fits = h.dim() >= 2 and broadcasts(h.shape, z.shape) and p.maps is None
    else:
        normal_fits = p.normal == "fourier" and (fits(z, h, None) if p.maps is None else fits_coils(z, p.maps, h, None))
    return (
        normal_fits
        and h.dtype == real_dtype(z)
        and all(t is None or (t.shape == z.shape and have_same_dtype_and_device(z, t)) for t in (p.x0, p.before))
        and p.prior in PRIORS
        and (p.theta is None) == (p.prior in ("identity", "box"))
        and (p.prior not in ("nonnegative", "box") or not z.is_complex())
        and (p.prior != "total_variation" or p.iterations > 0)
        and p.step.dim() == 1
        and len(p.step) > 0
        and (p.theta is None or p.theta.shape == (len(p.step), *bands))
        and (p.beta is None or p.beta.shape == p.step.shape)
        and (p.prior != "wavelet" or _fits_wavelet(p))
        and have_same_dtype_and_device(h, *numbers)
    )


def _fake(z: Tensor, *others: Any) -> Tensor:
    return z.new_empty(others[-1], *z.shape)


_SCHEMA = (
    "Tensor z, Tensor? x0, Tensor h, Tensor? maps, Tensor step, Tensor? theta, Tensor? beta, str normal, str prior,"
    " float low, float high, int iterations, float[] low_pass, int levels, int[] moves,"
    " Tensor? before"
)


@operator(f"picture_layers({_SCHEMA}, int kept) -> Tensor", _fake)
def _picture_layers(*arguments: Any) -> Tensor:
    *given, kept = arguments
    p = PictureLayers(*given)
    require(fits_pictures(p) and 0 < kept <= len(p.step), "picture_layers")
    return cpu.forward(p, kept)


def _backward_fake(grad: Tensor, z: Tensor, *others: Any) -> list[Tensor]:
    (step, theta), needs = others[3:5], others[-1]
    like = [z, z, step, theta, step]
    return [t.new_empty(t.shape) for t, need in zip(like, needs, strict=True) if need]


@operator(f"picture_layers_backward(Tensor grad, {_SCHEMA}, bool[] needs) -> Tensor[]", _backward_fake)
def _picture_layers_backward(grad: Tensor, *arguments: Any) -> list[Tensor]:
    """The gradients that ``needs`` asks for: of z, x0, step, theta and beta."""
    *given, needs = arguments
    p = PictureLayers(*given)
    require(
        fits_pictures(p) and len(needs) == len(_LEARNED) and 0 < len(grad) <= len(p.step)
        and grad.shape[1:] == p.z.shape and have_same_dtype_and_device(grad, p.z),
        "picture_layers_backward",
    )  # fmt: skip
    return [t for t in cpu.backward(grad, p, needs) if t is not None]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:_TENSORS])
    ctx.others = inputs[_TENSORS:-1]


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    p = PictureLayers(*ctx.saved_tensors, *ctx.others)
    has_no_gradient = any(ctx.needs_input_grad[2:4]) or p.before is not None
    require(not has_no_gradient, "picture_layers (with a gradient of h or of maps, or with before)")
    needs = [ctx.needs_input_grad[i] for i in _LEARNED]
    if torch.is_grad_enabled() or is_batched(grad):
        found = _plain_gradients(grad, p, needs)
    else:
        found = iter(_picture_layers_backward(grad, *p, needs))
    gradients: list[Tensor | None] = [None] * (len(p) + 1)
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
