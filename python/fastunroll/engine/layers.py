"""The description of K layers that the engine runs, and the checks of a user's pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, TypedDict

import torch
from torch import Tensor

from .. import _checks, ops
from ..arrays import as_tensor
from ..operators import Dense, LinearOperator, Mask
from ..operators.pictures import PictureOperator
from ..operators.products import batch_shape, has_shape_in
from ..prox import L1, Kernel, NonNegativeL1, Proximal
from ..prox.proximal import require_proximal, warn_of_layout
from ..schemes import ADMM, AMP, FISTA, HQS, ProximalGradient, Scheme
from ..steps import AffineStep, DataStep, GradientStep, Values, listed
from . import pictures

LinearStep = AffineStep | GradientStep | DataStep
_LINEAR_STEPS = AffineStep, GradientStep, DataStep

# The schemes that are compiled, with their names in NetworkSpec.
SCHEMES = {ProximalGradient: "proximal_gradient", HQS: "proximal_gradient", FISTA: "fista", ADMM: "admm", AMP: "amp"}


class Pieces(TypedDict):
    """The pieces of K layers: arguments of :func:`fastunroll.unrolled`."""

    scheme: Scheme
    linear: LinearStep
    prox: Proximal
    theta: list[Tensor] | None
    gain: list[Tensor] | None


@dataclass
class Layers:
    """K layers of pieces that fit each other.

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
        rows, columns = map(int, self.first[0].shape)  # torch.jit.trace makes tensors of them
        return (columns, rows) if isinstance(self.linear, AffineStep) else (rows, columns)

    @property
    def has_matrix_of_each_sample(self) -> bool:
        """Whether A is (B, m, n), a matrix for every sample."""
        return type(self.first[0]) is Dense and len(self.first[0].own_batch) == 1

    @property
    def is_of_pictures(self) -> bool:
        """Whether A is an operator on pictures."""
        return isinstance(self.first[0], PictureOperator)

    def unsupported_reason(self) -> str | None:
        """Why there are no compiled layers for these pieces; None where there are."""
        if self.has_matrix_of_each_sample:
            return self._unsupported_reason_of_samples()
        if self.is_of_pictures:
            return pictures.unsupported_reason(self)
        if not self.is_dense:
            return f"{type(self.first[0]).__name__} is an operator without a matrix"
        if type(self.scheme) not in SCHEMES:
            return f"the scheme {type(self.scheme).__name__} is not compiled"
        if self.prox.kernel is None:
            return f"the proximal operator {type(self.prox).__name__} is not compiled"
        if self.theta and self.theta[0].numel() > 1 and self.prox.gain(self.theta[0]) is not None:
            return f"the compiled {type(self.prox).__name__} has one threshold for all elements"
        return None

    def _unsupported_reason_of_samples(self) -> str | None:
        """Why there are no compiled layers over a matrix for every sample."""
        with_such = "with a matrix for every sample"
        if not isinstance(self.linear, GradientStep) or self.linear.via != "residual":
            return f"of the linear steps {with_such} only GradientStep(A) is compiled"
        if type(self.scheme) not in (ProximalGradient, FISTA):
            return f"the scheme {type(self.scheme).__name__} is not compiled {with_such}"
        if type(self.prox) not in (L1, NonNegativeL1) or self.gain:
            name = "a gain" if self.gain else f"the proximal operator {type(self.prox).__name__}"
            return f"{name} is not compiled {with_such}"
        n = self.first[0].matrix.shape[-1]
        if any(t.shape not in ((), (1,), (n,)) or t.numel() != self.theta[0].numel() for t in self.theta):
            return f"the layers {with_such} that are compiled have one threshold, or one for each element"
        return None


def layers_of(pieces: Pieces, count: int) -> Layers:
    """The layers of pieces that are known to fit, and whose numbers are lists of tensors."""
    linear = pieces["linear"]
    first, second, step = linear.operands()
    steps: Any = [] if step is None else step
    theta, gain = pieces["theta"] or [], pieces["gain"] or []
    return Layers(count, linear, first, second, steps, pieces["prox"], theta, gain, pieces["scheme"])


def describe(y: Tensor, pieces: Any, count: int) -> Layers:
    """The layers of the pieces of a user, :class:`Pieces` of any numbers, if they fit each other and y."""
    scheme, linear, prox = pieces["scheme"], pieces["linear"], pieces["prox"]
    if not isinstance(scheme, Scheme):
        raise TypeError(f"scheme must be one of fu.schemes, such as fu.schemes.FISTA(), got {type(scheme).__name__}")
    if not isinstance(linear, _LINEAR_STEPS):
        raise TypeError(
            f"linear must be AffineStep(W1, W2), GradientStep(A) or DataStep(A, rho), got {type(linear).__name__}"
        )
    first, second, step = linear.operands()
    for name, matrices in zip(
        ("W1", "W2") if isinstance(linear, AffineStep) else ("A", "W"), (first, second), strict=True
    ):
        _require_count(name, matrices, count)
    require_proximal(prox)
    steps = tensors(_step_name(linear), step, y)
    thresholds, gains = (tensors(name, pieces[name], y) for name in ("theta", "gain"))
    if prox.has_threshold != bool(thresholds):
        wrong = "has a threshold: give theta" if prox.has_threshold else "has no threshold: leave out theta"
        raise ValueError(f"{type(prox).__name__} {wrong}")
    scheme = scheme.with_defaults(count)
    numbers = {name: tensors(name, getattr(scheme, name), y) for name in scheme.numbers}
    net = Layers(count, linear, first, second, steps, prox, thresholds, gains, replace(scheme, **numbers))
    if isinstance(scheme, AMP) and not (net.is_dense and isinstance(linear, GradientStep) and not steps):
        raise ValueError("AMP needs a gradient step by matrices without a step size: GradientStep(A, W)")
    if isinstance(scheme, AMP) and linear.via == "gram":  # type: ignore[union-attr]
        raise ValueError('AMP needs the residual y − A x, which via="gram" does not make: leave out via')
    _require_numbers(net, numbers, y)
    return net


def _step_name(linear: LinearStep) -> str:
    return "rho" if isinstance(linear, DataStep) else "step"


def _require_numbers(net: Layers, numbers: dict[str, list[Tensor]], y: Tensor) -> None:
    """Checks how many numbers there are, and of which sizes."""
    count, kernel, name = net.count, net.prox.kernel, _step_name(net.linear)
    for what, values in {name: net.step, "theta": net.theta}.items():
        _require_real(what, values, count, y)
    for what, values in {"gain": net.gain, **numbers}.items():
        _require_scalars(what, values, count, y)
    if kernel is not None:
        support_sizes(kernel, count)
        if kernel.name == "nonnegative" and y.is_complex() and net.is_dense:
            raise ValueError(f"{type(net.prox).__name__} is defined for real numbers, but y is {y.dtype}")
    if net.is_dense:
        m, n = net.sizes
        is_gram = isinstance(net.linear, GradientStep) and net.linear.via == "gram"
        _require_sizes(name, net.step, {1} if isinstance(net.linear, DataStep) else {1, n if is_gram else m})
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
    several = [as_tensor(value, name) for value in listed(as_tensor(values, name))]
    if not several or not all(isinstance(v, (Real, Tensor)) for v in several):
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
        if int(t.numel()) not in sizes or t.numel() != values[0].numel():
            raise ValueError(
                f"{name} must hold {' or '.join(map(str, sorted(sizes)))} value(s), as many in every layer, got shape "
                f"{_checks.shape_text(t.shape)}"
            )


def _require_scalars(name: str, values: Sequence[Tensor], count: int, like: Tensor) -> None:
    """Refuses a number that is neither one value for all layers nor one for each, in one tensor or several."""
    _require_real(name, values, count, like)
    _require_sizes(name, values, {1, count} if len(values) == 1 else {1})


def _require_positive(gain: list[Tensor]) -> None:
    """Refuses gains ≤ 0. While torch compiles, traces or captures the call, values cannot be read."""
    if not gain or gain[0].is_meta or ops.is_tracing() or ops.is_capturing(gain[0].device):
        return
    for g in gain:
        if bool((g.detach() <= 0).any()):
            raise ValueError(f"gain must be positive, but one is {float(g.min()):g}: learn its logarithm instead")


def support_sizes(kernel: Kernel, count: int) -> tuple[int, ...]:
    """The number of elements or groups that each layer does not shrink; empty if all shrink."""
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
    if x0.shape[: len(batch)] != batch or not has_shape_in(A, x0, len(batch)):
        raise ValueError(
            f"x0 must have the shape {_checks.shape_text((*batch, *event))}, with the samples of y, got "
            f"{_checks.shape_text(x0.shape)}"
        )


def _beside_matrices(
    net: Layers, A: Tensor, y: Tensor, x0: Tensor | None, s0: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The batches, if they fit a matrix for every sample, in its dtype."""
    if s0 is not None:
        _checks.columns("s0", _checks.tensor("s0", s0), A.shape[-2 if net.scheme.state_of == "y" else -1], A.shape)
        _checks.same_batch("s0", s0, "y", y)
    _, y, *others = _checks.require_same_dtype_and_device(A=A, y=y, x0=x0, s0=s0)
    return y, others[0], others[1]


def require_batches(
    net: Layers, y: Tensor, x0: Tensor | None, s0: Tensor | None
) -> tuple[Layers, Tensor, Tensor | None, Tensor | None]:
    """The layers and batches, if they have one dtype and device and fit each other."""
    first, second = net.first, net.second
    if net.is_dense:
        m, n = net.sizes
        name, shape = ("W1" if isinstance(net.linear, AffineStep) else "A"), first[0].shape
        _checks.columns("y", y, m, shape, name)
        for label, t, size in (("x0", x0, n), ("s0", s0, m if net.scheme.state_of == "y" else n)):
            if t is not None:
                _checks.columns(label, _checks.tensor(label, t), size, shape, name)
                _checks.same_batch(label, t, "y", y)
        matrices = {f"matrix {i}": w for i, w in enumerate([*first, *second])}
        *found, y, x0, s0 = _checks.require_same_dtype_and_device(**matrices, y=y, x0=x0, s0=s0)
        first, second = found[: len(first)], found[len(first) :]
    else:
        _require_samples(first[0], y, x0)
        if isinstance(first[0], Mask):  # of which x has the shape of y
            warn_of_layout(net.prox, first[0], y.shape)
        if net.has_matrix_of_each_sample:
            y, x0, s0 = _beside_matrices(net, first[0].matrix, y, x0, s0)
        elif x0 is not None:
            _checks.same_precision("x0", x0, "y", y)
    real = y.real.dtype if y.is_complex() else y.dtype
    step, theta, gain = ([t.to(real) for t in group] for group in (net.step, net.theta, net.gain))
    numbers = {name: [t.to(real) for t in getattr(net.scheme, name)] for name in net.scheme.numbers}
    scheme = replace(net.scheme, **numbers)
    return replace(net, first=first, second=second, step=step, theta=theta, gain=gain, scheme=scheme), y, x0, s0
