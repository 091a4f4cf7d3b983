"""Unrolled algorithms of every form: K layers of a linear step and a proximal step in one native call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

import torch
from torch import Tensor

from . import _checks, ops, reference
from ._precision import own_precision

Values = Union[Tensor, float, Sequence[Tensor | float]]  # one for all layers, or one for each


@dataclass(frozen=True)
class Direct:
    """The linear step z = W₁ y + W₂ v.

    Args:
        W1: (n, m), one or one a layer.
        W2: (n, n), one or one a layer.
    """

    W1: Tensor | Sequence[Tensor]
    W2: Tensor | Sequence[Tensor]


@dataclass(frozen=True)
class Coupled:
    """The linear step z = v + Wᴴ (t ∘ (y − A v)): a gradient step on ½‖A v − y‖² if W = A.

    Args:
        A: (m, n), one or one a layer.
        W: (m, n), one or one a layer; A by default.
        step: t, one number, or one for each row of A; one or one a layer. 1 by default.
    """

    A: Tensor | Sequence[Tensor]
    W: Tensor | Sequence[Tensor] | None = None
    step: Values | None = None


@dataclass(frozen=True)
class Momentum:
    """v = x + β (x − x_before).

    Args:
        beta: β, one number or one a layer (also as one tensor of K values).
    """

    beta: Values


@dataclass(frozen=True)
class Splitting:
    """ADMM with the scaled dual variable u: v = x − u, x⁺ = P(z + u), u⁺ = u + η (z − x⁺).

    Args:
        eta: η, one number or one a layer (also as one tensor of K values).
    """

    eta: Values = 1.0


@dataclass(frozen=True)
class Onsager:
    """AMP: the residual is r = y − A x + b r_before with b = gain·‖x‖₀/m, and the threshold is θ‖r‖₂/√m.

    For the coupled step without ``step``. b is differentiated as a function of the gain alone, since ‖x‖₀ is piecewise
    constant; the scale of the threshold is differentiated in full.
    """


@dataclass(frozen=True)
class Prox:
    """x⁺ = gain·P_θ(z), the proximal step.

    ========================== ====================================================================
    ``Prox(θ)``                soft threshold sign(z)·max(|z| − θ, 0); of the modulus for complex z
    ``kind="nonnegative"``     max(z − θ, 0)
    ``gain=1/(1 + γ)``         elastic net: the prox of θ‖x‖₁ + γ/2·‖x‖²
    ``group=G``                z_g·max(1 − θ/‖z_g‖₂, 0) for groups of G neighbours
    ``passing=(p_0, p_1, …)``  support selection: in layer k the p_k largest that exceed θ pass as they are
    ``kind="none"``            z itself
    ========================== ====================================================================

    Args:
        theta: θ, one number, or one for each element or group; one or one a layer. With ``passing``, a negative θ
            counts as zero.
        kind: "soft", "nonnegative" or "none".
        gain: positive, one number or one a layer (also as one tensor of K values).
        group: how many neighbours shrink together; it divides n.
        passing: how many pass, one number or one a layer. Of equal magnitudes those with the lower index pass. The
            choice is not differentiated.
    """

    theta: Values | None = None
    kind: str = "soft"
    gain: Values | None = None
    group: int = 1
    passing: int | Sequence[int] | None = None


def _tensors(values: Values | None, like: Tensor) -> list[Tensor]:
    """A list with one entry, or one for each layer; numbers become tensors of the real type of ``like``."""
    if values is None:
        return []
    real = like.real.dtype if like.is_complex() else like.dtype
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, (int, float)):
        return [torch.full((), float(values), dtype=real, device=like.device)]
    if all(isinstance(v, (int, float)) for v in values):
        return [torch.tensor([*values], dtype=real, device=like.device)] if len(values) > 1 else _tensors(values[0], like)
    return [v if isinstance(v, Tensor) else torch.full((), float(v), dtype=real, device=like.device) for v in values]


def _as_pairs(matrix: Tensor) -> Tensor:
    """The real matrix that does to pairs (re, im) what a complex one does to numbers: (m, n) to (2m, 2n)."""
    re, im = matrix.real, matrix.imag
    rows = torch.stack([torch.stack([re, -im], dim=-1), torch.stack([im, re], dim=-1)], dim=-3)
    return rows.flatten(-2).flatten(0, 1)


def _pairs(x: Tensor) -> Tensor:
    return torch.view_as_real(x.resolve_conj()).flatten(-2)


def _native(
    form: ops.Form, p: ops.Parameters, y: Tensor, x0: Tensor | None, s0: Tensor | None, keep: bool, segment: int
) -> tuple[Tensor, Tensor]:
    """Plain real batches through the native operator; complex ones as pairs of reals, whose modulus shrinks."""
    if not y.is_complex():
        return ops.network(form, p, y, x0, s0, keep, segment)
    step = [t if t.numel() == 1 else t.repeat_interleave(2) for t in p.step]
    # The scale |r|₂/√m of Onsager's threshold sees twice as many rows.
    theta = [t * 2**0.5 for t in p.theta] if form.state == "onsager" else p.theta
    real = p._replace(first=[*map(_as_pairs, p.first)], second=[*map(_as_pairs, p.second)], step=step, theta=theta)
    start, state = (None if t is None else _pairs(t) for t in (x0, s0))
    x, s = ops.network(form.of_pairs(), real, _pairs(y), start, state, keep, segment)
    return torch.view_as_complex(x.unflatten(-1, (-1, 2))), torch.view_as_complex(s.unflatten(-1, (-1, 2)))


def run(
    form: ops.Form,
    p: ops.Parameters,
    y: Tensor,
    x0: Tensor | None,
    s0: Tensor | None = None,
    *,
    keep: bool = False,
    segment: int = 0,
) -> tuple[Tensor, Tensor | None]:
    """The layers of arguments that fit, by the kernels or, where they do not serve, by the reference.

    Returns x, (K, ..., n) if ``keep``, else (..., n), and the second state.
    """
    m, n = ops.sizes(form, p)
    lead = y.shape[:-1]
    if not ops.serves(y, complex_too=True):
        with own_precision(y):
            start = y.new_zeros(*lead, n) if x0 is None else x0
            x, s = reference.network(
                y, *p, start, s0, layers=form.layers, coupled=form.coupled, state=form.state,
                shrinkage=form.shrinkage, group=form.group, passing=form.passing,
            )  # fmt: skip
        return x if keep else x[-1], s
    flat = (None if t is None else t.reshape(-1, t.shape[-1]) for t in (x0, s0))
    x, s = _native(form, p, y.reshape(-1, m), *flat, keep, segment)
    return x.reshape((form.layers, *lead, n) if keep else (*lead, n)), s.reshape(*lead, s.shape[-1])


def _require_values(name: str, values: Sequence[Tensor], layers: int, sizes: set[int], whole: bool, like: Tensor) -> None:
    """One value, or as many as ``sizes`` allows, once or in each layer; with ``whole``, also all layers in one tensor."""
    if len(values) not in (0, 1, layers):
        raise ValueError(f"{name} must have 1 entry or one a layer ({layers}), got {len(values)}")
    if whole and len(values) == 1:
        sizes = sizes | {layers}
    for t in values:
        _checks.real(name, _checks.tensor(name, t))
        _checks.same_device(name, t, like)
        if t.numel() not in sizes or t.numel() != values[0].numel():
            raise ValueError(
                f"{name} must hold {' or '.join(map(str, sorted(sizes)))} value(s), the same number in every layer, got "
                f"shape {_checks.shape_text(t.shape)}"
            )


def _matrices(name: str, given: Tensor | Sequence[Tensor], layers: int, shape: tuple[int, int] | None) -> list[Tensor]:
    found = [given] if isinstance(given, Tensor) else [*given]
    if len(found) not in (1, layers):
        raise ValueError(f"{name} must have 1 entry or one a layer ({layers}), got {len(found)}")
    shape = shape or (_checks.matrix(name, found[0]).shape[0], found[0].shape[1])
    for k, w in enumerate(found):
        if _checks.matrix(f"{name}[{k}]", w).shape != shape:
            raise ValueError(
                f"{name}[{k}] must be {_checks.shape_text(shape)}, got {_checks.shape_text(w.shape)}"
            )
    return found


def unrolled(
    y: Tensor,
    linear: Direct | Coupled,
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
    ISTA, step-LISTA                                ``Coupled(A, step=t)``
    LISTA-CP; TiLISTA and ALISTA                    ``Coupled(A, W)`` with W a layer's own; shared
    FISTA, LFISTA                                   ``state=Momentum(β)``
    LISTA                                           ``Direct(W1, W2)``
    ADMM, ADMM-Net                                  ``state=Splitting(η)``
    AMP, LAMP                                       ``Coupled(A, B)`` and ``state=Onsager()``
    =============================================== ==============================================

    Args:
        y: (..., m).
        linear: :class:`Direct` or :class:`Coupled`.
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
    _checks.tensor("y", y)
    coupled = isinstance(linear, Coupled)
    if isinstance(linear, Coupled):
        first = _matrices("A", linear.A, layers, None)
        m, n = first[0].shape
        second = [] if linear.W is None else _matrices("W", linear.W, layers, (m, n))
        step = _tensors(linear.step, y)
    else:
        first = _matrices("W1", linear.W1, layers, None)
        n, m = first[0].shape
        second, step = _matrices("W2", linear.W2, layers, (n, n)), []
    _checks.columns("y", y, m, first[0].shape, "A" if coupled else "W1")

    if prox.kind not in ops.SHRINKAGES:
        raise ValueError(f'kind must be one of {", ".join(ops.SHRINKAGES)}, got {prox.kind!r}')
    if (prox.theta is None) != (prox.kind == "none"):
        raise ValueError('theta is the threshold of every kind but "none", which has none')
    group = _checks.count("group", prox.group)
    if n % group:
        raise ValueError(f"group must divide the number of elements, but n = {n} and group = {group}")
    passing = [] if prox.passing is None else [prox.passing] * layers if isinstance(prox.passing, int) else [*prox.passing]
    if len(passing) not in (0, layers) or any(p < 0 for p in passing):
        raise ValueError(f"passing must be a number ≥ 0, or {layers} of them, one a layer")
    if prox.kind == "nonnegative" and (group > 1 or y.is_complex()):
        raise ValueError('kind "nonnegative" is defined for single real elements, not for groups or complex numbers')
    if prox.kind == "none" and (passing or group > 1):
        raise ValueError('kind "none" leaves everything as it is: it takes neither passing nor group')
    theta, gain = _tensors(prox.theta, y), _tensors(prox.gain, y)

    kinds = {Momentum: "momentum", Splitting: "splitting", Onsager: "onsager"}
    name = "none" if state is None else kinds[type(state)]
    blend = _tensors(state.beta if isinstance(state, Momentum) else state.eta if isinstance(state, Splitting) else None, y)
    if name == "onsager" and (not coupled or step):
        raise ValueError("Onsager's correction belongs to the coupled step without a step size: Coupled(A, W)")
    _require_values("step", step, layers, {1, m}, False, y)
    _require_values("theta", theta, layers, {1, n // group}, False, y)
    _require_values("gain", gain, layers, {1}, True, y)
    _require_values("beta or eta", blend, layers, {1}, True, y)

    form = ops.Form(layers, coupled, name, prox.kind, group, tuple(passing))
    if x0 is not None:
        _checks.columns("x0", _checks.tensor("x0", x0), n, first[0].shape, "A" if coupled else "W1")
        _checks.same_batch("x0", x0, "y", y)
    if s0 is not None:
        if name == "none":
            raise ValueError("s0 is where a second state starts, but there is none: give state")
        _checks.columns("s0", _checks.tensor("s0", s0), form.state_size(m, n), first[0].shape)
        _checks.same_batch("s0", s0, "y", y)
    segment = 0 if checkpoint is None else _checks.count("checkpoint", checkpoint)
    if segment and return_layers:
        raise ValueError("checkpoint keeps few layers and return_layers all of them: use one or the other")

    p = ops.Parameters(first, second, step, theta, gain, blend)
    p, y, x0, s0 = _one_dtype(p, y, x0, s0)
    x, s = run(form, p, y, x0, s0, keep=return_layers, segment=segment)
    if not return_state:
        return x
    if s is None or name == "none":
        raise ValueError("return_state returns the second state, but there is none: give state")
    return x, s


def _one_dtype(
    p: ops.Parameters, y: Tensor, x0: Tensor | None, s0: Tensor | None
) -> tuple[ops.Parameters, Tensor, Tensor | None, Tensor | None]:
    """The arguments, if they have one dtype and device; small parameters have the real dtype."""
    matrices = {f"matrix {i}": w for i, w in enumerate([*p.first, *p.second])}
    *found, y, x0, s0 = _checks.alike(**matrices, y=y, x0=x0, s0=s0)
    real = y.real.dtype if y.is_complex() else y.dtype
    small = ([t.to(real) for t in group] for group in p[2:])
    return ops.Parameters(found[: len(p.first)], found[len(p.first) :], *small), y, x0, s0
