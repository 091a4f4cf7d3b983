"""Checks of arguments. An error is one sentence: the rule, what broke it, and the fix."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .arrays import way_to_tensor

_REAL = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_FLOATING = _REAL | {torch.complex64, torch.complex128}
_MOST = 2**63 - 1  # what native code counts to
_SEEDS = 2**62  # twice a seed fits a generator


def shape_text(shape: Sequence[int | str]) -> str:
    """A shape as Python writes a tuple: (250, 500)."""
    return "(" + ", ".join(str(s) for s in shape) + ("," if len(shape) == 1 else "") + ")"


def shown(value: object) -> str:
    """``value`` as Python writes it where that is one short line, else what it is."""
    if isinstance(value, Tensor):
        return "a nested tensor" if value.is_nested else f"a tensor of shape {shape_text(value.shape)}"
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a whole number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else f"a long {type(value).__name__}"


def kind(value: object) -> str:
    """The type of ``value``; of a class in the place of an object, what is missing."""
    return f"the class {value.__name__}: call it" if isinstance(value, type) else type(value).__name__


def is_strided(value: Tensor) -> bool:
    """Whether the layout is the usual one, as of all tensors that torch.compile traces: it refuses the question."""
    return torch.compiler.is_compiling() or value.layout is torch.strided


def _dense(name: str, value: Tensor) -> None:
    if value.is_nested:
        raise TypeError(f"{name} must be one dense tensor, got a nested one: use {name}.to_padded_tensor(0.0)")
    if not is_strided(value):
        raise TypeError(f"{name} must be dense, got layout {value.layout}: use {name}.to_dense()")


def array(name: str, value: object) -> object:
    """A real tensor as a NumPy array, lazy signs carried out; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    _dense(name, value)
    real(name, value)
    if value.device.type != "cpu":
        raise TypeError(f"{name} must be in the processor's memory, got a tensor on {value.device}: use {name}.cpu()")
    if value.requires_grad:
        raise TypeError(f"{name} must not require a gradient, as none is computed here: use {name}.detach()")
    try:
        return value.resolve_neg().numpy()
    except (RuntimeError, TypeError):
        fix = f"{name}.{'dequantize' if value.is_quantized else 'float'}()"
        raise TypeError(f"{name} must be of numbers that NumPy has, got {value.dtype}: use {fix}") from None


def tensor(name: str, value: object) -> Tensor:
    """``value`` if it is a floating-point or complex tensor, dense and of a type that is computed in."""
    if type(value) is Tensor and value.dtype in _FLOATING and value.layout is torch.strided and not value.is_nested:
        return value  # quickly
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}: {way_to_tensor(name, value)}")
    _dense(name, value)
    if value.is_quantized:
        raise TypeError(f"{name} must be floating point, got {value.dtype}: use {name}.dequantize()")
    if value.dtype not in _FLOATING:
        if value.is_complex():
            raise TypeError(f"{name} must be complex64 or complex128, got {value.dtype}: use {name}.cfloat()")
        if value.is_floating_point():
            raise TypeError(f"{name} must have 16, 32 or 64 bits, got {value.dtype}: use {name}.float()")
        scale = ", divided by 255 for a picture" if value.dtype == torch.uint8 else ""
        raise TypeError(f"{name} must be floating point, got {value.dtype}: use {name}.float(){scale}")
    return value


def matrix(name: str, value: object) -> Tensor:
    """``value`` if it is a matrix with at least one row and one column."""
    a = tensor(name, value)
    if a.dim() != 2 or 0 in a.shape:
        raise ValueError(f"{name} must be a matrix (m, n) with m, n ≥ 1, got shape {shape_text(a.shape)}")
    return a


def matrices(name: str, value: object) -> Tensor:
    """``value`` if it is a matrix, or a matrix for every sample."""
    a = tensor(name, value)
    if a.dim() < 2 or 0 in a.shape[-2:]:
        raise ValueError(
            f"{name} must be a matrix (m, n) with m, n ≥ 1, or one for every sample, (B, m, n), got shape "
            f"{shape_text(a.shape)}"
        )
    return a


def finite_matrices(name: str, value: object) -> Tensor:
    """``value`` if it is a matrix, or a matrix for every sample, without NaN or infinity. Reads the values."""
    return finite_values(name, matrices(name, value))


def matrices_fit(shape: Sequence[int], name: str, value: Tensor) -> None:
    """Refuses a batch of samples that is not as large as a batch of matrices A of a shape (B, m, n)."""
    lead = tuple(shape[:-2])
    batch = value.shape[:-1]
    if lead and batch[len(batch) - len(lead) :] != lead:
        raise ValueError(
            f"A is {shape_text(shape)}, a matrix for each of {math.prod(lead)} samples, so {name} must have the "
            f"shape {shape_text(('...', *lead, value.shape[-1]))}, got {shape_text(value.shape)}"
        )


def all_finite(a: Tensor) -> bool:
    """Whether no value is NaN or infinite. Reads the values once, and again where their sum is not finite."""
    return bool(torch.isfinite(a.detach().sum())) or bool(torch.isfinite(a).all())


def finite_matrix(name: str, value: object) -> Tensor:
    """``value`` if it is a matrix without NaN or infinity. Reads the values: for constructors."""
    return finite_values(name, matrix(name, value))


def finite_values(name: str, a: Tensor) -> Tensor:
    """A tensor without NaN or infinity. Reads the values, where there are any."""
    if not a.is_meta and not all_finite(a):
        raise ValueError(f"{name} must be finite, but it holds NaN or infinity: check how it was computed")
    return a


def nonzero_matrix(name: str, value: object) -> Tensor:
    """``value`` if it is a finite matrix with a nonzero entry, so that 1/‖A‖² is a step size."""
    a = finite_matrix(name, value)
    if not a.is_meta and not bool(a.any()):
        raise ValueError(f"{name} must not be zero: the step size 1/‖{name}‖² would be infinite")
    return a


def columns(name: str, value: Tensor, expected: int, a_shape: Sequence[int], matrix_name: str = "A") -> None:
    """Refuses samples whose last dimension does not fit the matrix."""
    if value.dim() == 0 or value.shape[-1] != expected:
        got = value.shape[-1] if value.dim() else "no"
        raise ValueError(
            f"{name} has {got} columns but {matrix_name} is {shape_text(a_shape)}: "
            f"expected {name} of shape (..., {expected})"
        )


def unsharded(module: nn.Module) -> None:
    """Refuses a module some of whose parameters are sharded, of which a process holds a part alone."""
    for prefix, part in module.named_modules():
        for name, parameter in part._parameters.items():
            if type(parameter) is not nn.Parameter and hasattr(parameter, "full_tensor"):
                raise ValueError(
                    f"a network must be sharded as a whole, but {f'{prefix}.{name}'.lstrip('.')} is sharded by itself: "
                    "use fully_shard(network)"
                )


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on where ``x`` is."""
    kind = x.device.type
    known = kind in ("cpu", "cuda")  # PyTorch 2.6 cannot compile the question
    return (known or torch.amp.is_autocast_available(kind)) and torch.is_autocast_enabled(kind)


def require_same_dtype_and_device(**tensors: Tensor | None) -> list[Any]:
    """The tensors, if they have the dtype and device of the first.

    Under autocast they are converted to the dtype of the first, so that weights set the precision.
    """
    (first_name, first), *others = [(n, t) for n, t in tensors.items() if t is not None]
    out = dict(tensors)
    for name, value in others:
        if value.device != first.device:
            raise ValueError(
                f"all tensors must be on one device, but {first_name} is on {first.device} and {name} on "
                f"{value.device}: move one with .to()"
            )
        if value.dtype != first.dtype:
            if not autocasts(first):
                is_of_kind = value.is_complex() == first.is_complex()
                fix = "convert one with .to()" if is_of_kind else "make both complex, or take the real part"
                raise TypeError(
                    f"all tensors must have one dtype, but {first_name} is {first.dtype} and {name} is {value.dtype}: "
                    f"{fix}"
                )
            out[name] = value.to(first.dtype)
    return list(out.values())


def same_precision(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Refuses single beside double precision. Half precision may be computed in a larger one."""
    kinds = {(t.real if t.is_complex() else t).dtype for t in (value, other)}
    if kinds == {torch.float32, torch.float64}:
        raise TypeError(
            f"{name} and {other_name} must have one precision, but {name} is {value.dtype} and {other_name} is "
            f"{other.dtype}: convert one with .to()"
        )


def same_batch(name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    """Refuses two batches of samples whose leading dimensions differ."""
    if value.shape[:-1] != other.shape[:-1]:
        raise ValueError(
            f"{name} and {other_name} must hold the same samples, but their leading shapes are "
            f"{shape_text(value.shape[:-1])} and {shape_text(other.shape[:-1])}"
        )


def real(name: str, value: Tensor) -> None:
    """Refuses complex values where the algorithm is defined for real ones."""
    if value.is_complex():
        raise TypeError(f"{name} must be real, got {value.dtype}: this operation is defined for real data")


def _number(name: str, value: object) -> float:
    """``value`` if it is a number; infinity for one that no float holds."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}: use float({name}) if it holds one")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def finite(name: str, value: object, rule: str = "", holds: Callable[[float], bool] = lambda _: True) -> float:
    """``value`` if it is a finite number for which ``rule`` holds, such as "≥ 0" or "in (0, 1]"."""
    number = _number(name, value)
    if not math.isfinite(number) or not holds(number):
        raise ValueError(f"{name} must be a finite number{' ' * bool(rule)}{rule}, got {shown(value)}")
    return number


def not_negative(name: str, value: object) -> float:
    """``value`` if it is a finite number ≥ 0."""
    return finite(name, value, "≥ 0", lambda number: number >= 0)


def positive(name: str, value: object) -> float:
    """``value`` if it is a finite number > 0."""
    return finite(name, value, "> 0", lambda number: number > 0)


def representable(name: str, number: float, dtype: torch.dtype | None) -> float:
    """``number`` if ``dtype``, or torch's default, holds it."""
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if abs(number) > torch.finfo(dtype).max:
        raise ValueError(f"{name} must be at most {torch.finfo(dtype).max:.4g}, the largest {dtype}, got {number!r}")
    return number


def share(name: str, value: object, *, below_one: bool = False) -> float:
    """``value`` if it is a number in (0, 1], or in (0, 1)."""
    number = _number(name, value)
    if not (0 < number < 1 if below_one else 0 < number <= 1):
        raise ValueError(f"{name} must be in (0, 1{')' if below_one else ']'}, got {shown(value)}")
    return number


def count(name: str, value: object) -> int:
    """``value`` if it is a whole number ≥ 1 that native code can count to."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number ≥ 1, got {shown(value)}")
    number = int(value)
    if number > _MOST:
        raise ValueError(f"{name} must be a whole number that fits 64 bits, at most {_MOST}, got {shown(number)}")
    return number


def segment(keep_every: object, checkpoint: object, return_layers: bool) -> int:
    """The number of layers between two outputs that are kept for gradients; 0 where all are.

    Raises:
        TypeError: the number is given as ``checkpoint``, which was its name.
        ValueError: the number is not a whole number ≥ 1, or all layers are returned.
    """
    if checkpoint is not None:
        raise TypeError(f"checkpoint is now called keep_every: use keep_every={shown(checkpoint)}")
    if keep_every is None:
        return 0
    if return_layers:
        raise ValueError("keep_every keeps few layers and return_layers all of them: use one or the other")
    return count("keep_every", keep_every)


def shape(name: str, value: object) -> tuple[int, ...]:
    """``value`` as the shape of a tensor: whole numbers ≥ 0, or one of them."""
    sizes: Any = (value,) if isinstance(value, Integral) else value
    whole = isinstance(sizes, (tuple, list)) and not any(
        isinstance(size, bool) or not isinstance(size, Integral) or not 0 <= int(size) <= _MOST for size in sizes
    )
    if not whole:
        raise ValueError(f"{name} must be a tuple of whole numbers ≥ 0, got {shown(value)}")
    return tuple(int(size) for size in sizes)


def flag(name: str, value: object) -> bool:
    """``value`` if it is True or False; a tensor is neither, since asking it would wait for its device."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {shown(value)}: use bool({name}) if it holds one")
    return bool(value)


def choice(name: str, value: object, options: Iterable[str]) -> None:
    """Refuses what is none of the words ``options``."""
    known = [*options]
    if not isinstance(value, str) or value not in known:
        *others, last = (f'"{option}"' for option in known) if known else ("left out",)
        rule = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"{name} must be {rule}, got {shown(value)}")


def seed(value: object) -> int:
    """``value`` if a generator of random numbers can start from it and from twice it."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not -_SEEDS <= int(value) < _SEEDS:
        raise ValueError(f"seed must be a whole number from −2⁶² to 2⁶² − 1, got {shown(value)}")
    return int(value)


def generator(value: object) -> torch.Generator:
    """``value`` if it is a generator on the processor."""
    if not isinstance(value, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {shown(value)}: use torch.Generator()")
    if value.device.type != "cpu":
        raise ValueError(f"generator must be on the processor, got one on {value.device}: use torch.Generator()")
    return value


def device(value: object) -> torch.device | None:
    """``value`` as a device on which tensors can be made; None as it is."""
    if value is None:
        return None
    if not isinstance(value, (str, int, torch.device)):
        raise TypeError(f'device must be a torch.device or its name, such as "cpu", got {shown(value)}')
    try:
        return torch.empty(0, device=value).device
    except (AssertionError, ImportError, RuntimeError, TypeError) as error:  # what torch raises, by kind of device
        reason = str(error).splitlines()[0]
        raise ValueError(f"device must be one that torch can use here, got {shown(value)}: {reason}") from None


def broadcasts(name: str, value: Tensor, x: Tensor) -> torch.Size:
    """The shape of ``value`` and ``x`` together."""
    if value.numel() == 1 and value.dim() <= x.dim():  # torch takes its time
        return x.shape
    try:
        return torch.broadcast_shapes(x.shape, value.shape)
    except RuntimeError:
        shapes = f"{name} is {shape_text(value.shape)} and x is {shape_text(x.shape)}"
        raise ValueError(f"{name} must broadcast with x, but {shapes}") from None


def same_device(name: str, value: Tensor, like: Tensor) -> None:
    """Refuses a tensor that is elsewhere than the data."""
    if value.device != like.device:
        raise ValueError(
            f"all tensors must be on one device, but {name} is on {value.device} and the data on {like.device}: "
            f"move one with .to()"
        )


def scalar(name: str, value: Tensor | float, like: Tensor) -> Tensor:
    """One real number as a tensor of shape () beside ``like``."""
    number = threshold(name, value, like)
    if number.numel() != 1:
        raise ValueError(f"{name} must be one number, got shape {shape_text(number.shape)}")
    return number.reshape(())


def floating_dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    """``dtype`` if parameters can have it."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype in _REAL):
        raise TypeError(f"dtype must be real floating point, got {shown(dtype)}: use torch.float32 or torch.float64")
    return dtype


def threshold(name: str, value: Tensor | float, like: Tensor) -> Tensor:
    """A threshold as a real tensor beside ``like``; a number must be finite and ≥ 0."""
    dtype = like.real.dtype if like.is_complex() else like.dtype
    if not isinstance(value, Tensor):
        if not isinstance(value, Real):
            fix = f": use torch.tensor({name})" if isinstance(value, (list, tuple)) else ""
            raise TypeError(f"{name} must be a number or a torch.Tensor, got {type(value).__name__}{fix}")
        number = representable(name, not_negative(name, value), dtype)
        return torch.full((), number, dtype=dtype, device=like.device)
    real(name, tensor(name, value))
    same_device(name, value, like)
    return value.to(dtype)
