"""All layers over pictures in one call: the operators and their gradients."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .backends import is_supported_on_cpu
from .cpu import pictures as cpu
from .cpu.pictures import PRIORS, SCHEMES, STEPS, PictureLayers
from .library import differentiate, operator, require, untraced
from .plain_pictures import plain_layers_and_state
from .spectral import broadcasts, fits
from .tensors import differentiable, have_same_dtype_and_device, is_batched, is_plain, is_tracing, real_dtype

_TENSORS = 9  # of the arguments
_LEARNED = 0, 1, 2, 5, 6, 7, 8  # z, x0, s0, step, theta, numbers, filters
_MOST_TAPS = 32  # of the filters of a wavelet
_SAVED_BYTES = 32 << 20


def picture_layers(p: PictureLayers, kept: int = 1) -> Tensor:
    """The last layers of a scheme over pictures, with H = AᴴA, z = Aᴴy, a linear step L and a proximal operator P.

    ======================== ===============================================================================
    ``"proximal_gradient"``  x⁺ = P(L x)
    ``"fista"``, β           x⁺ = P(L(x + β·(x − x_before)))
    ``"admm"``, η            u = x + ω·(L(x − d) − x), x⁺ = P(u + d), d⁺ = d + η·(u − x⁺)
    ``"primal_dual"``, σ, ω  x⁺ = P(x − t·d), d⁺ = (d + σ·(H a − z))/(1 + σ) with a = x⁺ + ω·(x⁺ − x)
    ======================== ===============================================================================

    d of the primal-dual scheme is Aᴴ times the dual variable of the literature. It starts as σ/(1 + σ)·(H x0 − z). It
    is NaN everywhere if a pixel of x0 is not finite, as Aᴴ A x0 is, also where H is of columns.

    A call with gradients keeps what these need of all layers of its first pictures, of as many as 32 MB hold.
    Backward computes the layers of the other pictures again, one picture after another: the
    memory does not grow with batch × layers. h and the maps get no gradient.

    Equivalent to :func:`plain_picture_layers`, the same in PyTorch.

    Args:
        p: z: Aᴴy, pictures (..., H, W), real or complex, on the CPU. x0: like z; None for zero. h, maps: H v is
            ``fourier_normal(v, h)`` with ``normal="fourier"``, or ``coil_normal(v, maps, h)`` with maps; ``h * v`` with
            ``normal="weights"``. Of real pictures h(−k) = h(k). With ``normal="downsample"`` h is the spectrum k̂ of a
            blur of a grid with the picture in it. ``around`` has the numbers of pixels of that grid at the top, left,
            bottom and right of the picture. Before the blur, as many of them as ``copied`` says are copies of pixels,
            ``periodic`` or reflected at its edges, and the others are zero. Of the blurred grid A leaves out the
            ``margins``, numbers of pixels at the top, left, bottom and right, and measures every ``factor``-th pixel of
            both directions; else ``factor`` and all these numbers are 0. step, theta: a number for each layer, (K,);
            theta is None where P has no threshold. numbers: those of the scheme, (K, 1 or 2); None if it has none.
            linear: L v is v − step·(H v − z) with ``"gradient"``, or (H + step)⁻¹(z + step·v) with ``"solve"``, which
            does not go with ``"primal_dual"``, and takes conjugate gradients with maps and with ``"downsample"``.
            prior: ``"identity"``, ``"soft"``, ``"nonnegative"``, ``"box"`` between ``low`` and ``high``,
            ``"total_variation"`` with ``iterations``, ``"filter_bank"`` with filters (K, count, h, h) and theta (K,
            count), or ``"wavelet"``, the soft threshold of wavelet details, with the filter ``low_pass``, ``levels``,
            theta (K, 3·levels), and the ``moves`` of the grid, 2K pixels: down and right for each layer. With one more
            axis, (K, B, ...), theta has the thresholds of each of B pictures. s0: like z: the iterate before x0, or d,
            of the first layer; None for x0, or for the d above or zero. relaxation: ω of ``"admm"``, else 1. With
            another one gradients are those of PyTorch.
        kept: how many layers are returned.

    Returns:
        (kept, ..., H, W).
    """
    return _run(p, kept, False)[0]


def picture_layers_and_state(p: PictureLayers, kept: int = 1) -> tuple[Tensor, Tensor]:
    """The same of ``"admm"`` or ``"primal_dual"``, and d after the last layer, like z. Kernels of the latter give d
    no gradient.
    """
    return _run(p, kept, True)


def unchecked_picture_layers(p: PictureLayers, keep: bool) -> Tensor:
    """The last layer, or with ``keep`` every one, of arguments that fit but for the values of tensors.

    Quickly: for calls that record no gradient and are not traced.
    """
    return cpu.forward(p, len(p.step) if keep else 1, 0, False)[0]


def _run(p: PictureLayers, kept: int, wants_state: bool) -> tuple[Tensor, Tensor]:
    is_relaxed = p.relaxation != 1 and differentiable(*p.tensors)
    if is_relaxed or is_batched(*p.tensors) or differentiable(p.h, p.maps) or p.z.numel() == 0:
        x, s = plain_layers_and_state(p)
        return x[-kept:], s
    if is_tracing():
        x, s, _ = _picture_layers(*p, kept, 0, wants_state)
    elif differentiable(*p.tensors):
        x, s, _ = _untraced(*p, kept, _saved_pictures(p), wants_state)
    elif all(map(is_plain, p.tensors)):
        x, s, _ = _forward(p, kept, 0, wants_state)  # without the dispatcher, which takes longer than a small picture
    else:
        x, s, _ = _picture_layers(*p, kept, 0, wants_state)
    return x, s


def _saved_pictures(p: PictureLayers) -> int:
    """Of how many pictures all layers are kept for the gradient."""
    return min(math.prod(p.z.shape[:-2]), _SAVED_BYTES // (math.prod(p.saved_shape) * p.z.element_size()))


def _may_save(p: PictureLayers, pictures: int) -> bool:
    return 0 <= pictures <= math.prod(p.z.shape[:-2])


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
    z, h, numbers = p.z, p.h, [t for t in (p.step, p.theta, p.numbers, p.filters) if t is not None]
    if not is_supported_on_cpu(z, complex_too=True) or z.dim() < 2 or z.numel() == 0:
        return False
    if h.is_complex() != (p.normal == "downsample") or (p.factor > 0) != (p.normal == "downsample"):
        return False
    if not _margins_fit(p):
        return False
    if p.normal == "weights":
        normal_fits = h.dim() >= 2 and broadcasts(h.shape, z.shape) and p.maps is None
    elif p.normal == "downsample":
        normal_fits = p.maps is None and fits(z.new_empty(1).expand(*z.shape[:-2], *p.grid), h, None)
    else:
        normal_fits = p.normal == "fourier" and fits(z, h, None, p.maps)
    return (
        normal_fits
        and real_dtype(h) == real_dtype(z)
        and all(t is None or (t.shape == z.shape and have_same_dtype_and_device(z, t)) for t in (p.x0, p.s0))
        and p.prior in PRIORS
        and _fits_scheme(p)
        and (p.theta is None) == (p.prior in ("identity", "box"))
        and (p.prior not in ("nonnegative", "box") or not z.is_complex())
        and (p.prior != "total_variation" or p.iterations > 0)
        and p.step.dim() == 1
        and len(p.step) > 0
        and _fits_numbers(p)
        and (p.prior != "wavelet" or _fits_wavelet(p))
        and have_same_dtype_and_device(h.real, *numbers)
    )


def _margins_fit(p: PictureLayers) -> bool:
    """Whether the margins leave a multiple of the factor of rows, and of columns, and copies have room."""
    sides = p.margins, p.around, p.copied
    if any(len(pixels) != 4 or min(pixels) < 0 for pixels in sides):
        return False
    if p.factor == 0:
        return not any(map(any, sides))
    room = map(min, p.around, p.z.shape[-2:] * 2)
    if any(pixels > most for pixels, most in zip(p.copied, room, strict=True)):
        return False
    left = [p.grid[i] - p.margins[i] - p.margins[i + 2] for i in (0, 1)]
    return all(n > 0 and n % p.factor == 0 for n in left)


def _fits_scheme(p: PictureLayers) -> bool:
    """Whether there is such a scheme of such a linear step, with its numbers for each layer."""
    count, is_dual = SCHEMES.get(p.scheme), p.scheme == "primal_dual"
    if count is None or p.linear not in STEPS or (is_dual and p.linear == "solve"):
        return False
    if p.relaxation != 1 and p.scheme != "admm":
        return False
    shape = None if p.numbers is None else p.numbers.shape
    return shape == ((*p.step.shape, count) if count else None)


def _fits_numbers(p: PictureLayers) -> bool:
    """Whether there is a number for each layer, of a bank a filter and a threshold for each filter."""
    of_layers, bank = p.step.shape, p.filters
    if (bank is None) == (p.prior == "filter_bank"):
        return False
    of_pictures = (math.prod(p.z.shape[:-2]),) if p.has_theta_of_each else ()
    fits_theta = p.theta is None or p.theta.shape == (*of_layers, *of_pictures, *p.bands)
    if bank is None:
        return fits_theta
    sides = bank.shape[2:]
    return (
        bank.dim() == 4
        and bank.numel() > 0
        and p.theta is not None
        and fits_theta
        and bank.shape[:1] == of_layers
        and sides[0] == sides[1] <= min(p.z.shape[-2:])
    )


def _fake(z: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    *given, kept, saved_pictures, wants_state = others
    return (
        z.new_empty(kept, *z.shape),
        z.new_empty(z.shape if wants_state else 0),
        z.new_empty(saved_pictures, *PictureLayers(z, *given).saved_shape),
    )


_SCHEMA = (
    "Tensor z, Tensor? x0, Tensor? s0, Tensor h, Tensor? maps, Tensor step, Tensor? theta, Tensor? numbers,"
    " Tensor? filters, str normal, str linear, str scheme, str prior, float low, float high, int iterations,"
    " float[] low_pass, int levels, int[] moves, int factor, int[] margins, int[] around, int[] copied,"
    " bool periodic, float relaxation"
)


@operator(
    f"picture_layers({_SCHEMA}, int kept, int saved_pictures, bool wants_state) -> (Tensor, Tensor, Tensor)", _fake
)
def _picture_layers(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    *given, kept, saved_pictures, wants_state = arguments
    return _forward(PictureLayers(*given), kept, saved_pictures, wants_state)


def _forward(p: PictureLayers, kept: int, saved_pictures: int, wants_state: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The last ``kept`` layers; d after them; and all layers of the first pictures, for the gradient."""
    require(
        fits_pictures(p)
        and 0 < kept <= len(p.step)
        and _may_save(p, saved_pictures)
        and (p.relaxation == 1 or not saved_pictures)
        and (p.has_dual or not wants_state),
        "picture_layers",
    )
    return cpu.forward(p, kept, saved_pictures, wants_state)


def _backward_fake(grad: Tensor, grad_s: Tensor | None, *others: Any) -> list[Tensor]:
    needs = others[-1]
    like = [others[i] for i in _LEARNED]
    like[1] = like[2] = others[0]
    return [t.new_empty(t.shape) for t, need in zip(like, needs, strict=True) if need]


@operator(
    f"picture_layers_backward(Tensor grad, Tensor? grad_s, {_SCHEMA}, Tensor saved, bool[] needs) -> Tensor[]",
    _backward_fake,
)
def _picture_layers_backward(grad: Tensor, grad_s: Tensor | None, *arguments: Any) -> list[Tensor]:
    """The gradients that ``needs`` asks for: of z, x0, s0, step, theta, numbers and filters."""
    *given, saved, needs = arguments
    p = PictureLayers(*given)
    require(
        fits_pictures(p) and p.relaxation == 1 and len(needs) == len(_LEARNED) and 0 < len(grad) <= len(p.step)
        and grad.shape[1:] == p.z.shape and have_same_dtype_and_device(grad, p.z, saved)
        and _may_save(p, len(saved)) and saved.shape[1:] == p.saved_shape
        and (grad_s is None or (p.scheme == "admm" and grad_s.shape == p.z.shape
                                and have_same_dtype_and_device(grad_s, p.z)))
        and not any(need and given[i] is None for i, need in zip(_LEARNED[2:], needs[2:], strict=True)),
        "picture_layers_backward",
    )  # fmt: skip
    return [t for t in cpu.backward(grad, grad_s, p, saved, needs) if t is not None]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:_TENSORS], output[2])
    ctx.others = inputs[_TENSORS:-3]
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, grad_s: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    *tensors, saved = ctx.saved_tensors
    p = PictureLayers(*tensors, *ctx.others)
    require(not any(ctx.needs_input_grad[3:5]), "picture_layers (with a gradient of h or of maps)")
    require(grad_s is None or p.scheme == "admm", "picture_layers (with a gradient of d of primal_dual)")
    gradients: list[Tensor | None] = [None] * (len(p) + 3)
    if grad is None and grad_s is None:
        return tuple(gradients)
    grad = p.z.new_zeros(1, *p.z.shape) if grad is None else grad
    needs = [ctx.needs_input_grad[i] for i in _LEARNED]
    if torch.is_grad_enabled() or is_batched(*(t for t in (grad, grad_s) if t is not None)):
        found = _plain_gradients(grad, grad_s, p, needs)
    else:
        found = iter(_picture_layers_backward(grad, grad_s, *p, saved, needs))
    for i, need in zip(_LEARNED, needs, strict=True):
        gradients[i] = next(found) if need else None
    return tuple(gradients)


def _plain_gradients(grad: Tensor, grad_s: Tensor | None, p: PictureLayers, needs: list[bool]) -> Any:
    """The gradients by PyTorch, for second derivatives and batches of gradients."""
    create_graph = torch.is_grad_enabled()
    leaves: list[Any] = [*p]
    wanted = []
    for i, need in zip(_LEARNED, needs, strict=True):
        if need:
            leaves[i] = leaves[i].view_as(leaves[i]) if create_graph else leaves[i].detach().requires_grad_()
            wanted.append(leaves[i])
    with torch.enable_grad():
        x, s = plain_layers_and_state(PictureLayers(*leaves))
        found, given = ([x[-len(grad) :]], [grad]) if grad_s is None else ([x[-len(grad) :], s], [grad, grad_s])
        return iter(
            torch.autograd.grad(
                found, wanted, given, create_graph=create_graph, allow_unused=True, materialize_grads=True
            )
        )


differentiate(_picture_layers, _backward, _save)

_untraced = untraced(_picture_layers, _save, _backward)
