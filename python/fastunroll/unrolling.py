"""Unrolled algorithms of every form: K layers of a linear step and a proximal step in one native call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from . import _checks, ops
from ._precision import own_precision
from .layers import Coupled, Direct, Gram, Momentum, Onsager, Prox, Splitting, Values
from .products import product


def _listed(value: Any) -> list[Any]:
    """One entry, or one for each layer."""
    return [*value] if isinstance(value, (list, tuple, torch.nn.ParameterList)) else [value]


def _tensors(name: str, values: Values | None, like: Tensor) -> list[Tensor]:
    """A list with one entry, or one for each layer; numbers become tensors of the real type of ``like``."""
    if values is None:
        return []
    several = _listed(values)
    if not several or not all(isinstance(v, (int, float, Tensor)) for v in several):
        raise TypeError(
            f"{name} must be a number, a torch.Tensor, or a list of these, one a layer, got {_checks.shown(values)}"
        )
    real = like.real.dtype if like.is_complex() else like.dtype
    return [v if isinstance(v, Tensor) else _number(name, v, real, like.device) for v in several]


def _number(name: str, value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    number = _checks.representable(name, _checks.finite(name, value), dtype)
    return torch.full((), number, dtype=dtype, device=device)


def _as_pairs(matrix: Tensor) -> Tensor:
    """The real matrix that does to pairs (re, im) what a complex one does to numbers: (m, n) to (2m, 2n)."""
    re, im = matrix.real, matrix.imag
    rows = torch.stack([torch.stack([re, -im], dim=-1), torch.stack([im, re], dim=-1)], dim=-3)
    return rows.flatten(-2).flatten(0, 1)


def _pairs_of(matrix: Tensor) -> Tensor:
    """:func:`_as_pairs`, made once where no gradient is recorded, and again when the matrix has changed."""
    if ops.is_tracing() or ops.differentiable(matrix) or not (ops.is_plain(matrix) and matrix.is_contiguous()):
        return _as_pairs(matrix)
    return ops.cached("pairs", [matrix], lambda: _as_pairs(matrix.detach()))


def _pairs(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()).flatten(-2)


def _native(
    form: ops.NetworkSpec, p: ops.Parameters, y: Tensor, x0: Tensor | None, s0: Tensor | None, keep: bool, segment: int
) -> tuple[Tensor, Tensor]:
    """Plain real batches through the native operator; complex ones as pairs of reals, whose modulus shrinks."""
    if not y.is_complex():
        return ops.network(form, p, y, x0, s0, keep, segment)
    step = [t if t.numel() == 1 else t.repeat_interleave(2) for t in p.step]
    # The scale |r|₂/√m of Onsager's threshold sees twice as many rows.
    theta = [t * 2**0.5 for t in p.theta] if form.scheme == "amp" else p.theta
    real = p._replace(W1=[*map(_pairs_of, p.W1)], W2=[*map(_pairs_of, p.W2)], step=step, theta=theta)
    start, state = (None if t is None else _pairs(t) for t in (x0, s0))
    x, s = ops.network(form.of_pairs(), real, _pairs(y), start, state, keep, segment)
    return torch.view_as_complex(x.unflatten(-1, (-1, 2))), torch.view_as_complex(s.unflatten(-1, (-1, 2)))


def run(
    form: ops.NetworkSpec,
    p: ops.Parameters,
    y: Tensor,
    x0: Tensor | None,
    s0: Tensor | None = None,
    *,
    keep: bool = False,
    segment: int = 0,
) -> tuple[Tensor, Tensor]:
    """The layers of arguments that fit, by the kernels or, where there are none, by the reference.

    Returns x, (K, ..., n) if ``keep``, else (..., n), and the second state.
    """
    m, n = form.sizes(p)
    lead = y.shape[:-1]
    if not ops.is_supported(y, complex_too=True):
        with own_precision(y):
            x, s = form.reference(p, y, x0, s0)
        return x if keep else x[-1], s
    x0, s0 = (None if t is None else t.reshape(-1, t.shape[-1]) for t in (x0, s0))
    x, s = _native(form, p, y.reshape(-1, m), x0, s0, keep, segment)
    return x.reshape((form.layers, *lead, n) if keep else (*lead, n)), s.reshape(*lead, s.shape[-1])


def _require_values(name: str, values: Sequence[Tensor], layers: int, sizes: set[int], like: Tensor) -> None:
    """Real values: one tensor or one a layer, each of one of ``sizes``."""
    if len(values) not in (0, 1, layers):
        raise ValueError(f"{name} must have 1 entry or one a layer ({layers}), got {len(values)}")
    for t in values:
        _checks.real(name, _checks.tensor(name, t))
        _checks.same_device(name, t, like)
        if t.numel() not in sizes or t.numel() != values[0].numel():
            raise ValueError(
                f"{name} must hold {' or '.join(map(str, sorted(sizes)))} value(s), as many in every layer, got shape "
                f"{_checks.shape_text(t.shape)}"
            )


def _require_scalars(name: str, values: Sequence[Tensor], layers: int, like: Tensor) -> None:
    """One value for all layers, or one a layer: in tensors of their own, or in one."""
    _require_values(name, values, layers, {1, layers} if len(values) == 1 else {1}, like)


def _matrices(name: str, given: Tensor | Sequence[Tensor], layers: int, shape: tuple[int, int] | None) -> list[Tensor]:
    found = _listed(given)
    if len(found) not in (1, layers):
        raise ValueError(f"{name} must have 1 entry or one a layer ({layers}), got {len(found)}")
    rows, columns = shape or _checks.matrix(name, found[0]).shape
    for k, w in enumerate(found):
        if _checks.matrix(f"{name}[{k}]", w).shape != (rows, columns):
            raise ValueError(
                f"{name}[{k}] must be {_checks.shape_text((rows, columns))}, got {_checks.shape_text(w.shape)}"
            )
    return found


Tensors: TypeAlias = list[Tensor]


def _linear(linear: Direct | Coupled | Gram, layers: int, y: Tensor) -> tuple[str, Tensors, Tensors, Tensors]:
    """Its name, the first and second matrices and the steps."""
    if isinstance(linear, Gram):
        step = _tensors("step", linear.step, y)
        _require_values("step", step, layers, {1, linear.A.shape[1]}, y)
        return "gram", [linear.G], [], step
    if isinstance(linear, Coupled):
        first = _matrices("A", linear.A, layers, None)
        m, n = first[0].shape
        second = [] if linear.W is None else _matrices("W", linear.W, layers, (m, n))
        step = _tensors("step", linear.step, y)
        _require_values("step", step, layers, {1, m}, y)
        return "gradient", first, second, step
    if not isinstance(linear, Direct):
        raise TypeError(f"linear must be Direct(W1, W2), Coupled(A, W) or Gram(A, W), got {type(linear).__name__}")
    first = _matrices("W1", linear.W1, layers, None)
    n = first[0].shape[0]
    return "affine", first, _matrices("W2", linear.W2, layers, (n, n)), []


def _passing(prox: Prox, layers: int) -> tuple[int, ...]:
    """How many pass unshrunk in each layer; none if empty."""
    if prox.passing is None:
        return ()
    given = _listed(prox.passing)
    passing = tuple(given if isinstance(prox.passing, (list, tuple)) else given * layers)
    if len(passing) != layers or any(type(count) is not int or not 0 <= count < 2**63 for count in passing):
        raise ValueError(
            f"passing must be a whole number ≥ 0, or {layers} of them, one a layer, got {_checks.shown(prox.passing)}"
        )
    return passing


def _require_prox(prox: Prox, n: int, is_complex: bool) -> None:
    if not isinstance(prox, Prox):
        raise TypeError(f"prox must be Prox(theta, ...), got {type(prox).__name__}")
    _checks.choice("kind", prox.kind, ("none", "soft", "nonnegative"))
    if (prox.theta is None) != (prox.kind == "none"):
        raise ValueError('every kind but "none" has a threshold theta, and "none" has none')
    group = _checks.count("group", prox.group)
    if n % group:
        raise ValueError(f"group must divide the number of elements, but n = {n} and group = {group}")
    if prox.kind == "nonnegative" and (group > 1 or is_complex):
        raise ValueError('kind "nonnegative" is defined for single real elements, not for groups or complex numbers')
    if prox.kind == "none" and (prox.passing is not None or group > 1):
        raise ValueError('kind "none" leaves everything as it is: it takes neither passing nor group')


def _require_positive_gain(gain: list[Tensor]) -> None:
    """Reads the values, but not while something compiles, traces or captures the call."""
    if not gain or gain[0].is_meta or ops.is_tracing() or ops.is_capturing(gain[0].device):
        return
    for g in gain:
        if bool((g.detach() <= 0).any()):
            raise ValueError(f"gain must be positive, but one is {float(g.min()):g}: learn its logarithm instead")


def _state(state: Momentum | Splitting | Onsager | None, y: Tensor) -> tuple[str, list[Tensor]]:
    """Its name, and β or η."""
    if state is None:
        return "proximal_gradient", []
    if isinstance(state, Momentum):
        return "fista", _tensors("beta", state.beta, y)
    if isinstance(state, Splitting):
        return "admm", _tensors("eta", state.eta, y)
    if isinstance(state, Onsager):
        return "amp", []
    raise TypeError(f"state must be Momentum(beta), Splitting(eta) or Onsager(), got {type(state).__name__}")


def unrolled(
    y: Tensor,
    linear: Direct | Coupled | Gram,
    prox: Prox,
    *,
    layers: int,
    state: Momentum | Splitting | Onsager | None = None,
    x0: Tensor | None = None,
    s0: Tensor | None = None,
    return_layers: bool = False,
    return_state: bool = False,
    checkpoint: int | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """K layers of any unrolled algorithm in one native call, differentiable in every tensor.

    Each layer is v (``state``), then z from v and y (``linear``), then x⁺ = P(z) (``prox``).

    =============================================== ==============================================
    ISTA, step-LISTA                                ``Coupled(A, step=t)``, ``Gram(A, step=t)``
    LISTA-CP; TiLISTA and ALISTA                    ``Coupled(A, W)`` with W a layer's own; shared, ``Gram(A, W)``
    FISTA, LFISTA                                   ``state=Momentum(β)``
    LISTA                                           ``Direct(W1, W2)``
    ADMM, ADMM-Net                                  ``state=Splitting(η)``
    AMP, LAMP                                       ``Coupled(A, B)`` and ``state=Onsager()``
    =============================================== ==============================================

    Args:
        y: (..., m).
        linear: :class:`Direct`, :class:`Coupled` or :class:`Gram`.
        prox: :class:`Prox`.
        layers: K ≥ 1.
        state: :class:`Momentum`, :class:`Splitting` or :class:`Onsager`.
        x0: where to start, (..., n); zero by default.
        s0: where the second state starts: the iterate before x0, (..., n), x0 by default; the dual variable, (..., n),
            zero by default; b·r_before, (..., m), zero by default.
        return_layers: return every layer.
        return_state: return the second state after the last layer too, with which another call can go on.
        checkpoint: for gradients, keep every so many layers only, and compute the others again in the backward pass:
            less memory for one more forward pass. The square root of K is a good number. Not with ``return_layers``.

    Returns:
        (..., n), or (K, ..., n) with ``return_layers``; with ``return_state``, a pair.

    Raises:
        TypeError: not floating point, complex where only reals are defined, or dtypes differ.
        ValueError: shapes do not fit, devices differ, a list has neither 1 nor K entries, or pieces do not go together.

    Equivalent to: :func:`fastunroll.reference.network`.

    References: Gregor and LeCun 2010 (LISTA); Chen et al. 2018 (LISTA-CP, support selection); Liu et al. 2019 (ALISTA);
    Yang et al. 2016 (ADMM-Net); Borgerding, Schniter and Rangan 2017 (LAMP).
    """
    layers = _checks.count("layers", layers)
    _checks.flag("return_layers", return_layers)
    _checks.flag("return_state", return_state)
    _checks.tensor("y", y)
    kind, first, second, step = _linear(linear, layers, y)
    shape = linear.A.shape if isinstance(linear, Gram) else first[0].shape
    matrix, (m, n) = ("W1", shape[::-1]) if kind == "affine" else ("A", shape)
    _checks.columns("y", y, m, shape, matrix)
    _require_prox(prox, n, y.is_complex())
    theta, gain = _tensors("theta", prox.theta, y), _tensors("gain", prox.gain, y)
    name, blend = _state(state, y)
    if name == "amp" and (kind != "gradient" or step):
        raise ValueError("Onsager's correction belongs to the coupled step without a step size: Coupled(A, W)")
    _require_values("theta", theta, layers, {1, n // prox.group}, y)
    _require_scalars("gain", gain, layers, y)
    _require_scalars("beta" if name == "fista" else "eta", blend, layers, y)

    if not (y.is_cpu and ops.is_supported(y, complex_too=True)):  # the CPU's native code looks at gains itself
        _require_positive_gain(gain)

    form = ops.NetworkSpec(
        layers, kind, name, "identity" if prox.kind == "none" else prox.kind, prox.group, _passing(prox, layers)
    )
    if x0 is not None:
        _checks.columns("x0", _checks.tensor("x0", x0), n, shape, matrix)
        _checks.same_batch("x0", x0, "y", y)
    if (s0 is not None or return_state) and name == "proximal_gradient":
        raise ValueError("s0 and return_state are about a second state, but there is none: give state")
    if s0 is not None:
        _checks.columns("s0", _checks.tensor("s0", s0), form.state_size(m, n), shape, matrix)
        _checks.same_batch("s0", s0, "y", y)
    segment = 0 if checkpoint is None else _checks.count("checkpoint", checkpoint)
    if segment and return_layers:
        raise ValueError("checkpoint keeps few layers and return_layers all of them: use one or the other")

    p = ops.Parameters(first, second, step, theta, gain, blend)
    p, y, x0, s0 = _one_dtype(p, y, x0, s0)
    if isinstance(linear, Gram):
        y = product(y, linear.A if linear.W is None else linear.W, adjoint=True)
    x, s = run(form, p, y, x0, s0, keep=return_layers, segment=segment)
    return (x, s) if return_state else x


def _one_dtype(
    p: ops.Parameters, y: Tensor, x0: Tensor | None, s0: Tensor | None
) -> tuple[ops.Parameters, Tensor, Tensor | None, Tensor | None]:
    """The arguments, if they have one dtype and device; small parameters have the real dtype."""
    matrices = {f"matrix {i}": w for i, w in enumerate([*p.W1, *p.W2])}
    *found, y, x0, s0 = _checks.require_same_dtype_and_device(**matrices, y=y, x0=x0, s0=s0)
    real = y.real.dtype if y.is_complex() else y.dtype
    small = ([t.to(real) for t in group] for group in p[2:])
    return ops.Parameters(found[: len(p.W1)], found[len(p.W1) :], *small), y, x0, s0
