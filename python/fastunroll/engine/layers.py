"""K layers as the engine runs them: the pieces of a user, checked, with lists of tensors for the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .. import _checks, ops
from ..operators import LinearOperator
from ..operators.products import batch_shape
from ..prox import Kernel, Proximal
from ..schemes import ADMM, AMP, FISTA, ProximalGradient, Scheme
from ..steps import AffineStep, DataStep, GradientStep, Values, listed

LinearStep = AffineStep | GradientStep | DataStep


@dataclass
class Layers:
    """K layers of arguments that fit each other.

    first, second: the matrices of the linear step, W1 and W2 or A and W; an operator is alone in ``first``. step: t,
    or ρ of a data step. The numbers of the scheme are lists of tensors.
    """

    count: int
    linear: LinearStep
    first: list[Any]
    second: list[Any]
    step: list[Tensor]
    prox: Proximal
    theta: list[Tensor]
    gain: list[Tensor]
    scheme: Scheme

    @property
    def is_dense(self) -> bool:
        """Whether the linear step is by matrices."""
        return isinstance(self.first[0], Tensor)

    @property
    def sizes(self) -> tuple[int, int]:
        """m and n of matrices."""
        rows, columns = self.first[0].shape
        return (columns, rows) if isinstance(self.linear, AffineStep) else (rows, columns)

    def unsupported_reason(self) -> str | None:
        """Why there are no compiled layers for these pieces; None where there are."""
        if isinstance(self.linear, DataStep):
            return "the linear step solves a system of equations"
        if not self.is_dense:
            return f"{type(self.first[0]).__name__} is an operator without a matrix"
        if type(self.scheme) not in (ProximalGradient, FISTA, ADMM, AMP):
            return f"the scheme {type(self.scheme).__name__} is not compiled"
        if self.prox.kernel is None:
            return f"the proximal operator {type(self.prox).__name__} is not compiled"
        if self.theta and self.theta[0].numel() > 1 and self.prox.gain(self.theta[0]) is not None:
            return f"the compiled {type(self.prox).__name__} has one threshold for all elements"
        return None


def describe(
    y: Tensor, linear: LinearStep, prox: Proximal, theta: Values | None, gain: Values | None, scheme: Scheme, count: int
) -> Layers:
    """The pieces of a user as layers, if they fit each other and y."""
    if not isinstance(scheme, Scheme):
        raise TypeError(f"scheme must be one of fu.schemes, such as fu.schemes.FISTA(), got {type(scheme).__name__}")
    first, second, step = _operands(linear, y, count)
    if not isinstance(prox, Proximal):
        raise TypeError(f"prox must be a fu.prox.Proximal, such as fu.prox.L1(), got {type(prox).__name__}")
    thresholds, gains = tensors("theta", theta, y), tensors("gain", gain, y)
    if prox.has_threshold != bool(thresholds):
        wrong = "has a threshold: give theta" if prox.has_threshold else "has no threshold: leave out theta"
        raise ValueError(f"{type(prox).__name__} {wrong}")
    scheme = scheme.with_defaults(count)
    numbers = {name: tensors(name, getattr(scheme, name), y) for name in scheme.numbers}
    net = Layers(count, linear, first, second, step, prox, thresholds, gains, replace(scheme, **numbers))
    if isinstance(scheme, AMP) and not (net.is_dense and isinstance(linear, GradientStep) and not step):
        raise ValueError("AMP needs a gradient step by matrices without a step size: GradientStep(A, W)")
    if isinstance(scheme, AMP) and linear.via == "gram":  # type: ignore[union-attr]
        raise ValueError('AMP needs the residual y − A x, which via="gram" does not make: leave out via')
    _require_numbers(net, numbers, y)
    return net


def _operands(linear: LinearStep, y: Tensor, count: int) -> tuple[list[Any], list[Any], list[Tensor]]:
    """The matrices or the operator of a linear step, and its step sizes."""
    if isinstance(linear, AffineStep):
        first, second, step = listed(linear.W1), listed(linear.W2), []
    elif isinstance(linear, GradientStep):
        first = listed(linear.A) if linear.is_dense else [linear.A]
        second, step = [] if linear.W is None else listed(linear.W), tensors("step", linear.step, y)
    elif isinstance(linear, DataStep):
        first, second, step = [linear.A], [], tensors("rho", linear.rho, y)
    else:
        raise TypeError(
            f"linear must be AffineStep(W1, W2), GradientStep(A) or DataStep(A, rho), got {type(linear).__name__}"
        )
    names = ("W1", "W2") if isinstance(linear, AffineStep) else ("A", "W")
    for name, matrices in zip(names, (first, second), strict=True):
        _require_count(name, matrices, count)
    return first, second, step


def _require_numbers(net: Layers, numbers: dict[str, list[Tensor]], y: Tensor) -> None:
    """Checks how many numbers there are, and of which sizes."""
    count, kernel = net.count, net.prox.kernel
    name = "rho" if isinstance(net.linear, DataStep) else "step"
    for what, values in {name: net.step, "theta": net.theta}.items():
        _require_real(what, values, count, y)
    for what, values in {"gain": net.gain, **numbers}.items():
        _require_scalars(what, values, count, y)
    if kernel is not None:
        support_sizes(kernel, count)
        if kernel.name == "nonnegative" and y.is_complex():
            raise ValueError(f"{type(net.prox).__name__} is defined for real numbers, but y is {y.dtype}")
    if net.is_dense:
        m, n = net.sizes
        is_gram = isinstance(net.linear, GradientStep) and net.linear.via == "gram"
        _require_sizes("step", net.step, {1, n if is_gram else m})
        if kernel is not None:
            if n % kernel.group:
                raise ValueError(f"the group size must divide the number of unknowns, {n}, but it is {kernel.group}")
            _require_sizes("theta", net.theta, {1, n // kernel.group})
    elif any(t.numel() != 1 for t in net.step):
        raise ValueError(f"{name} must hold one number for each layer where A is an operator")
    if not (y.is_cpu and ops.is_supported(y, complex_too=True)):  # the CPU's native code looks at gains itself
        _require_positive(net.gain)


def tensors(name: str, values: Values | None, like: Tensor) -> list[Tensor]:
    """A list with one entry, or one for each layer; numbers become tensors of the real type of ``like``."""
    if values is None:
        return []
    several = listed(values)
    if not several or not all(isinstance(v, (int, float, Tensor)) for v in several):
        raise TypeError(
            f"{name} must be a number, a torch.Tensor, or a list of these with one for each layer, got "
            f"{_checks.shown(values)}"
        )
    real = like.real.dtype if like.is_complex() else like.dtype
    return [v if isinstance(v, Tensor) else _number(name, v, real, like.device) for v in several]


def _number(name: str, value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    number = _checks.representable(name, _checks.finite(name, value), dtype)
    return torch.full((), number, dtype=dtype, device=device)


def _require_count(name: str, values: Sequence[Any], count: int) -> None:
    if len(values) not in (0, 1, count):
        raise ValueError(f"{name} must have 1 entry or one for each layer ({count}), got {len(values)}")


def _require_real(name: str, values: Sequence[Tensor], count: int, like: Tensor) -> None:
    _require_count(name, values, count)
    for t in values:
        _checks.real(name, _checks.tensor(name, t))
        _checks.same_device(name, t, like)


def _require_sizes(name: str, values: Sequence[Tensor], sizes: set[int]) -> None:
    for t in values:
        if t.numel() not in sizes or t.numel() != values[0].numel():
            raise ValueError(
                f"{name} must hold {' or '.join(map(str, sorted(sizes)))} value(s), as many in every layer, got shape "
                f"{_checks.shape_text(t.shape)}"
            )


def _require_scalars(name: str, values: Sequence[Tensor], count: int, like: Tensor) -> None:
    """One value for all layers, or one for each layer: in tensors of their own, or in one tensor."""
    _require_real(name, values, count, like)
    _require_sizes(name, values, {1, count} if len(values) == 1 else {1})


def _require_positive(gain: list[Tensor]) -> None:
    """Reads the values, but not while something compiles, traces or captures the call."""
    if not gain or gain[0].is_meta or ops.is_tracing() or ops.is_capturing(gain[0].device):
        return
    for g in gain:
        if bool((g.detach() <= 0).any()):
            raise ValueError(f"gain must be positive, but one is {float(g.min()):g}: learn its logarithm instead")


def support_sizes(kernel: Kernel, count: int) -> tuple[int, ...]:
    """How many elements or groups each layer leaves unshrunk; none if empty."""
    given = kernel.support_sizes
    if given is None:
        return ()
    sizes = (given,) * count if isinstance(given, int) else tuple(given)
    if len(sizes) != count:
        raise ValueError(
            f"support_sizes must be a whole number ≥ 0, or {count} of them with one for each layer, got {given}"
        )
    return sizes


def _require_samples(A: LinearOperator, y: Tensor, x0: Tensor | None) -> None:
    """Refuses batches of samples that an operator does not have."""
    batch = batch_shape(A, y)
    if x0 is None:
        return
    _checks.same_device("x0", _checks.tensor("x0", x0), y)
    event = ("...",) if A.shape_in is None else A.shape_in
    if x0.shape[: len(batch)] != batch or (A.shape_in is not None and x0.shape[len(batch) :] != A.shape_in):
        raise ValueError(
            f"x0 must have the shape {_checks.shape_text((*batch, *event))}, with the samples of y, got "
            f"{_checks.shape_text(x0.shape)}"
        )


def require_batches(
    net: Layers, y: Tensor, x0: Tensor | None, s0: Tensor | None
) -> tuple[Layers, Tensor, Tensor | None, Tensor | None]:
    """The layers and batches, if they have one dtype and device and fit each other."""
    first, second = net.first, net.second
    if net.is_dense:
        m, n = net.sizes
        name, shape = ("W1" if isinstance(net.linear, AffineStep) else "A"), first[0].shape
        _checks.columns("y", y, m, shape, name)
        for label, t, size in (("x0", x0, n), ("s0", s0, m if isinstance(net.scheme, AMP) else n)):
            if t is not None:
                _checks.columns(label, _checks.tensor(label, t), size, shape, name)
                _checks.same_batch(label, t, "y", y)
        matrices = {f"matrix {i}": w for i, w in enumerate([*first, *second])}
        *found, y, x0, s0 = _checks.require_same_dtype_and_device(**matrices, y=y, x0=x0, s0=s0)
        first, second = found[: len(first)], found[len(first) :]
    else:
        _require_samples(first[0], y, x0)
    real = y.real.dtype if y.is_complex() else y.dtype
    step, theta, gain = ([t.to(real) for t in group] for group in (net.step, net.theta, net.gain))
    numbers = {name: [t.to(real) for t in getattr(net.scheme, name)] for name in net.scheme.numbers}
    scheme = replace(net.scheme, **numbers)
    return replace(net, first=first, second=second, step=step, theta=theta, gain=gain, scheme=scheme), y, x0, s0
