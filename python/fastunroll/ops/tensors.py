"""Properties of tensors that every operator checks: memory, dtype, and whether torch traces or differentiates them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from .. import _fastunroll


def address(t: Tensor | None) -> int:
    """The address of a tensor's values; 0 if there is no tensor, or it has no values.

    Raises:
        TypeError: it has values, but none in memory, as a subclass that wraps another tensor.
    """
    if t is None or not t.numel():
        return 0
    found: int = t.data_ptr()
    if not found:
        raise TypeError(
            f"native code must find the values of a tensor in its memory, but a {type(t).__name__} holds them "
            "elsewhere: convert it to a torch.Tensor"
        )
    return found


def addresses(ts: Sequence[Tensor]) -> list[int]:
    return [t.data_ptr() for t in ts]


def contiguous(ts: Sequence[Tensor]) -> list[Tensor]:
    return [t.contiguous() for t in ts]


def contiguous_or_none(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.contiguous()


def is_plain(t: object) -> bool:
    """Whether native code may read a tensor at its address.

    The tensor is a ``Tensor`` or ``Parameter`` itself, since the values of a subclass may lie elsewhere. It is strided,
    and torch has not postponed a negation or conjugation of it, or the writing of its zeros.
    """
    return (
        type(t) in PLAIN
        and t.layout is torch.strided  # type: ignore[attr-defined]
        and not (t.is_nested or t.is_neg() or t.is_conj() or t._is_zerotensor())  # type: ignore[attr-defined]
    )


PLAIN = (Tensor, torch.nn.Parameter)


def resolved(t: Tensor) -> Tensor:
    """The tensor with contiguous values, and with what torch postponed carried out: zeros, negations, conjugations."""
    if t._is_zerotensor():
        t = t.clone()
    return t.resolve_conj().resolve_neg().contiguous()


_REAL_DTYPES = {torch.complex32: torch.float16, torch.complex64: torch.float32, torch.complex128: torch.float64}


def real_dtype(t: Tensor) -> torch.dtype:
    """The dtype of the real part, which ``dtype.to_real()`` is too, but not where torch.compile traces."""
    return _REAL_DTYPES.get(t.dtype, t.dtype)


def is_double(t: Tensor) -> bool:
    return t.dtype in (torch.float64, torch.complex128)


def have_same_dtype_and_device(*tensors: Tensor | None) -> bool:
    """Whether the tensors, None aside, have one dtype and one device."""
    first, *others = (t for t in tensors if t is not None)
    return all(t.dtype == first.dtype and t.device == first.device for t in others)


def is_tracing() -> bool:
    """Whether torch compiles, traces, transforms or watches the call, which must then go through its dispatcher."""
    return _plain or torch.compiler.is_compiling() or _fastunroll.is_watched()


def is_jit_tracing() -> bool:
    """Whether ``torch.jit.trace`` records the call. :func:`is_tracing` asks for more."""
    return not torch.compiler.is_compiling() and torch._C._is_tracing()


def is_hidden(t: Tensor) -> bool:
    """Whether a tensor stands for a sample of torch.vmap or for one of several gradients: no value can be read."""
    functorch = torch._C._functorch
    if torch.compiler.is_compiling():
        return False
    while functorch.is_functorch_wrapped_tensor(t):
        if functorch.is_batchedtensor(t):
            return True
        t = functorch.get_unwrapped(t)
    return bool(functorch.is_legacy_batchedtensor(t))


def has_tangents() -> bool:
    """Whether tensors may be dual numbers of forward-mode differentiation, which ``torch.no_grad`` does not end."""
    return torch.autograd.forward_ad._current_level >= 0


def is_dual(t: Tensor) -> bool:
    """Whether a tensor has a tangent of forward-mode differentiation."""
    return has_tangents() and torch.autograd.forward_ad.unpack_dual(t).tangent is not None


def is_batched(*tensors: Tensor | None) -> bool:
    """Whether a tensor is a batch of gradients (``is_grads_batched=True``), of which operators see only one slice."""
    batched: Callable[[Tensor], bool] = torch._C._functorch.is_legacy_batchedtensor
    return not torch.compiler.is_compiling() and any(t is not None and batched(t) for t in tensors)


def differentiable(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


_plain = False


@contextmanager
def plain() -> Iterator[None]:
    """Makes every call go through plain PyTorch, as a standard to compare with."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def is_plain_wanted() -> bool:
    """Whether the call is in :func:`plain`."""
    return _plain


def must_be_plain() -> bool:
    """Whether calls have to go through plain PyTorch: in :func:`plain`, in ``torch.func`` transforms, and with tangents
    of forward-mode differentiation.
    """
    return _plain or torch._C._are_functorch_transforms_active() or has_tangents()
