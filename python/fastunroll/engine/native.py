"""All layers in one native call, for dense real and complex batches; by the reference where no kernel is."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import ops
from .._precision import own_precision


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


def _network(
    spec: ops.NetworkSpec, p: ops.Parameters, y: Tensor, x0: Tensor | None, s0: Tensor | None, keep: bool, segment: int
) -> tuple[Tensor, Tensor]:
    """Plain real batches through the native operator; complex ones as pairs of reals, whose modulus shrinks."""
    if not y.is_complex():
        return ops.network(spec, p, y, x0, s0, keep, segment)
    step = [t if t.numel() == 1 else t.repeat_interleave(2) for t in p.step]
    # The scale |r|₂/√m of AMP's threshold sees twice as many rows.
    theta = [t * 2**0.5 for t in p.theta] if spec.scheme == "amp" else p.theta
    real = p._replace(W1=[*map(_pairs_of, p.W1)], W2=[*map(_pairs_of, p.W2)], step=step, theta=theta)
    start, state = (None if t is None else _pairs(t) for t in (x0, s0))
    x, s = ops.network(spec.of_pairs(), real, _pairs(y), start, state, keep, segment)
    return torch.view_as_complex(x.unflatten(-1, (-1, 2))), torch.view_as_complex(s.unflatten(-1, (-1, 2)))


def run(
    spec: ops.NetworkSpec,
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
    m, n = spec.sizes(p)
    lead = y.shape[:-1]
    if not ops.is_supported(y, complex_too=True):
        with own_precision(y):
            x, s = spec.reference(p, y, x0, s0)
        return x if keep else x[-1], s
    x0, s0 = (None if t is None else t.reshape(-1, t.shape[-1]) for t in (x0, s0))
    x, s = _network(spec, p, y.reshape(-1, m), x0, s0, keep, segment)
    return x.reshape((spec.layers, *lead, n) if keep else (*lead, n)), s.reshape(*lead, s.shape[-1])
